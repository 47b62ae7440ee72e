"""What happens to 300 requests a second while their pods are replaced, and killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_service import NAME, replay_at
from localcluster_pods import running, server_process

from testbed.serving.kubernetes import KubernetesService

pytestmark = [pytest.mark.cluster, pytest.mark.long]
RATE_RPS = 300.0


def test_nothing_is_lost_through_a_rolling_update(
    service: KubernetesService, applied: str, kubectl: Callable[..., str], tmp_path: Path
) -> None:
    service.scale(2)
    service.wait_ready(2, 60)
    old = {one.name: one.http for one in service.endpoints()}
    steps = [2.0]

    def update(elapsed_s: float, _: float) -> None:
        if steps and elapsed_s >= steps[0]:
            steps.clear()
            kubectl("rollout", "restart", "--namespace", applied, f"deployment/{NAME}")

    log = replay_at(RATE_RPS, 14.0, service, tmp_path, on_progress=update)
    new = {one.name: one.http for one in service.endpoints()}
    assert len(new) == 2
    assert not set(old) & set(new), "both pods are others now"
    assert log.counts()["ok"] == len(log)
    assert set(log.frame["endpoint"]) >= {*old.values(), *new.values()}
    assert set(log.frame["endpoint"].iloc[-200:]) == set(new.values())


def test_a_server_that_is_killed_loses_what_it_was_answering_and_nothing_else(
    service: KubernetesService, applied: str, core: Any, tmp_path: Path
) -> None:
    service.scale(2)
    service.wait_ready(2, 60)
    victim = running(core, applied)[0]
    address = f"{victim.status.pod_ip}:8000"
    server = server_process(victim)
    instants: list[int] = []

    def kill(elapsed_s: float, _: float) -> None:
        if not instants and elapsed_s >= 2.0:
            instants.append(time.monotonic_ns())
            os.kill(server.pid, signal.SIGSTOP)  # a tenth of a second, so that something is in flight for certain
            time.sleep(0.1)
            os.kill(server.pid, signal.SIGKILL)
            instants.append(time.monotonic_ns())

    log = replay_at(RATE_RPS, 13.0, service, tmp_path, on_progress=kill)
    stopped_s, killed_s = ((at - log.provenance["start_monotonic_ns"]) / 1e9 for at in instants)
    lost = log.frame[~log.ok]

    assert log.frame["request_id"].tolist() == list(range(len(log))), "each request has its one row"
    assert set(lost["status"]) == {"error"}
    assert set(lost["endpoint"]) == {address}
    assert lost["completed_ns"].isna().all()
    sent_s = lost["sent_ns"].to_numpy(dtype=float) / 1e9
    assert 1 <= len(lost) <= 0.35 * RATE_RPS / 2 + 10, (
        "in flight there: of half of the requests, for a tenth of a second"
    )
    assert (sent_s <= killed_s + 0.1).all(), "nothing that was sent later is lost"
    assert (sent_s >= stopped_s - 1.0).all()

    assert np.isin(log.frame["endpoint"].iloc[-200:], address).any(), "it serves again"
    again = core.read_namespaced_pod(victim.metadata.name, applied)
    assert again.status.container_statuses[0].restart_count == 1
