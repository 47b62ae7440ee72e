"""Services that became slower during an experiment's runs: what clients saw, and what adaptations did."""

from __future__ import annotations

from typing import Any

from testbed.reporting.experiment import Experiment, ExperimentRun


def drift_of(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a real run, if anything drifted or was adapted. Each value is [real, simulated]; None: there is none.

    slo_violation_rate of the requests scheduled `before` the service changed (all of them, if it did not), `after`
    that, and in the `last` half of what came after, when an adaptation has done what it could. alarm_after_s,
    promoted_after_s: from the change. false_alarms: before it (all, if it did not change). factor: as measured, with
    its interval. steps: all that were taken.
    """
    rows = []
    for pair in experiment.pairs:
        for real, sim in zip(pair.real, pair.sim, strict=True):
            sides = (real, sim)
            fault = real.faults[0] if real.faults else None
            from_s = None if fault is None else float(fault["struck_s"])
            verdict = real.run.manifest.verdict
            rows.append(
                {
                    "traffic": pair.traffic,
                    "policy": pair.policy,
                    "adapted": pair.policy in experiment.config.get("adapted", {}),
                    "run_id": real.run.manifest.run_id,
                    "valid": None if verdict is None else verdict.valid,
                    "drift_s": from_s,
                    "slow_down": None if fault is None else fault["slow_down"],
                    "slo_violation_rate": {
                        phase: [_missed(side, experiment.target_s, from_s, phase) for side in sides]
                        for phase in ("before", "after", "last")
                    },
                    "false_alarms": [_false_alarms(side, from_s) for side in sides],
                    "alarm_after_s": [_first(side, "ALARMED", from_s) for side in sides],
                    "promoted_after_s": [_first(side, "PROMOTED", from_s) for side in sides],
                    "factor": [_factor(side, from_s) for side in sides],
                    "steps": [
                        [[step["time_s"], step["state"], step["why"]] for step in side.adaptation] for side in sides
                    ],
                }
            )
    return rows if any(row["adapted"] or row["slow_down"] for row in rows) else []


def _missed(side: ExperimentRun, target_s: float, from_s: float | None, phase: str) -> float | None:
    duration_s = side.run.manifest.duration_s
    change_s = duration_s if from_s is None else from_s
    start_s, end_s = {
        "before": (0.0, change_s),
        "after": (change_s, duration_s),
        "last": ((change_s + duration_s) / 2, duration_s),
    }[phase]
    scheduled_s = side.run.requests.seconds("scheduled_ns")
    in_phase = (start_s <= scheduled_s) & (scheduled_s < end_s)
    return float(side.run.requests.missed(target_s)[in_phase].mean()) if in_phase.any() else None


def _later(side: ExperimentRun, from_s: float | None) -> list[dict[str, Any]]:
    """Steps since the change; none if there was none."""
    return [] if from_s is None else [step for step in side.adaptation if step["time_s"] >= from_s]


def _false_alarms(side: ExperimentRun, from_s: float | None) -> int:
    return sum(step["state"] == "ALARMED" and (from_s is None or step["time_s"] < from_s) for step in side.adaptation)


def _first(side: ExperimentRun, state: str, from_s: float | None) -> float | None:
    times = [step["time_s"] for step in _later(side, from_s) if step["state"] == state]
    return times[0] - (from_s or 0.0) if times else None


def _factor(side: ExperimentRun, from_s: float | None) -> dict[str, float] | None:
    factors = [step["figures"]["factor"] for step in _later(side, from_s) if "factor" in step["figures"]]
    return {name: factors[0][name] for name in ("value", "low", "high")} if factors else None
