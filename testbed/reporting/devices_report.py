"""The report of two devices: report.html, report.md, ecdf.png and ratios.json, from the folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from testbed.reporting import devices_figures, style
from testbed.reporting.devices import read_devices, summary_of
from testbed.reporting.experiment_report import rounded
from testbed.reporting.labels import number
from testbed.reporting.machine import machine_table
from testbed.reporting.page import environment, script_json
from workloads.files import write_json, write_text_atomically

LABELS = {"p95": "P95 latency", "mean": "mean latency", "throughput": "throughput"}
INTERVALS = {
    "pairs": "whole pairs of runs drawn again: what changes when everything is done again is in it",
    "blocks": "blocks of time drawn again within the runs: what another start or hour would change is not in it",
}


def write_devices_report(folder: Path) -> Path:
    """Write everything again; returns the path of report.html. ArtifactError or ReportError if it cannot be read."""
    found = read_devices(folder)
    told = [summary_of(study) for study in found.studies]
    facts = {"confidence": 0.90, "devices": found.config["devices"], "missing": found.missing, "studies": told}
    write_json(folder / "ratios.json", rounded(facts))
    devices_figures.save_distributions(found, folder / "ecdf.png")
    shown = {
        "c": found,
        "studies": told,
        "labels": LABELS,
        "intervals": INTERVALS,
        "claim": claim,
        "ratio": ratio_text,
        "machine": machine_table(run.manifest for study in found.studies for run in study.runs),
        "invalid": [reason for one in told for reason in one["reasons"]],
    }
    write_text_atomically(folder / "report.md", environment(html=False).get_template("devices.md.j2").render(**shown))
    drawn = {f"ecdf-{k}": devices_figures.distributions(study) for k, study in enumerate(found.studies, start=1)}
    drawn |= {f"time-{k}": devices_figures.over_time(study) for k, study in enumerate(found.studies, start=1)}
    figures = {name: script_json(figure) for name, figure in drawn.items()}
    page = folder / "report.html"
    write_text_atomically(
        page,
        environment(html=True)
        .get_template("devices.html.j2")
        .render(**shown, figures=figures, plotly_js=Markup(get_plotlyjs()), style=style),
    )
    return page


def is_devices(folder: Path) -> bool:
    """Did `kis devices` write this folder?"""
    return (folder / "devices.json").exists()


def ratio_text(one: dict[str, float | None] | None) -> str:
    """`12.3 (11.9 to 12.8)`; what is not known is said."""
    if one is None or one["value"] is None:
        return number(None)
    value = one["value"]
    digits = 2 if value < 10 else 1
    if one["low"] is None:
        return f"{number(value, digits)} (no interval: the runs are too short)"
    return f"{number(value, digits)} ({number(one['low'], digits)} to {number(one['high'], digits)})"


def claim(study: dict[str, Any]) -> str:
    """What a study shows, in one sentence."""
    first, second = (_named(label, device) for label, device in study["devices"].items())
    where = f"{study['model']} at {number(study['offered_rps'], 2)} requests/s"
    if not study["valid"]:
        return f"{where}: a run is INVALID, so {first} and {second} are not compared."
    found = study["ratios"]
    return (
        f"{where}: P95 latency on {first} is {ratio_text(found['p95'])} times that on {second}, mean latency "
        f"{ratio_text(found['mean'])} times, throughput {ratio_text(found['throughput'])} times."
    )


def _named(label: str, device: dict[str, str]) -> str:
    emulated = ", EMULATED" if device["kind"] == "emulated" else ""
    return f"{label} ({device['name']}{emulated})"
