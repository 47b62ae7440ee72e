"""The report of an evaluation, and evaluation.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.measurement.scaling_log import ScalingLog
from testbed.reporting.evaluation import log_name, recomputed
from testbed.reporting.figures import evaluation as figures
from testbed.reporting.figures.evaluation import timeline_of
from testbed.reporting.report import Content, Report
from testbed.reporting.verdict import verdict

Provenance = dict[str, dict[str, dict[str, Any]]]  # traffic -> policy -> of its log


def gather(folder: Path) -> Content:
    """Of its logs."""
    evaluation = recomputed(folder)
    config = read_json(folder / "evaluate.json", "give a folder of `kis evaluate`")
    logs = {
        traffic: {policy: ScalingLog.read(folder / log_name(traffic, policy)) for policy in config["policies"]}
        for traffic in config["traffic"]
    }
    provenance = {
        traffic: {policy: log.provenance for policy, log in by_policy.items()} for traffic, by_policy in logs.items()
    }
    far = evaluation.get("distance_to_oracle_pct")
    oracle = None if far is None else next(policy for policy in evaluation["policies"] if policy not in far)
    shown = [
        policy
        for policy in dict.fromkeys((evaluation["challenger"], evaluation["baseline"], oracle))
        if policy is not None
    ]
    every = {
        traffic: {name: timeline_of(name, log) for name, log in policies.items()} for traffic, policies in logs.items()
    }
    lines = {traffic: [policies[policy] for policy in shown] for traffic, policies in every.items()}
    values = {
        "name": folder.resolve().name,
        "evaluation": evaluation,
        "config": config,
        "oracle": oracle,
        "currency": evaluation.get("currency"),
        "of_money": evaluation.get("objective") == "cost",
        "verdict": verdict(evaluation),
        "shown": shown,
        "energy_known": any(summary["energy_j"] is not None for summary in evaluation["policies"].values()),
        "settings": {policy: _settings(provenance, policy) for policy in evaluation["policies"]},
        "sha256": _sha256(provenance),
    }
    pareto = partial(figures.pareto, evaluation)
    drawn = {
        f"traffic-{k}": partial(figures.timelines, {name: timeline})
        for k, (name, timeline) in enumerate(lines.items(), start=1)
    }
    drawn |= {
        f"policies-{k}": partial(figures.policies, list(policies.values()))
        for k, policies in enumerate(every.values(), start=1)
        if len(policies) > len(shown)
    }
    pictures = {"pareto.png": pareto, "timelines.png": partial(figures.timelines, lines)}
    return Content(values, {"pareto": pareto} | drawn, pictures, {"evaluation.json": evaluation})


def _settings(provenance: Provenance, policy: str) -> dict[str, dict[str, Any]]:
    """A policy's, by traffic, or once under `every traffic` if they are the same."""
    each = {traffic: policies[policy]["policy"] for traffic, policies in provenance.items()}
    first = next(iter(each.values()))
    return {"every traffic": first} if all(settings == first for settings in each.values()) else each


def _sha256(provenance: Provenance) -> dict[str, str]:
    """Of every file that a run was made with."""
    every = [policy["sha256"] for policies in provenance.values() for policy in policies.values()]
    return {file: value for written in every for file, value in written.items()}


def found(folder: Path) -> str:
    """The verdict, by evaluation.json."""
    return verdict(read_json(folder / "evaluation.json", f"kis report {folder}"))


REPORT = Report(
    "evaluation",
    "evaluate.json",
    "kis evaluate",
    gather,
    question="Which autoscaler misses less, and which holds less, on the same simulated traffic?",
    found=found,
)
