"""An experiment's report.html, report.md, timelines.png, pairs.json, transfer.json and drift.json, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from testbed.reporting import experiment_figures, style
from testbed.reporting.drift import drift_of
from testbed.reporting.experiment import COSTS, read_experiment, rows_of, summary_of
from testbed.reporting.machine import machine_table
from testbed.reporting.page import environment, script_json
from testbed.reporting.transfer import transfer_of
from workloads.files import write_json, write_text_atomically

LABELS = {"p95_ms": "P95, ms", "missed_share": "share over target", "replica_seconds": "replica-seconds"}


def write_experiment_report(folder: Path) -> Path:
    """Write everything again; returns the path of report.html. ArtifactError or ReportError if it cannot be read."""
    found = read_experiment(folder)
    rows = rows_of(found)
    summary = summary_of(rows)
    write_json(folder / "pairs.json", {"rows": rounded(rows), "summary": rounded(summary)})
    fixed = {name for name, policy in found.config["policies"].items() if policy["kind"] == "fixed"}
    transfer = transfer_of(rows, found.name, fixed)
    write_json(folder / "transfer.json", rounded(transfer))
    drift = drift_of(found)
    if drift:
        write_json(folder / "drift.json", {"experiment": found.name, "rows": rounded(drift)})
    else:
        (folder / "drift.json").unlink(missing_ok=True)
    experiment_figures.save_timelines(found, folder / "timelines.png")
    shown = {"c": found, "rows": rows, "summary": summary, "labels": LABELS, "drift": drift, "transfer": transfer}
    shown["machine"] = machine_table(side.run.manifest for pair in found.pairs for side in pair.real)
    shown["false_alarms"] = sum(sum(row["false_alarms"]) for row in drift)
    text = environment(html=False).get_template("experiment.md.j2").render(**shown)
    write_text_atomically(folder / "report.md", text)
    drawn: dict[str, go.Figure] = {
        f"pair-{k}": experiment_figures.over_time(pair, found.target_s) for k, pair in enumerate(found.pairs, start=1)
    }
    drawn |= {f"cost-{name}": experiment_figures.costs(rows, name, LABELS[name]) for name in COSTS}
    figures = {name: script_json(figure) for name, figure in drawn.items()}
    page = folder / "report.html"
    write_text_atomically(
        page,
        environment(html=True)
        .get_template("experiment.html.j2")
        .render(**shown, figures=figures, plotly_js=Markup(get_plotlyjs()), style=style),
    )
    return page


def is_experiment(folder: Path) -> bool:
    """Did `kis experiment` write this folder?"""
    return (folder / "experiment.json").exists()


def rounded(value: Any) -> Any:
    """As pairs.json has it: six decimals."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value
