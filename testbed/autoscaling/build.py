"""A policy from its configuration: `kind` names it, the other keys are its parameters."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from testbed.autoscaling.learned import Learned
from testbed.autoscaling.metrics import milli
from testbed.autoscaling.policies import Fixed, Hpa, Keda, Knative, Oracle, Predictive, RayServe
from testbed.autoscaling.policy import Policy
from testbed.errors import ConfigError

KINDS: dict[str, Any] = {
    "fixed": Fixed,
    "hpa": Hpa,
    "knative": Knative,
    "keda": Keda,
    "ray_serve": RayServe,
    "predictive": Predictive,
    "learned": Learned,
    "oracle": Oracle,
}


def build_policy(settings: dict[str, Any], max_replicas: int, rate_rps: Callable[[float], float] | None) -> Policy:
    """ConfigError names what is wrong. max_replicas: where the settings name none.

    `hpa` takes a whole `spec`, or `metric` and `target` of a Pods metric, or `tuned`, a file of `kis tune-hpa`.
    rate_rps: the true rate, for the oracle.
    """
    given = resolved(settings)
    kind = given.pop("kind", None)
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(KINDS)}"
        raise ConfigError(f"policy: kind is {kind!r}: {hint}")
    if kind == "hpa" and "metric" in given:
        given = _on_one_metric({"max_replicas": max_replicas, **given})
    if kind == "oracle":
        if rate_rps is None:
            raise ConfigError("policy oracle: it must know the rate, so there must be open-loop traffic")
        given["rate_rps"] = rate_rps
    if kind not in ("fixed", "hpa"):
        given.setdefault("max_replicas", max_replicas)
    known = list(KINDS[kind].__dataclass_fields__)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"policy {kind}: unknown key '{key}': {hint}")
    try:
        policy: Policy = TypeAdapter(KINDS[kind]).validate_python(given)
    except ValidationError as error:
        raise _told(kind, error) from None
    return policy


def resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings themselves, those in the tuned.json that they name, if they do; ConfigError if it is none."""
    if "tuned" not in settings:
        return dict(settings)
    if set(settings) != {"kind", "tuned"} or settings["kind"] != "hpa":
        raise ConfigError("`tuned` goes with `kind: hpa` and nothing else")
    file = Path(str(settings["tuned"]))
    try:
        told = json.loads(file.read_text())
        found = told["policies"][told.get("chosen", "tuned")]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: give a tuned.json of kis tune-hpa") from None
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict) or found.get("kind") != "hpa":
        raise ConfigError(f"{file} is not what kis tune-hpa writes: give its tuned.json")
    return found


def start_replicas(settings: dict[str, Any], otherwise: int) -> int:
    """What a run under that policy begins with: a fixed number is there from the start."""
    fixed = settings.get("kind") == "fixed" and isinstance(settings.get("replicas"), int)
    return int(settings["replicas"]) if fixed else otherwise


def _on_one_metric(given: dict[str, Any]) -> dict[str, Any]:
    """The same settings with a whole spec: one Pods metric, its mean held at the target."""
    metric, target = given.pop("metric"), given.pop("target", None)
    if not isinstance(target, (int, float)) or target <= 0:
        raise ConfigError(f"policy hpa: metric goes with a target above 0, not {target!r}: give both, or a whole spec")
    given.setdefault("name", f"hpa-{metric}-{target:g}")
    spec: dict[str, Any] = {
        name: given.pop(name) for name in ("min_replicas", "max_replicas", "behavior") if name in given
    }
    spec["metrics"] = [{"type": "Pods", "name": metric, "target_average_value_m": milli(target)}]
    return {**given, "spec": spec}


def _told(kind: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    return ConfigError(f"policy {kind}: {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r})")
