"""The report of an experiment; pairs.json, transfer.json, differences.json and drift.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.reporting.differences import differences_of
from testbed.reporting.drift import drift_of
from testbed.reporting.experiment import COSTS, Experiment, read_experiment, rows_of, summary_of
from testbed.reporting.figures import experiment as figures
from testbed.reporting.figures.differences import differences as differences_drawn
from testbed.reporting.labels import counted, number
from testbed.reporting.machine import machine_table
from testbed.reporting.missed import why_text
from testbed.reporting.report import Content, Report, rounded
from testbed.reporting.transfer import transfer_of

LABELS = {"p95_ms": "P95, ms", "slo_violation_rate": "share over target", "replica_seconds": "replica-seconds"}


def gather(folder: Path) -> Content:
    """Of its run folders."""
    results = read_experiment(folder)
    rows = rows_of(results)
    summary = summary_of(rows)
    fixed = {name for name, policy in results.config["policies"].items() if policy["kind"] == "fixed"}
    transfer = transfer_of(rows, results.name, fixed)
    drift, differences = drift_of(results), differences_of(rows)
    place = {name: k for k, name in enumerate(results.config["policies"])}
    once = [one for one in differences if place[one["first"]] < place[one["second"]]]
    values = {
        "c": results,
        "rows": rows,
        "summary": summary,
        "labels": LABELS,
        "drift": drift,
        "transfer": transfer,
        "differences": once,
        "causes": causes_of(results),
        "machine": machine_table(side.run.manifest for pair in results.pairs for side in pair.real),
        "false_alarms": sum(sum(row["false_alarms"]) for row in drift),
    }
    pairs = {
        f"pair-{k}": partial(figures.over_time, sides, results.target_s)
        for k, sides in enumerate(results.pairs, start=1)
    }
    costs = partial(figures.costs, rows, {name: LABELS[name] for name in COSTS})
    files = {
        "pairs.json": {"rows": rounded(rows), "summary": rounded(summary)},
        "transfer.json": rounded(transfer),
        "differences.json": {"experiment": results.name, "rows": rounded(differences)} if differences else None,
        "drift.json": {"experiment": results.name, "rows": rounded(drift)} if drift else None,
    }
    drawn = {"costs": costs, **({"differences": partial(differences_drawn, once)} if once else {})}
    pictures = {"timelines.png": partial(figures.timelines, results)}
    pictures |= {"differences.png": drawn["differences"]} if once else {}
    return Content(values, drawn | pairs, pictures, files)


def causes_of(results: Experiment) -> list[dict[str, Any]]:
    """Of each pair of runs that missed at all: the shares over the target, and why, real and simulated."""
    rows = []
    for pair in results.pairs:
        sides = {"real": pair.real, "sim": pair.sim}
        row: dict[str, Any] = {
            name: sum(run.cost.slo_violation_rate for run in runs) / len(runs) for name, runs in sides.items()
        }
        if any(row.values()):
            why = {f"why_{name}": why_text(run.missed for run in runs) for name, runs in sides.items()}
            rows.append({"traffic": pair.traffic, "policy": pair.policy, **row, **why})
    return rows


def found(folder: Path) -> str:
    """How many pairs agree, by pairs.json."""
    pairs = read_json(folder / "pairs.json", f"kis report {folder}")["summary"]["pairs"]
    agree = (
        f"{LABELS[cost].partition(',')[0]} within {number(told['bar_pct'], 0, '%')} in {told['within']} of "
        f"{counted(told['pairs'], 'pair')}"
        for cost, told in pairs.items()
    )
    return f"Simulated against real: {', '.join(agree)}."


REPORT = Report(
    "experiment",
    "experiment.json",
    "kis experiment",
    gather,
    question="Do autoscalers in the simulator do what they do on real pods?",
    found=found,
)
