"""What a search for an HPA (tune.json, tuned.json, trials.csv of `kis tune-hpa`) found, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.reporting.labels import counted, number

AS_GOOD = 0.99  # of the GPU-seconds of fixed replicas: an HPA that holds more is not worth its changes
Outcome = Mapping[str, Any]  # of tuned.json: means over the runs that the search has not seen


def sentence(result: Mapping[str, Any], target_ms: float) -> str:
    """What to use: the HPA, a fixed number, or nothing of what was tried. result: of tuned.json."""
    best, fixed, other = result["outcomes"][result["chosen"]], result["fixed"], _other(result)
    allowed, target = number(100 * result["allowed_slo_violation_rate"], 2, "%"), number(target_ms, 0, "ms")
    missed = f"{number(100 * best['slo_violation_rate'], 2, '%')} of the requests miss {target} ({allowed} allowed)"
    if not result["holds"]:
        instead = (
            "and neither does the largest fixed number"
            if fixed is None
            else f"but {_fixed_text(fixed)} hold that share with {number(fixed['gpu_seconds'], 0)} GPU-seconds a run"
        )
        return f"No HPA that was tried holds the target: under the best of them {missed}, {instead}."
    held = f"{missed} with {number(best['gpu_seconds'], 0)} GPU-seconds a run"
    if fixed is not None and best["gpu_seconds"] >= AS_GOOD * fixed["gpu_seconds"]:
        return (
            f"A fixed number is as good: {_fixed_text(fixed)} hold the target with {number(fixed['gpu_seconds'], 0)} "
            f"GPU-seconds a run; under the best HPA {held}."
        )
    than_fixed = "" if fixed is None else f", {_fewer(best, fixed)} than {_fixed_text(fixed)}"
    name, compared = ("tuned", "untuned") if result["chosen"] == "tuned" else ("untuned", "found")
    return (
        f"Use the {name} HPA, {policy_text(result['policies'][result['chosen']])}: {held}{than_fixed}; the {compared} "
        f"one takes {number(other['gpu_seconds'], 0)} and misses {number(100 * other['slo_violation_rate'], 2, '%')}."
    )


def policy_text(policy: Mapping[str, Any]) -> str:
    """`queue_time_ms at 5 a pod, 1 to 8 replicas`."""
    most = policy.get("max_replicas", "all")
    return f"{policy['metric']} at {policy['target']:.4g} a pod, {policy.get('min_replicas', 1)} to {most} replicas"


def _other(result: Mapping[str, Any]) -> Outcome:
    name = "untuned" if result["chosen"] == "tuned" else "tuned"
    outcome: Outcome = result["outcomes"][name]
    return outcome


def _fixed_text(fixed: Outcome) -> str:
    return f"{counted(fixed['replicas'], 'replica')} all the time"


def _fewer(best: Outcome, other: Outcome) -> str:
    return f"{number(100 * (1 - best['gpu_seconds'] / other['gpu_seconds']), 0, '%')} fewer"
