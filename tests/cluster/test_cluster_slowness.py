"""Emulated accelerators that become slower while they serve: pods that are there, and pods that come later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulated_service import LONG_S
from localcluster_pods import MANIFESTS

from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.config import ClientConfig
from testbed.errors import ClusterError
from testbed.measurement.triton_metrics import read_statistics
from testbed.measurement.triton_statistics import ModelStatistics
from testbed.pipeline.real_run import run_real
from testbed.pipeline.target import pods_of
from testbed.pipeline.traffic import Identity
from testbed.serving.kubernetes import KubernetesService
from testbed.serving.slowness import PodSlowness

pytestmark = pytest.mark.cluster
NAME = "triton-emulated-drifting"


def batch_ms(service: KubernetesService, namespace: str, folder: Path) -> list[float]:
    """Mean time of a batch in each pod, while a few requests come in."""
    before = {endpoint.name: read_statistics(endpoint.http, "emulated") for endpoint in service.endpoints()}
    target = pods_of(service, f"{namespace}/{NAME}", "emulated", len(before))
    rate = {"rate": 4.0 * len(before)}
    schedule = poisson_schedule(make_pattern("constant", **rate), 4.0, 1, "emulated")
    run_real(target, schedule, folder, Identity(folder.name, "constant", rate, 1, percentile=None), ClientConfig(), 1.0)
    after = [(endpoint.name, read_statistics(endpoint.http, "emulated")) for endpoint in service.endpoints()]
    assert len(after) == len(before)
    return [(busy_ms(now) - busy_ms(before[name])) / (now.executions - before[name].executions) for name, now in after]


def busy_ms(told: ModelStatistics) -> float:
    """In batches so far."""
    return sum(batch.compute_ns for batch in told.batches.values()) / 1e6


def test_pods_become_slower_while_they_serve_and_so_do_those_that_come_later(
    local_cluster: Any, namespace: str, api: Any, kubectl: Callable[..., str], tmp_path: Path
) -> None:
    kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / "emulated-drifting"))
    slowness = PodSlowness(api, namespace, NAME)
    with KubernetesService(api, namespace, NAME, tmp_path / "raw") as service:
        service.wait_ready(1, LONG_S)
        (usual,) = batch_ms(service, namespace, tmp_path / "usual")
        slowness.set(2.5)
        (slower,) = batch_ms(service, namespace, tmp_path / "slower")
        assert slower > 1.8 * usual
        service.scale(2)
        service.wait_ready(2, LONG_S)
        both = batch_ms(service, namespace, tmp_path / "both")
        assert len(both) == 2
        assert min(both) > 1.8 * usual
        slowness.set(1.0)
        again = batch_ms(service, namespace, tmp_path / "again")
        assert max(again) < 1.8 * usual


def test_pods_without_that_volume_are_refused(service: KubernetesService, applied: str, api: Any) -> None:
    with pytest.raises(
        ClusterError, match="have no volume 'slowness' of a ConfigMap: add manifests/components/slowness"
    ):
        PodSlowness(api, applied, "triton-emulated").set(2.0)
