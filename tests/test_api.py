"""The public Python API: its names, and what they give."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import testbed
from testbed.errors import ConfigError
from tests.oracles.cluster_worlds import flat_profile

PROFILE = flat_profile([0.010, 0.012, 0.014, 0.016])  # 250 requests/s in batches of four
SPIKE = testbed.Bursty(base=100, spike=600, spike_s=30, every_s=100)
DOCS = Path(__file__).parent.parent / "docs" / "python.md"


def cluster(**more: Any) -> testbed.Cluster:
    pods = {"container_start_s": 1.0, "load_s": 1.0}
    return testbed.Cluster(PROFILE, latency_target_s=0.05, max_replicas=6, pod_times=pods, **more)


def test_the_public_names_are_those_of_the_page() -> None:
    assert testbed.__all__ == sorted(testbed.__all__)
    assert set(testbed.__all__) <= set(dir(testbed))
    rows = [line.split("|")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = {name.split(".")[0].split("(")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert documented == set(testbed.__all__)
    for name in testbed.__all__:
        assert getattr(testbed, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testbed.nothing  # noqa: B018


def test_importing_it_loads_no_simulator() -> None:
    code = "import sys, testbed; print([m for m in ('numba', 'pandas', 'torch', 'gymnasium') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_example_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 12
    monkeypatch.chdir(tmp_path)  # it needs no file of the repository
    exec(code.replace("duration_s=600", "duration_s=60"), {})


def test_a_service_under_constant_load() -> None:
    run = testbed.simulate(PROFILE, testbed.Constant(rate=100.0), replicas=2, duration_s=40, seed=1)
    assert run.summary["throughput_rps"] == pytest.approx(len(run.requests) / 40, rel=0.01)
    assert run.summary["answered"] == len(run.requests)
    assert run.latency_s(0) == pytest.approx(0.010)
    assert 0.2 < run.summary["utilisation"] < 0.6
    assert len(run.batches) == len(run.requests)
    assert isinstance(run.plot(), Figure)
    again = testbed.simulate(PROFILE, testbed.Constant(rate=100.0), replicas=2, duration_s=40, seed=1)
    pd.testing.assert_frame_equal(run.requests, again.requests)


def test_a_trace_has_its_own_arrivals(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text("\n".join(str(0.1 * k) for k in range(100)))
    trace = testbed.read_trace(tmp_path / "trace.txt")
    run = testbed.simulate(PROFILE, trace)
    assert (run.requests["scheduled_ns"] / 1e9).tolist() == pytest.approx(np.arange(100) * 0.1)
    assert run.latency_s(50) == pytest.approx(0.010)
    scaled = cluster().run(trace, {"kind": "fixed", "replicas": 2})
    assert scaled.outcome.totals.arrived == 100
    assert scaled.outcome.gpu_seconds == pytest.approx(2 * trace.duration_s, rel=1e-6)


def test_a_policy_scales_a_cluster_and_is_compared() -> None:
    hpa = {"kind": "hpa", "metric": "requests_per_second", "target": 150, "window_s": 5, "metrics_delay_s": 0}
    run = cluster().run(SPIKE, hpa, duration_s=200, seed=3)
    assert run.over_time["replicas"].max() > 2
    assert len(run.decisions) == run.summary["changes"] > 0
    assert run.over_time["rate_rps"].mean() * 200 == pytest.approx(run.outcome.totals.arrived)
    assert isinstance(run.plot(), Figure)
    table = testbed.compare(cluster(), SPIKE, {"hpa": hpa, "six": {"kind": "fixed", "replicas": 6}}, duration_s=200)
    assert table.index.tolist() == ["hpa", "six"]
    assert table.loc["six", "slo_violation_rate"] < table.loc["hpa", "slo_violation_rate"] < 1
    assert table.loc["six", "gpu_seconds"] == pytest.approx(1200)
    assert table.loc["six", "changes"] == 0
    alone = [cluster().run(SPIKE, hpa, duration_s=200, seed=seed).outcome.totals for seed in (0, 1, 2)]
    together = sum(one.missed for one in alone) / sum(one.decided for one in alone)
    assert table.loc["hpa", "slo_violation_rate"] == pytest.approx(together)
    one = cluster().run(SPIKE, hpa, duration_s=200, seed=3).summary
    assert one.equals(run.summary)


class Two(NamedTuple):
    """A policy of a user's."""

    name: str = "two"
    period_s: float = 10.0

    def decide(self, seen: Any, memory: Any) -> Any:
        from testbed.autoscaling.policy import Decision

        return Decision(2, None, "always two")


def test_a_policy_may_be_an_object_and_nobody_may_scale() -> None:
    assert cluster().run(SPIKE, Two(), duration_s=60).over_time["replicas"].iloc[-1] == 2
    still = cluster(replicas=3).run(SPIKE, duration_s=60)
    assert still.policy == "fixed-3"
    assert set(still.over_time["replicas"]) == {3.0}


def test_what_one_replica_serves_is_filled_in_and_a_plan_needs_more_of_them() -> None:
    assert 150 < cluster().replica_capacity_rps < 250
    run = cluster().run(testbed.Constant(rate=400.0), {"kind": "predictive", "provisioning_delay_s": 5}, duration_s=60)
    assert run.over_time["replicas"].iloc[-1] in (3, 4)
    table = testbed.plan(PROFILE, testbed.Constant(rate=400.0), latency_target_s=0.05, max_replicas=4, duration_s=20)
    holds = table[table["holds"]]
    assert holds["replicas"].min() in (2, 3)
    assert not table[table["replicas"] == 1]["holds"].any()


def test_the_environment_is_gymnasiums() -> None:
    env = gymnasium.make("KIScaler-v2", scenarios=cluster().scenarios())
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)


def test_a_mistake_is_one_line() -> None:
    with pytest.raises(ConfigError, match="unknown policy 'hpaa': did you mean 'hpa'"):
        cluster().run(SPIKE, {"kind": "hpaa"})
    with pytest.raises(testbed.KisError, match=r"unknown key 'pod\.laod_s': did you mean 'load_s'"):
        testbed.Cluster(PROFILE, latency_target_s=0.05, pod_times={"laod_s": 1.0})
    with pytest.raises(testbed.KisError, match="latency_target_s: Input should be greater than 0"):
        testbed.Cluster(PROFILE, latency_target_s=0.0)
    with pytest.raises(testbed.KisError, match="traffic is 'bursty': give a rate"):
        testbed.simulate(PROFILE, "bursty")  # type: ignore[arg-type]
    with pytest.raises(testbed.KisError, match="max_batch_size 8 is beyond"):
        testbed.simulate(PROFILE, SPIKE, service=testbed.Service(max_batch_size=8))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            lambda: testbed.Service(max_batchsize=3),
            "Service: unknown key 'max_batchsize': did you mean 'max_batch_size'?",
        ),
        (lambda: testbed.plan(PROFILE, SPIKE, latency_target_s=0.05, max_replicas=0), "plan: max_replicas: "),
        (lambda: cluster().run(SPIKE, "hpa", duration_s=1), "policy is 'hpa': give settings"),
        (
            lambda: cluster().run(SPIKE, {"kind": "hpa", "metric": "queue_tme_ms", "target": 5}, duration_s=1),
            "HPA metric Pods/queue_tme_ms: did you mean 'queue_time_ms'?",
        ),
    ],
)
def test_a_slip_is_one_clear_line(wrong: Callable[[], object], told: str) -> None:
    """Pydantic's own error has three lines for each key and an address; a word as policy was an AttributeError."""
    with pytest.raises(ConfigError) as error:
        wrong()
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
