"""The report of two devices, and ratios.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.reporting.devices import read_devices, summary_of
from testbed.reporting.figures import devices as figures
from testbed.reporting.labels import number
from testbed.reporting.machine import machine_table
from testbed.reporting.report import Content, Report, rounded

LABELS = {"p95": "P95 latency", "mean": "mean latency", "throughput": "throughput"}
INTERVALS = {
    "pairs": "whole pairs of runs drawn again: what changes when everything is done again is in it",
    "blocks": "blocks of time drawn again within the runs: what another start or hour would change is not in it",
}


def gather(folder: Path) -> Content:
    """Of its run folders."""
    comparison = read_devices(folder)
    summaries = [summary_of(study) for study in comparison.studies]
    facts = {
        "confidence": 0.90,
        "devices": comparison.config["devices"],
        "missing": comparison.missing,
        "studies": summaries,
    }
    values = {
        "c": comparison,
        "studies": summaries,
        "labels": LABELS,
        "intervals": INTERVALS,
        "claim": claim,
        "ratio": ratio_text,
        "machine": machine_table(run.manifest for study in comparison.studies for run in study.runs),
        "invalid": [reason for summary in summaries for reason in summary["reasons"]],
    }
    drawn = {}
    for k, study in enumerate(comparison.studies, start=1):
        drawn[f"ecdf-{k}"] = partial(figures.distributions, (study,))
        drawn[f"time-{k}"] = partial(figures.over_time, study)
    pictures = {"ecdf.png": partial(figures.distributions, comparison.studies)}
    return Content(values, drawn, pictures, {"ratios.json": rounded(facts)})


def ratio_text(ratio: dict[str, float | None] | None) -> str:
    """`12.3 (11.9 to 12.8)`; what is not known is said."""
    if ratio is None or ratio["value"] is None:
        return number(None)
    value = ratio["value"]
    digits = 2 if value < 10 else 1
    if ratio["low"] is None:
        return f"{number(value, digits)} (no interval: the runs are too short)"
    return f"{number(value, digits)} ({number(ratio['low'], digits)} to {number(ratio['high'], digits)})"


def claim(study: dict[str, Any]) -> str:
    """What a study shows, in one sentence."""
    first, second = (_named(label, device) for label, device in study["devices"].items())
    where = f"{study['model']} at {number(study['offered_rps'], 2)} requests/s"
    if not study["valid"]:
        return f"{where}: a run is INVALID, so {first} and {second} are not compared."
    comparison = study["ratios"]
    return (
        f"{where}: P95 latency on {first} is {ratio_text(comparison['p95'])} times that on {second}, mean latency "
        f"{ratio_text(comparison['mean'])} times, throughput {ratio_text(comparison['throughput'])} times."
    )


def _named(label: str, device: dict[str, str]) -> str:
    emulated = ", EMULATED" if device["kind"] == "emulated" else ""
    return f"{label} ({device['name']}{emulated})"


def found(folder: Path) -> str:
    """The claim of each model, by ratios.json."""
    return " ".join(map(claim, read_json(folder / "ratios.json", f"kis report {folder}")["studies"]))


REPORT = Report(
    "devices",
    "devices.json",
    "kis devices",
    gather,
    question="How many times slower is one device than the other, on the same model and traffic?",
    found=found,
)
