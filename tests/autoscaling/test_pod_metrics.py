"""Metrics of pods: ours by name, a user's by its place."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.metrics import METRICS, is_metric, of_all, of_each
from testbed.autoscaling.observation import Window
from workloads.errors import KisError

YOURS = """
from typing import ClassVar

from testbed.autoscaling.metrics import PodMetric


class DrainTime(PodMetric):
    '''How long what waits takes at the rate of now.'''

    name: ClassVar[str] = "drain_time_ms"

    @staticmethod
    def value(window, pods):
        served = window.requests[list(pods)].sum() / window.seconds
        return 1e3 * float(window.waiting[list(pods)].sum() / served) if served else float("nan")

    @staticmethod
    def targets(service):
        return 20 * service.latency_target_s, 1000 * service.latency_target_s
"""


def window() -> Window:
    """Two pods for ten seconds: one answers 50 requests and has 5 that wait, the other does nothing."""
    return Window(
        start_s=0.0,
        end_s=10.0,
        pods=("a", "b"),
        requests=np.array([50.0, 0.0]),
        queue_s=np.array([2.0, 0.0]),
        waiting=np.array([5.0, 0.0]),
        in_flight=np.array([6.0, 0.0]),
        utilisation=np.array([0.5, 0.0]),
        cpu_cores=np.zeros(2),
    )


@pytest.fixture
def yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_metrics.py").write_text(YOURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(METRICS, "_by_name", dict(METRICS._by_name))
    yield "my_metrics:DrainTime"
    sys.modules.pop("my_metrics", None)


@pytest.mark.parametrize(
    ("metric", "each", "total"),
    [
        ("queue_time_ms", {"a": 40.0, "b": 0.0}, 40.0),
        ("pending_requests", {"a": 5.0, "b": 0.0}, 5.0),
        ("in_flight_requests", {"a": 6.0, "b": 0.0}, 6.0),
        ("requests_per_second", {"a": 5.0, "b": 0.0}, 5.0),
        ("gpu_utilisation_pct", {"a": 50.0, "b": 0.0}, 50.0),
    ],
)
def test_ours_for_each_pod_and_for_all(metric: str, each: dict[str, float], total: float) -> None:
    assert of_each(metric, window()) == each
    assert of_all(metric, window()) == total


def test_one_of_yours_is_one_class_and_is_found_by_its_place(yours: str) -> None:
    assert is_metric(yours)
    assert of_each(yours, window()) == {"a": 1000.0}  # of the pod that answers nothing it is not known
    assert "drain_time_ms" in METRICS.known()  # by its name too, once it was imported
    policy = build_policy({"kind": "hpa", "metric": yours, "target": 100.0}, 4, None)
    assert policy.name == f"hpa-{yours}-100"
    (asked,) = hpa_object(policy.spec, "hpa", "default", "web")["spec"]["metrics"]
    assert asked["pods"]["metric"] == {"name": "drain_time_ms"}
    assert math.isclose(of_all(yours, window()) or 0.0, 1000.0)


def test_what_is_no_metric_is_said_in_one_line(yours: str) -> None:
    for metric, said in (
        ("queue_time", "the testbed offers cpu, and as Pods"),
        ("my_metrics:PodMetric2", "is none: derive it from testbed.autoscaling.metrics.PodMetric"),
        ("no_such_module:Metric", "is its folder on PYTHONPATH?"),
    ):
        with pytest.raises(KisError, match=said) as refusal:
            build_policy({"kind": "hpa", "metric": metric, "target": 1.0}, 4, None)
        assert "\n" not in str(refusal.value)
