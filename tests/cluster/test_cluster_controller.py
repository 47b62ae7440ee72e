"""A service of real Triton pods, followed and scaled: by us, and by `kis controller`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulated_service import LONG_S, Kis, replay_at, sent

from loadgen.endpoints import read_endpoints
from testbed.errors import ClusterError
from testbed.serving.kubernetes import KubernetesService

pytestmark = pytest.mark.cluster


def test_replicas_are_scaled_followed_and_told_with_their_times(
    service: KubernetesService, eventually: Callable[..., Any]
) -> None:
    service.wait_ready(1, LONG_S)
    asked_s = time.time()
    service.scale(3)
    service.wait_ready(3, LONG_S)
    assert len(read_endpoints(service.endpoints_file)) == 3
    eventually(lambda: all(pod.ready_s for pod in service.pods()), "the pods tell it, too")  # another watch
    first, *new = service.pods()
    assert len(new) == 2
    for pod in new:
        times = [pod.created_s, pod.scheduled_s, pod.started_s, pod.ready_s]
        assert times == sorted(times)  # whole seconds, as the API has them
        assert asked_s - 1.5 <= times[0] <= times[-1] <= time.time() + 1
        assert pod.node is not None
    service.scale(1)
    service.wait_ready(1, LONG_S)
    assert read_endpoints(service.endpoints_file) == (service.endpoints()[0].http,)

    def leaving() -> set[str]:
        return {event.replica for event in service.events() if event.state == "draining"}

    left = eventually(lambda: len(leaving()) == 2 and leaving(), "the two that leave are told")
    assert service.endpoints()[0].name not in left
    assert first.name in {pod.name for pod in service.pods()}


def test_a_ninth_pod_is_pending_and_says_why(service: KubernetesService, eventually: Callable[..., Any]) -> None:
    service.scale(9)
    pending = eventually(
        lambda: len(service.endpoints()) == 8 and [pod for pod in service.pods() if pod.pending_why],
        "eight run, and one waits",
    )
    assert len(pending) == 1
    assert "Insufficient nvidia.com/gpu" in pending[0].pending_why


def test_nothing_is_lost_through_scale_up_and_down(service: KubernetesService, tmp_path: Path) -> None:
    """At 300 requests a second: draining pods answer what they have, and get nothing new."""
    service.scale(2)
    service.wait_ready(2, LONG_S)
    enough = threading.Event()

    def gone() -> bool:
        return len({event.replica for event in service.events() if event.state == "gone"}) == 2

    # Two seconds after what a step waits for, it is done.
    steps: list[tuple[Callable[[], bool], Callable[[], None]]] = [
        (lambda: True, lambda: service.scale(4)),
        (lambda: len(service.endpoints()) == 4, lambda: service.scale(2)),
        (gone, enough.set),
    ]
    seen_s: list[float] = []

    def go_on(elapsed_s: float, _: float) -> None:
        if steps and not seen_s and steps[0][0]():
            seen_s.append(elapsed_s)
        if seen_s and elapsed_s >= seen_s[0] + 2.0:
            seen_s.clear()
            steps.pop(0)[1]()

    log = replay_at(300.0, 90.0, service, tmp_path, go_on, enough)
    assert not steps
    assert set(sent(log)["status"]) == {"ok"}
    assert len(set(sent(log)["endpoint"])) == 4  # the new ones were used


def test_a_deployment_that_is_not_there_is_refused(
    local_cluster: Any, api: Any, namespace: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ClusterError, match="404 Not Found: apply its manifest first"),
        KubernetesService(api, namespace, "nothing", tmp_path),
    ):
        pass


def test_a_controller_scales_and_a_shadow_only_says_so(
    service: KubernetesService, applied: str, controllers: Callable[..., Kis], eventually: Callable[..., Any], core: Any
) -> None:
    service.wait_ready(1, LONG_S)
    fixed = {"namespace": applied, "policy": {"kind": "fixed", "replicas": 3, "period_s": 1.0}}
    shadow = controllers(**fixed, shadow=True)
    eventually(lambda: len(shadow.turns()) >= 3, "the shadow decides")
    assert all(turn["wanted"] == 3 and turn["replicas"] == 3 and not turn["acted"] for turn in shadow.turns())
    assert len(service.pods()) == 1
    controllers(**fixed)
    service.wait_ready(3, LONG_S)

    def events() -> list[Any]:
        return [one for one in core.list_namespaced_event(applied).items if one.reason == "Scaled"]

    told = eventually(events, "the event is there")
    assert len(told) == 1
    assert told[0].message.startswith("1 -> 3")


def test_load_makes_the_controller_add_replicas_within_four_of_its_looks(
    service: KubernetesService,
    applied: str,
    controllers: Callable[..., Kis],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    """Metric change -> scale patched, with a policy that looks twice a second at what is in flight."""
    service.wait_ready(1, LONG_S)
    policy = {
        "kind": "knative",
        "container_concurrency": 4,
        "metrics_delay_s": 0.0,
        "period_s": 0.5,
        "stable_window_s": 6.0,
    }
    one = controllers(namespace=applied, policy={**policy, "panic_window_s": 1.0}, scrape_period_s=0.5)
    eventually(lambda: len(one.turns()) >= 6, "the controller decides")
    log = replay_at(900.0, 8.0, service, tmp_path)
    start_s = log.provenance["start_unix_ns"] / 1e9
    turns = [turn for turn in one.turns() if turn["time_s"] > start_s]
    patched = [k for k, turn in enumerate(turns) if turn["replicas"] and turn["acted"]]
    assert one.patched() == [turns[k]["replicas"] for k in patched]  # none before
    assert patched
    assert turns[patched[0]]["replicas"] > 1
    assert patched[0] < 4  # two seconds, if nothing keeps it
