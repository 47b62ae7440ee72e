"""Two deployments of real Triton pods on a budget of GPUs, in one `kis controller`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated_service import NAME, Kis
from localcluster_pods import MANIFESTS

pytestmark = pytest.mark.cluster

OTHER = f"{NAME}-b"
GPUS = 4


@pytest.fixture
def both(applied: str, kubectl: Callable[..., str], tmp_path: Path) -> str:
    """The namespace of the emulated model's deployment, and of a second one beside it."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = {
        "resources": [os.path.relpath(MANIFESTS / "overlays" / "emulated", folder)],
        "nameSuffix": "-b",
        "labels": [{"pairs": {"kis/model": "emulated-b"}, "includeSelectors": True}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(other))
    kubectl("apply", "--namespace", applied, "-k", str(folder))
    return applied


def test_one_gives_its_gpu_back_before_the_other_takes_it(
    both: str, apps: Any, core: Any, controllers: Callable[..., Kis], eventually: Callable[..., Any]
) -> None:
    """Three and one of four become two and two; a pod that is going away counts."""

    def ready(name: str) -> int:
        return apps.read_namespaced_deployment(name, both).status.ready_replicas or 0

    apps.patch_namespaced_deployment_scale(NAME, both, {"spec": {"replicas": 3}})
    eventually(lambda: (ready(NAME), ready(OTHER)) == (3, 1), "three and one are ready")
    policy = {"kind": "fixed", "replicas": 3, "period_s": 1.0}
    one = {"model": "emulated", "policy": policy, "limits": {"max_replicas": 4}}
    controller = controllers(
        namespace=both,
        budget={"gpus": GPUS},
        deployments=[{"deployment": name, **one} for name in (NAME, OTHER)],
        lease="kis-controller-budget",
    )
    most = 0

    def two_each() -> bool:
        nonlocal most
        pods = core.list_namespaced_pod(both).items
        most = max(most, sum(pod.status.phase in ("Pending", "Running") for pod in pods))  # one that ended has no GPU
        return (ready(NAME), ready(OTHER)) == (2, 2)

    eventually(two_each, "both have two")
    assert most == GPUS
    told = [
        (turn["deployment"], turn["replicas"])
        for turn in controller.turns()
        if turn["acted"] and turn["replicas"] is not None
    ]
    assert told == [(NAME, 2), (OTHER, 2)]
    reasons = {turn["refusal"] for turn in controller.turns() if turn["deployment"] == OTHER}
    among = f"{GPUS} GPUs for {NAME} (2 of 3) and {OTHER} (2 of 3)"
    assert f"wants 3, has 1 until 1 GPU is free: {among}" in reasons
    assert f"wants 3, has 2: {among}" in reasons
    events = [event for event in core.list_namespaced_event(both).items if event.reason == "Scaled"]
    assert {event.involved_object.name for event in events} == {NAME, OTHER}
