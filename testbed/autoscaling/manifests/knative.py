"""The autoscaling annotations of a Knative Service as settings of the policy `knative`.

Names and defaults: knative.dev/serving pkg/apis/autoscaling/register.go; the target: pkg/reconciler/autoscaling/
resources/target.go; bounds: pkg/apis/autoscaling/annotation_validation.go. What the policy cannot do is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

from testbed.autoscaling.manifests.api import seconds_of
from testbed.autoscaling.manifests.names import Names
from testbed.errors import ConfigError

PREFIX = "autoscaling.knative.dev/"
PLACE = "spec.template.metadata.annotations"
HOUR_S = 3600.0  # the longest of its durations
DEFAULT_CONCURRENCY = 100.0  # of neither a target nor a containerConcurrency
CLASS = "kpa.autoscaling.knative.dev"
OF_ZERO = ("activation-scale", "scale-to-zero-pod-retention-period")  # nothing to a service that keeps a pod
OF_THE_ACTIVATOR = ("target-burst-capacity",)  # who stands before the pods; the number of pods is the same
KNOWN = (
    *("class", "metric", "target", "target-utilization-percentage", "min-scale", "max-scale", "initial-scale"),
    *("scale-down-delay", "window", "panic-window-percentage", "panic-threshold-percentage"),
    *OF_ZERO,
    *OF_THE_ACTIVATOR,
)


def knative_settings(body: dict[str, Any], where: str, names: Names) -> dict[str, Any]:
    """ConfigError in one line. max_replicas is left out where max-scale is 0: no limit."""
    template = _mapping(_mapping(body.get("spec")).get("template"))
    if any(str(name).startswith(PREFIX) for name in _mapping(_mapping(body.get("metadata")).get("annotations"))):
        raise ConfigError(f"{where}: metadata.annotations: autoscaling annotations belong in {PLACE}: move them")
    given = _annotations(_mapping(_mapping(template.get("metadata")).get("annotations")), where)
    for name, modelled in (("class", CLASS), ("metric", "concurrency")):
        if given.get(name, modelled) != modelled:
            raise ConfigError(f"{where}: {PLACE}: {name} {given[name]} is not modelled: {modelled} is")

    def number(name: str, default: float, low: float = 0, high: float = math.inf, *, whole: bool = False) -> float:
        return _number(f"{where}: {PLACE}: {name}", given.get(name, default), low, high, whole)

    def seconds(name: str, default: str, low: float = 0, high: float = HOUR_S) -> float:
        try:
            return _number(f"{where}: {PLACE}: {name}, in seconds,", seconds_of(given.get(name, default)), low, high)
        except ValueError as error:
            raise ConfigError(f"{where}: {PLACE}: {name} {error}") from None

    hard = _mapping(template.get("spec")).get("containerConcurrency") or 0
    limit = _number(f"{where}: spec.template.spec.containerConcurrency", hard, 0, 1000, whole=True)
    target = number("target", limit or DEFAULT_CONCURRENCY, 0.01)
    stable_s = seconds("window", "60s", 6)
    least, most = int(number("min-scale", 0, whole=True)), int(number("max-scale", 0, whole=True))
    if 0 < most < least:
        raise ConfigError(f"{where}: {PLACE}: max-scale {most} is below min-scale {least}")
    settings = {
        "kind": "knative",
        "container_concurrency": min(target, limit) if limit else target,
        "target_utilisation": number("target-utilization-percentage", 70, 1, 100) / 100,
        "min_replicas": least,
        "stable_window_s": stable_s,
        "panic_window_s": stable_s * number("panic-window-percentage", 10, 1, 100) / 100,
        "panic_threshold": number("panic-threshold-percentage", 200, 110, 1000) / 100,
        "scale_down_delay_s": seconds("scale-down-delay", "0s"),
    }
    if most:
        settings["max_replicas"] = most
    if "initial-scale" in given:
        settings["initial_scale"] = int(number("initial-scale", 1, whole=True))
    return settings


def _annotations(found: dict[str, Any], where: str) -> dict[str, str]:
    """Of the autoscaler, without the prefix; minScale, as it was once, is min-scale."""
    own = {
        re.sub("([A-Z])", r"-\1", str(name).removeprefix(PREFIX)).lower(): str(value).strip()
        for name, value in found.items()
        if str(name).startswith(PREFIX)
    }
    for name in own:
        if name not in KNOWN:
            raise ConfigError(f"{where}: {PLACE}: {PREFIX}{name} is not known: known are {', '.join(KNOWN)}")
    return own


def _number(what: str, given: Any, low: float, high: float, whole: bool = False) -> float:
    """ConfigError, if it is none, or not within the bounds that Knative has."""
    kind = "whole number" if whole else "number"
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise ConfigError(f"{what} is no {kind} (got {given!r})") from None
    if not math.isfinite(value) or (whole and value % 1):
        raise ConfigError(f"{what} is no {kind} (got {given!r})")
    if not low <= value <= high:
        bounds = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ConfigError(f"{what} must be {bounds} (got {given!r})")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
