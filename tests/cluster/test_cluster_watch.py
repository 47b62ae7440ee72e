"""`kis watch deployment/NAME` of what a real API server tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulated_service import NAME, Kis

from testbed.pipeline.watched import source_of
from testbed.reporting.live import Frame, Replicas

pytestmark = pytest.mark.cluster


@pytest.fixture
def watched(kubeconfig: Path, namespace: str) -> Callable[[str], Callable[[], Frame]]:
    """watched(name) -> what looks at that deployment of the test's namespace."""
    return lambda name: source_of(f"deployment/{name}", None, namespace, kubeconfig).frame


def test_who_changed_the_scale_last_is_told_and_what_a_controller_said(
    applied: str,
    kubectl: Callable[..., str],
    watched: Callable[[str], Callable[[], Frame]],
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
) -> None:
    look = watched(NAME)

    def ready(count: int) -> bool:
        view = look().controller
        return view is not None and view.replicas == Replicas(count, count, 0)

    eventually(lambda: ready(1), "one replica")
    controllers(namespace=applied, policy={"kind": "fixed", "replicas": 2})
    eventually(lambda: ready(2), "two replicas")
    view = look().controller
    assert view is not None
    assert view.decision is not None
    assert view.decision.text == "1 -> 2"
    assert view.change is not None
    assert view.change.text.endswith("from 1 to 2")
    assert abs(view.change.age_s - view.decision.age_s) < 5.0  # both clocks are this machine's


def test_pods_that_find_no_gpu_are_one_line_with_the_schedulers_reason(
    apps: Any,
    local_cluster: Any,
    namespace: str,
    deployment: Callable[..., dict[str, Any]],
    watched: Callable[[str], Callable[[], Frame]],
    eventually: Callable[..., Any],
) -> None:
    apps.create_namespaced_deployment(namespace, deployment("big", replicas=3, gpus=100))
    look = watched("big")
    problem = "3 pods are not ready: 0/2 nodes are available"
    eventually(lambda: any(text.startswith(problem) for text in look().problems), problem)
    frame = look()
    assert len(frame.problems) == 1
    assert frame.controller is not None
    assert frame.controller.replicas == Replicas(3, 0, 3)
    assert frame.controller.pending == 3
