"""What happens to 300 requests a second while their pods are replaced, and killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_service import LONG_S, NAME, replay_at, sent
from localcluster_pods import running, server_process

from testbed.serving.kubernetes import KubernetesService

pytestmark = [pytest.mark.cluster, pytest.mark.long]
RATE_RPS = 300.0


def test_nothing_is_lost_through_a_rolling_update(
    service: KubernetesService, applied: str, kubectl: Callable[..., str], tmp_path: Path
) -> None:
    service.scale(2)
    service.wait_ready(2, LONG_S)
    old = {endpoint.name: endpoint.http for endpoint in service.endpoints()}
    updated, settled_s, enough = threading.Event(), list[float](), threading.Event()

    def update(elapsed_s: float, _: float) -> None:
        if elapsed_s >= 2.0 and not updated.is_set():
            updated.set()
            kubectl("rollout", "restart", "--namespace", applied, f"deployment/{NAME}")
        if not set(old) & {endpoint.name for endpoint in service.endpoints()} and len(service.endpoints()) == 2:
            settled_s.append(elapsed_s)
        if settled_s and elapsed_s >= settled_s[0] + 3.0:
            enough.set()

    log = replay_at(RATE_RPS, 90.0, service, tmp_path, update, enough)
    new = {endpoint.name: endpoint.http for endpoint in service.endpoints()}
    assert len(new) == 2
    assert not set(old) & set(new), "both pods are others now"
    rows = sent(log)
    assert set(rows["status"]) == {"ok"}
    assert set(rows["endpoint"]) >= {*old.values(), *new.values()}
    assert set(rows["endpoint"].iloc[-200:]) == set(new.values())


def test_a_server_that_is_killed_loses_what_it_was_answering_and_nothing_else(
    service: KubernetesService, applied: str, core: Any, tmp_path: Path
) -> None:
    service.scale(2)
    service.wait_ready(2, LONG_S)
    victim = running(core, applied)[0]
    address = f"{victim.status.pod_ip}:8000"
    server = server_process(victim)
    instants, back_s, enough = list[int](), list[float](), threading.Event()

    def kill(elapsed_s: float, _: float) -> None:
        listed = [endpoint.http for endpoint in service.endpoints()]
        if len(instants) == 2 and address not in listed:
            instants.append(time.monotonic_ns())
        if len(instants) == 3 and address in listed:
            back_s.append(elapsed_s)
        if back_s and elapsed_s >= back_s[0] + 2.0:
            enough.set()
        if not instants and elapsed_s >= 2.0:
            instants.append(time.monotonic_ns())
            os.kill(server.pid, signal.SIGSTOP)  # a tenth of a second, so that something is in flight for certain
            time.sleep(0.1)
            os.kill(server.pid, signal.SIGKILL)
            instants.append(time.monotonic_ns())

    log = replay_at(RATE_RPS, 90.0, service, tmp_path, kill, enough)
    stopped_s, killed_s, _ = ((at - log.provenance["start_monotonic_ns"]) / 1e9 for at in instants)
    rows = sent(log)
    lost = rows[rows["status"] != "ok"]

    assert log.frame["request_id"].tolist() == list(range(len(log))), "each request has its one row"
    assert set(lost["status"]) == {"error"}
    assert set(lost["endpoint"]) == {address}
    assert lost["completed_ns"].isna().all()
    sent_s = lost["sent_ns"].to_numpy(dtype=float) / 1e9
    assert len(lost) >= 1, "in flight there"
    assert (sent_s <= killed_s + 0.5).all(), "nothing that was sent later is lost"
    assert (sent_s >= stopped_s - 1.0).all(), "nor what was sent long before"

    assert np.isin(rows["endpoint"].iloc[-200:], address).any(), "it serves again"
    again = core.read_namespaced_pod(victim.metadata.name, applied)
    assert again.status.container_statuses[0].restart_count == 1
