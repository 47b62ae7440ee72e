"""`kis adapt`: a policy that is adapted while its simulated service drifts, one that is not, and runs without drift.

Files in results/<name>/: adapt.json (the configuration), adaptation.jsonl and the new profiles (what the adaptation
did), adapted.csv and plain.csv (every 5 s what clients saw), quiet.jsonl (one line a run without drift), and
adaptation.json, which is computed from those.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadgen.artifact import read_csv_rows, read_json_lines
from testbed.adaptation.adaptive import Adaptive, make_adaptive
from testbed.adaptation.journal import JOURNAL, read_journal
from testbed.adaptation.judge import Inline
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.rollout import outcome_of
from testbed.autoscaling.simulated import PolicyRun
from testbed.config_file import load_config
from testbed.measurement.misses import slo_violation_rate
from testbed.pipeline.adaptation_config import AdaptRunConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import advance, prepare
from testbed.simulation.cluster.services import SimulatedService, other_runs, read_services
from testbed.simulation.intervals import generators
from testbed.study import HERE, Workers, computed, remember
from workloads.files import finite, replacing, write_json

SETTLE_S = 60.0  # after a promotion: pods start, queues empty
Progress = Callable[[float], None]


class IntervalRow(NamedTuple):
    """What clients saw in the seconds up to time_s: requests decided and missed (measurement.misses); replicas then."""

    time_s: float
    decided: int
    missed: int
    replicas: int
    gpu_seconds: float


def adapt(config: AdaptRunConfig, folder: Path, progress: Progress, workers: Workers = HERE) -> dict[str, Any]:
    """Make the runs that are not there yet and write the folder; returns adaptation.json's content.

    ConfigError if the folder is of other settings. The files are the same for any workers.
    """
    services = read_services(config.run.cluster)
    remember(config, folder / "adapt.json", may_grow=("quiet_runs",))
    total = config.quiet_runs + 2
    for done, name in enumerate(("adapted", "plain")):
        if not (folder / f"{name}.csv").exists():
            _with_drift(config, services, folder, name)
        progress((done + 1) / total)
    quiet = folder / "quiet.jsonl"
    kept = [line for line in quiet.read_text().splitlines() if line.endswith("}")] if quiet.exists() else []
    missing = [*enumerate(generators(config.run.seed, config.quiet_runs))][len(kept) :]
    with quiet.open("w") as lines:
        lines.writelines(f"{line}\n" for line in kept)
        task = partial(_without_drift, config, services)
        for line in computed(task, missing, workers, lambda share: progress(1 - (1 - share) * len(missing) / total)):
            lines.write(f"{json.dumps(line)}\n")
            lines.flush()
    return summarise(folder)


def _with_drift(config: AdaptRunConfig, services: Sequence[SimulatedService], folder: Path, name: str) -> None:
    """One of the two runs: `adapted` with its journal and profiles, or `plain`."""
    if name == "adapted":
        (folder / JOURNAL).unlink(missing_ok=True)  # of a run that was interrupted
        run = _prepared(config, services, config.run.seed, folder)
    else:
        run = _prepared(config, services, config.run.seed, None)
        run.policies = {config.model: _adaptive(run, config).incumbent}
    _write_rows(folder / f"{name}.csv", _advanced(config.run, run, config.model))


def _without_drift(
    config: AdaptRunConfig, services: Sequence[SimulatedService], which: tuple[int, np.random.Generator]
) -> dict[str, Any]:
    """A line of quiet.jsonl. which: number of the run, and what draws it."""
    number, rng = which
    drawn, seed = other_runs(services, rng), int(rng.integers(2**31))
    quiet = config.run.model_copy(update={"faults": ()})
    run = _prepared(config, drawn, seed, None)
    advance(quiet, run, lambda: None, lambda share: None)
    steps = [[step.time_s, step.state, step.why] for step in _adaptive(run, config).journal.entries]
    return {"run": number, "seed": seed, "steps": steps}


def _prepared(
    config: AdaptRunConfig, services: Iterable[SimulatedService], seed: int, folder: Path | None
) -> PolicyRun:
    """The run with its policy made adaptive. folder: of its journal and profiles; None: they are not written."""
    served = config.run.cluster.models[0]
    incumbent = build_policy(config.run.policies[config.model], served.max_replicas, None)
    source = f"KISim, seed {seed}"
    made = make_adaptive(incumbent, config.run.cluster, config.adaptation, folder, Inline(), source)
    return prepare(config.run, tuple(services), seed, keep_rows=False, policies={config.model: made})


def _adaptive(run: PolicyRun, config: AdaptRunConfig) -> Adaptive:
    policy = run.policies[config.model]
    assert isinstance(policy, Adaptive)
    return policy


def _advanced(config: ClusterRunConfig, run: PolicyRun, model: str) -> list[IntervalRow]:
    rows, before = [], outcome_of(run, model)

    def note() -> None:
        nonlocal before
        now = outcome_of(run, model)
        passed = now.since(before)
        counts = (passed.totals.decided, passed.totals.missed, len(run.sim.wanted(model)))
        rows.append(IntervalRow(run.sim.now_s, *counts, passed.gpu_seconds))
        before = now

    advance(config, run, note, lambda share: None)
    return rows


def _write_rows(file: Path, rows: list[IntervalRow]) -> None:
    with replacing(file) as temporary, temporary.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerows([IntervalRow._fields, *rows])


def read_rows(file: Path) -> list[IntervalRow]:
    """As _write_rows left them; ArtifactError if they are others."""

    def row(fields: dict[str, str]) -> IntervalRow:
        decided, missed, replicas = (int(fields[name]) for name in ("decided", "missed", "replicas"))
        return IntervalRow(finite(fields["time_s"]), decided, missed, replicas, finite(fields["gpu_seconds"]))

    return read_csv_rows(file, row, "run `kis adapt` again")


def summarise(folder: Path) -> dict[str, Any]:
    """adaptation.json, from the folder's logs alone; it is written, and returned."""
    config = load_config(folder / "adapt.json", AdaptRunConfig)
    steps = read_journal(folder / JOURNAL)
    quiet = read_json_lines(folder / "quiet.jsonl", "run `kis adapt` again")
    adapted, plain = (read_rows(folder / f"{name}.csv") for name in ("adapted", "plain"))
    first = {
        state: next((entry for entry in steps if entry["state"] == state), None) for state in ("ALARMED", "PROMOTED")
    }
    factors = [entry["figures"]["factor"] for entry in steps if "factor" in entry["figures"]]
    alarm, promotion = first["ALARMED"], first["PROMOTED"]
    from_s = config.drift_s if promotion is None else promotion["time_s"] + SETTLE_S
    end_s = config.run.duration_s
    result = {
        "simulated": True,
        "logs": ["adapt.json", JOURNAL, "adapted.csv", "plain.csv", "quiet.jsonl"],
        "model": config.model,
        "target_s": config.run.cluster.models[0].latency_target_s,
        "drift": {"at_s": config.drift_s, "factor": config.run.faults[0].slow_down},
        "alarm_after_s": None if alarm is None else alarm["time_s"] - config.drift_s,
        "alarms_before_drift": sum(entry["time_s"] < config.drift_s for entry in steps),
        "factor": factors[0] if factors else None,
        "promoted_after_s": None if promotion is None else promotion["time_s"] - config.drift_s,
        "states": [[entry["time_s"], entry["state"], entry["why"]] for entry in steps],
        "slo_violation_rate": {
            "before": _share(adapted, SETTLE_S, config.drift_s),
            "from_drift_to_promotion": _share(adapted, config.drift_s, from_s - SETTLE_S) if promotion else None,
            "adapted": _share(adapted, from_s, end_s),
            "not_adapted": _share(plain, from_s, end_s),
            "from_s": from_s,
        },
        "replicas": {"adapted": _replicas(adapted, from_s, end_s), "not_adapted": _replicas(plain, from_s, end_s)},
        "quiet": {
            "runs": len(quiet),
            "seconds": end_s,
            "without_a_step": sum(not run["steps"] for run in quiet),
            "promoted": sum(any(step[1] == "PROMOTED" for step in run["steps"]) for run in quiet),
        },
    }
    write_json(folder / "adaptation.json", result)
    return result


def _share(rows: list[IntervalRow], start_s: float, end_s: float) -> float | None:
    """Of the requests decided between the two, that missed the target; None: none was."""
    those = [row for row in rows if start_s < row.time_s <= end_s]
    return slo_violation_rate(sum(row.missed for row in those), sum(row.decided for row in those))


def _replicas(rows: list[IntervalRow], start_s: float, end_s: float) -> float:
    return float(np.mean([row.replicas for row in rows if start_s < row.time_s <= end_s]))
