"""The report of a simulated cluster run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.figures import cluster as figures
from testbed.reporting.labels import milliseconds, money, number
from testbed.reporting.report import Content, Report

SHOWN_DECISIONS = 200  # of each model; the rest is in decisions.json


@dataclass(frozen=True)
class ModelView:
    """One model of the run."""

    stem: str
    name: str
    target_ms: float
    result: dict[str, Any]  # its part of summary.json
    post_mortem: dict[str, Any]  # where it missed, and why; without episodes in folders of before there were some
    decisions: list[dict[str, Any]]
    profiles: dict[str, str]  # kind of device -> profile


def gather(folder: Path) -> Content:
    """Of its JSON files and its metrics."""
    config, summary, decisions = (
        read_json(folder / f"{name}.json", "run `kis simulate --cluster` again")
        for name in ("cluster", "summary", "decisions")
    )
    metrics = MetricLog.read(folder / "metrics.parquet")
    models = [
        ModelView(
            stem=f"model-{number}",
            name=served["name"],
            target_ms=1e3 * served["latency_target_s"],
            result=summary["models"][served["name"]],
            post_mortem=summary["models"][served["name"]].get("post_mortem", {"episodes": []}),
            decisions=[decision for decision in decisions if decision["model"] == served["name"]],
            profiles=served["profiles"],
        )
        for number, served in enumerate(config["cluster"]["models"], start=1)
    ]
    drawn, pictures = {"devices": partial(figures.devices, metrics)}, {}
    for model in models:
        heading = f"{model.name} under {model.result['policy']} (simulated)"
        episodes = [(one["start_s"], one["end_s"]) for one in model.post_mortem["episodes"]]
        over_time = partial(figures.over_time, metrics, model.name, model.target_ms, heading, episodes)
        drawn[f"{model.stem}-time"] = pictures[f"{model.name}.png"] = over_time
        drawn[f"{model.stem}-pods"] = partial(figures.pods, metrics, model.name, float(summary["duration_s"]))
    nodes = summary.get("nodes")
    if nodes is not None and config["cluster"].get("provisioner"):
        drawn["nodes"] = partial(figures.nodes, metrics)
    values = {
        "nodes": nodes,
        "nodes_text": " ".join(nodes_text(nodes)),
        "title": folder.resolve().name,
        "summary": summary,
        "config": config,
        "models": models,
        "coverage": _coverage(models),
        "shown": SHOWN_DECISIONS,
    }
    return Content(values, drawn, pictures)


def _coverage(models: list[ModelView]) -> float | None:
    """With which the next run lies in the ranges that are shown; None: there are none."""
    ranges = [interval for model in models for interval in (model.result.get("intervals") or {}).values() if interval]
    return ranges[0]["coverage"] if ranges else None


def found(folder: Path) -> str:
    """What each model's requests had, by summary.json."""
    summary = read_json(folder / "summary.json", f"kis report {folder}")
    found = [_found(name, result) for name, result in summary["models"].items()]
    return " ".join([*found, *nodes_text(summary.get("nodes"))])


def nodes_text(nodes: Mapping[str, Any] | None) -> list[str]:
    """Sentences on money, and on nodes that pods waited for. nodes: of summary.json; None: nothing to be said."""
    if nodes is None:
        return []
    told = []
    if nodes["cost"] is not None:
        hours = sum(pool["node_hours"] for pool in nodes["pools"])
        told.append(f"{money(nodes['cost'], nodes['currency'])} for {number(hours, 2)} node-hours.")
    if nodes["pending_for_node_s"]:
        told.append(f"For {number(nodes['pending_for_node_s'], 0)} s pods waited for a node.")
    if nodes["pending_at_max_s"]:
        told.append(
            f"For {number(nodes['pending_at_max_s'], 0)} s pods were pending with every node group that fits at its "
            "max_nodes: no node was made for them."
        )
    return told


def _found(name: str, result: dict[str, Any]) -> str:
    missed = result["slo_violation_rate"]
    share = (
        "no request was decided" if missed is None else f"{number(100 * missed, 2, '%')} of requests miss the target"
    )
    p95 = "" if result["p95_ms"] is None else f", P95 {milliseconds(result['p95_ms'])} ms"
    return f"{name} under {result['policy']}: {share}{p95}, {number(result['gpu_seconds'], 0)} GPU-seconds."


REPORT = Report(
    "cluster",
    "cluster.json",
    "kis simulate --cluster",
    gather,
    question="How does one autoscaler follow one traffic in a simulated cluster?",
    found=found,
)
