"""Stories for the real HPA and the simulated one: what each asks for, and what its metrics say from when on.

Add one to STORIES. Metrics are numbers, not milli-units; None: at that time nothing is measured. Periods and windows
are no multiples of the sync period of 5 s: it would be a matter of luck whether an event is a hair younger than that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.autoscaling.hpa.spec import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    HpaSpec,
    MetricSpec,
    ScalingPolicy,
    ScalingRules,
)

SECONDS = 78  # of each story: some 15 syncs
Series = Callable[[float, int], float | None]  # (seconds since the start, which pod, oldest first) -> value


@dataclass(frozen=True)
class Story:
    """replicas: at the start; load_s: until a new pod is ready; gpus: its pods need one each, and there are three."""

    name: str
    spec: HpaSpec
    series: Mapping[str, Series]  # by the metric's name
    replicas: int = 1
    load_s: int = 0
    gpus: bool = False


def steps(*changes: tuple[float, float | None]) -> Series:
    """The same for all pods: from second t on, a value."""
    return lambda t, _: [value for since, value in changes if since <= t][-1]


def total(name: str, target: float) -> MetricSpec:
    """An external total, with a target for each replica."""
    return MetricSpec(type="External", name=name, target_average_value_m=round(target * 1000))


def level(name: str, target: float) -> MetricSpec:
    """An external value that the ready pods are scaled by."""
    return MetricSpec(type="External", name=name, target_value_m=round(target * 1000))


def pods(name: str, target: float) -> MetricSpec:
    """A mean over pods."""
    return MetricSpec(type="Pods", name=name, target_average_value_m=round(target * 1000))


def rules(*policies: tuple[str, int, float], window_s: float | None = None, select: str = "Max") -> ScalingRules:
    """policies: (type, value, period_s)."""
    made = [ScalingPolicy.model_validate({"type": t, "value": v, "period_s": p}) for t, v, p in policies]
    return ScalingRules.model_validate(
        {"policies": made, "stabilization_window_s": window_s, "select_policy": select},
    )


def story(name: str, metric: MetricSpec, series: Series, **more: Any) -> Story:
    """One metric; `more` goes to the story and to its HpaSpec."""
    of_story = {key: more.pop(key) for key in ("replicas", "load_s", "gpus") if key in more}
    return Story(name, HpaSpec(metrics=(metric,), **{"max_replicas": 10, **more}), {metric.name: series}, **of_story)


_FREELY_DOWN = rules(("Percent", 100, 12), window_s=0)

STORIES = (
    story("ramp", total("ramp", 10), lambda t, _: 10 + 1.5 * t),
    story("spike", total("spike", 10), steps((0, 10), (14, 98), (31, 10))),
    story("flapping", total("flapping", 10), lambda t, _: 75.0 if int(t / 8) % 2 else 18.0),
    story("missing-metrics", total("missing", 10), steps((0, 40), (16, None), (38, 20), (60, None))),
    story("unready-pods", level("unready", 10), steps((0, 10), (12, 20), (60, 4)), load_s=22),
    story(
        "unready-pods-that-are-measured", pods("starting", 10), steps((0, 10), (12, 20), (26, 8), (50, 3)), load_s=22
    ),
    story("pending-pods", pods("pending", 10), steps((0, 10), (9, 20), (33, 12), (45, 30), (58, 4)), gpus=True),
    story(
        "up-by-pods",
        total("up-pods", 10),
        steps((0, 10), (8, 100)),
        behavior=Behavior(scale_up=rules(("Pods", 2, 17))),
    ),
    story(
        "up-by-the-least-of-two",
        total("up-least", 10),
        steps((0, 20), (8, 100)),
        replicas=2,
        behavior=Behavior(scale_up=rules(("Pods", 3, 12), ("Percent", 50, 12), select="Min")),
    ),
    story(
        "down-by-pods",
        total("down-pods", 10),
        steps((0, 80), (13, 10)),
        replicas=8,
        behavior=Behavior(scale_down=rules(("Pods", 1, 7), window_s=0)),
    ),
    story(
        "down-by-the-least-of-two",
        total("down-least", 10),
        steps((0, 100), (13, 10)),
        replicas=10,
        behavior=Behavior(scale_down=rules(("Pods", 4, 12), ("Percent", 30, 12), window_s=0, select="Min")),
    ),
    story(
        "never-down",
        total("never-down", 10),
        steps((0, 10), (9, 60), (25, 10), (45, 80), (60, 5)),
        behavior=Behavior(scale_down=rules(("Percent", 100, 15), select="Disabled")),
    ),
    story(
        "windows-both-ways",
        total("windows", 10),
        steps((0, 20), (12, 60), (20, 30), (28, 70), (50, 10)),
        replicas=2,
        behavior=Behavior(
            scale_up=rules(("Percent", 100, 15), ("Pods", 4, 15), window_s=13),
            scale_down=rules(("Percent", 100, 15), window_s=18),
        ),
    ),
    Story(
        "two-metrics",
        HpaSpec(max_replicas=10, metrics=(total("first", 10), pods("second", 10))),
        {
            "first": steps((0, 20), (14, 50), (30, None), (46, 20)),
            "second": steps((0, 10), (22, 14), (30, 5), (38, 13), (46, 4)),
        },
        replicas=2,
    ),
    story(
        "tolerance",
        level("tolerance", 100),
        steps((0, 109), (9, 110), (19, 110.1), (29, 100), (39, 90), (49, 89.9), (59, 95)),
        replicas=11,
        max_replicas=20,
        behavior=Behavior(scale_down=_FREELY_DOWN),
    ),
    story(
        "bounds",
        total("bounds", 10),
        steps((0, 40), (12, 500), (28, 0), (50, 40)),
        replicas=9,
        min_replicas=2,
        max_replicas=6,
    ),
    story(
        "a-pod-is-missing",
        pods("one-missing", 10),
        lambda t, k: None if k == 1 and t > 9 else steps((0, 10), (18, 30), (26, 12.5), (42, 2), (62, 12))(t, k),
        replicas=3,
        behavior=Behavior(scale_down=_FREELY_DOWN),
    ),
)


def manifest(told: Story) -> dict[str, Any]:
    """The autoscaling/v2 object of a story, for the deployment of its name."""
    spec = told.spec
    made: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": told.name},
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "metrics": [_metric(metric) for metric in spec.metrics],
    }
    if spec.behavior is not None:
        made["behavior"] = {
            name: _rules(given)
            for name, given, default in (
                ("scaleUp", spec.behavior.scale_up, DEFAULT_SCALE_UP),
                ("scaleDown", spec.behavior.scale_down, DEFAULT_SCALE_DOWN),
            )
            if given != default  # what is left out, the API server fills in
        }
    return {"metadata": {"name": told.name}, "spec": made}


def _metric(one: MetricSpec) -> dict[str, Any]:
    if one.target_value_m is not None:
        target = {"type": "Value", "value": f"{one.target_value_m}m"}
    else:
        target = {"type": "AverageValue", "averageValue": f"{one.target_average_value_m}m"}
    return {"type": one.type, one.type.lower(): {"metric": {"name": one.name}, "target": target}}


def _rules(given: ScalingRules) -> dict[str, Any]:
    policies = [{"type": p.type, "value": p.value, "periodSeconds": int(p.period_s)} for p in given.policies]
    made: dict[str, Any] = {"policies": policies, "selectPolicy": given.select_policy}
    if given.stabilization_window_s is not None:
        made["stabilizationWindowSeconds"] = int(given.stabilization_window_s)
    return made
