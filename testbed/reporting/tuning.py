"""What a search for an autoscaler (tune.json and tuned.json of `kis tune`) found, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.reporting.labels import counted, money, number

AS_GOOD = 0.99  # of the GPU-seconds of a simpler policy: one that holds more is not worth its changes
Outcome = Mapping[str, Any]  # of tuned.json: means over the runs that nothing was chosen on
OF_THE_CLUSTER = ("kind", "name", "flags", "behavior", "window_s", "metrics_delay_s", "max_replicas", "spec", "digest")
OF_THE_SERVICE = ("replica_capacity_rps", "latency_target_s", "provisioning_delay_s")


def sentence(result: Mapping[str, Any], target_ms: float) -> str:
    """What to use: a policy, a fixed number, or nothing of what was tried. result: of tuned.json."""
    chosen, outcomes = result["chosen"], result["outcomes"]
    best, fixed, objective = outcomes[chosen], result["fixed"], result.get("objective", "gpu_seconds")
    allowed, target = number(100 * result["allowed_slo_violation_rate"], 2, "%"), number(target_ms, 0, "ms")
    missed = f"{number(100 * best['slo_violation_rate'], 2, '%')} of the requests miss {target} ({allowed} allowed)"
    if not result["holds"]:
        instead = (
            "and neither does the largest fixed number"
            if fixed is None
            else f"but {_fixed_text(fixed)} hold that share with {_spent(fixed, result)} a run"
            if fixed["slo_violation_rate"] <= result["allowed_slo_violation_rate"]
            else "and no fixed number did either"
        )
        return f"Nothing that was tried holds the target: under the best of it, {chosen}, {missed}, {instead}."
    held = f"{missed} with {_spent(best, result)} a run"
    others = {name: outcome for name, outcome in outcomes.items() if name not in (chosen, "fixed")}
    holding = {
        name: outcome
        for name, outcome in others.items()
        if outcome["slo_violation_rate"] <= result["allowed_slo_violation_rate"]
    }
    next_best = min(holding, key=lambda name: holding[name][objective], default=None)
    takes = "" if next_best is None else _spent(holding[next_best], result).removesuffix(" GPU-seconds")
    beside = "" if next_best is None else f"; {next_best} takes {takes}"
    if chosen == "fixed":
        return f"A fixed number is as good on this traffic: with {_fixed_text(fixed)} {held}{beside}."
    than_fixed = "" if fixed is None else f", {_fewer(best, fixed, objective)} than {_fixed_text(fixed)}"
    text = policy_text(result["policies"][chosen])
    named = text if text.startswith(f"{chosen} (") else f"{chosen}, {text}"
    use = f"Stay with today's policy, {text}" if chosen == "given" else f"Use {named}"
    return f"{use}: {held}{than_fixed}{beside}."


def policy_text(policy: Mapping[str, Any]) -> str:
    """`an HPA of queue_time_ms at 5 a pod, 1 to 8 replicas`, or the kind with what was chosen of it."""
    if policy["kind"] == "fixed":
        return f"{counted(policy['replicas'], 'replica')} all the time"
    if policy["kind"] == "hpa" and "metric" in policy:
        replicas = f"{policy.get('min_replicas', 1)} to {policy.get('max_replicas', 'all')} replicas"
        return f"an HPA of {policy['metric']} at {policy['target']:.4g} a pod, {replicas}"
    own = {key: value for key, value in policy.items() if key not in (*OF_THE_CLUSTER, *OF_THE_SERVICE)}
    shown = [f"{key} {_value(value)}" for key, value in own.items() if value is not None]
    return f"{policy['kind']} ({', '.join(shown)})" if shown else str(policy["kind"])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return " ".join(_value(item) for item in value.values())
    return str(value)


def _fixed_text(fixed: Outcome) -> str:
    return f"{counted(fixed['replicas'], 'replica')} all the time"


def _spent(outcome: Outcome, result: Mapping[str, Any]) -> str:
    """`1 234 GPU-seconds`, or money if that is the objective."""
    if result.get("objective") == "cost":
        return money(outcome["cost"], result["currency"])
    return f"{number(outcome['gpu_seconds'], 0)} GPU-seconds"


def _fewer(best: Outcome, other: Outcome, objective: str) -> str:
    share = number(100 * (1 - best[objective] / other[objective]), 0, "%") if other[objective] else "0 %"
    return f"{share} {'less' if objective == 'cost' else 'fewer'}"
