"""The report of a simulated cluster run: report.html, report.md and a picture of each model, from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from loadgen.artifact import read_json
from testbed.measurement.metric_log import MetricLog
from testbed.reporting import cluster_figures, style
from testbed.reporting.cluster_picture import save_cluster
from testbed.reporting.page import environment, script_json
from workloads.files import write_text_atomically

SHOWN_DECISIONS = 200  # of each model; the rest is in decisions.json


@dataclass(frozen=True)
class ModelView:
    """One model of the run."""

    stem: str
    name: str
    target_ms: float
    result: dict[str, Any]  # its part of summary.json
    decisions: list[dict[str, Any]]
    profiles: dict[str, str]  # kind of device -> profile


@dataclass(frozen=True)
class ClusterContext:
    """Everything that the report says."""

    title: str
    summary: dict[str, Any]
    config: dict[str, Any]
    models: tuple[ModelView, ...]
    metrics: MetricLog

    @property
    def coverage(self) -> float | None:
        """With which the next run lies in the ranges that are shown; None: there are none."""
        ranges = [one for model in self.models for one in (model.result.get("intervals") or {}).values() if one]
        return ranges[0]["coverage"] if ranges else None


def write_cluster_report(folder: Path) -> Path:
    """Write the report again; returns the path of report.html. ArtifactError if a file is missing or not readable."""
    context = _gather(folder)
    for model in context.models:
        title = f"{model.name} under {model.result['policy']} (simulated)"
        save_cluster(context.metrics, model.name, model.target_ms / 1e3, title, folder / f"{model.name}.png")
    write_text_atomically(
        folder / "report.md",
        environment(html=False).get_template("cluster.md.j2").render(c=context, shown=SHOWN_DECISIONS),
    )
    page = folder / "report.html"
    write_text_atomically(
        page,
        environment(html=True)
        .get_template("cluster.html.j2")
        .render(
            c=context,
            figures=_figures(context),
            plotly_js=Markup(get_plotlyjs()),
            style=style,
            shown=SHOWN_DECISIONS,
        ),
    )
    return page


def is_cluster_run(folder: Path) -> bool:
    """Did `kis simulate --cluster` write this folder?"""
    return (folder / "cluster.json").exists()


def _gather(folder: Path) -> ClusterContext:
    config, summary, decisions = (
        read_json(folder / f"{name}.json", "run `kis simulate --cluster` again")
        for name in ("cluster", "summary", "decisions")
    )
    models = []
    for number, served in enumerate(config["cluster"]["models"], start=1):
        name = served["name"]
        mine = [one for one in decisions if one["model"] == name]
        models.append(
            ModelView(
                stem=f"model-{number}",
                name=name,
                target_ms=1e3 * served["latency_target_s"],
                result=summary["models"][name],
                decisions=mine,
                profiles=served["profiles"],
            )
        )
    metrics = MetricLog.read(folder / "metrics.parquet")
    return ClusterContext(folder.resolve().name, summary, config, tuple(models), metrics)


def _figures(context: ClusterContext) -> dict[str, Markup]:
    drawn: dict[str, go.Figure] = {"devices": cluster_figures.devices(context.metrics)}
    for model in context.models:
        drawn[f"{model.stem}-time"] = cluster_figures.over_time(context.metrics, model.name, model.target_ms)
        drawn[f"{model.stem}-pods"] = cluster_figures.pods(
            context.metrics, model.name, float(context.summary["duration_s"])
        )
    return {name: script_json(figure) for name, figure in drawn.items()}
