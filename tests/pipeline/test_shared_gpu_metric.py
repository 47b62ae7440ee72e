"""Pods that share a GPU each show the whole GPU's utilisation: an HPA on it cannot bring it down by adding pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from testbed.config_file import build
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from tests.oracles.cluster_worlds import GPU, flat_profile

SERVICE_S = 0.010


def played(
    folder: Path, arrivals_s: np.ndarray[Any, Any], gpus: int = 1, **shares: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Three pods at first, an HPA with a target of 70 %: summary.json and decisions.json."""
    folder.mkdir()
    flat_profile([SERVICE_S]).write(folder / "profile.json")
    (folder / "times.txt").write_text("".join(f"{at:.6f}\n" for at in arrivals_s))
    sharing = {"sharing": "time_slicing", "shares": 4, "interference": [1.0, 1.0, 1.0, 1.0], **shares}
    served = {
        "name": "m",
        "profiles": {GPU: str(folder / "profile.json")},
        "max_batch_size": 1,
        "replicas": 3,
        "max_replicas": 8,
        "latency_target_s": 0.05,
    }
    settings = {
        "cluster": {
            "gpu_kinds": {GPU: sharing},
            "pools": [{"nodes": 1, "gpus": gpus, "gpu_kind": GPU}],
            "models": [served],
        },
        "traffic": {"m": {"trace": str(folder / "times.txt"), "format": "timestamps"}},
        "policies": {"m": {"kind": "hpa", "metric": "gpu_utilisation_pct", "target": 70, "max_replicas": 8}},
        "duration_s": 240,
    }
    summary = simulate_cluster(build(ClusterRunConfig, settings, "test"), folder)
    return summary, json.loads((folder / "decisions.json").read_text())


def test_each_pod_shows_the_gpu_and_no_number_of_pods_helps(tmp_path: Path) -> None:
    """Each of three is busy 24 % of the time, never together: 72 % of the GPU, within the tolerance of 70.

    Then the GPU is busy all the time: 100 / 70 wants five pods, and four fit.
    """
    calm = np.arange(0, 240, 1 / 72)
    _, decisions = played(tmp_path / "calm", calm)
    assert decisions == []
    full = np.concatenate([np.arange(0, 120, 1 / 72), np.arange(120, 240, 1 / 500)])
    summary, decisions = played(tmp_path / "full", full)
    assert decisions[0]["wanted"] == 5
    assert {episode["cause"] for episode in summary["models"]["m"]["post_mortem"]["episodes"]} == {"no room"}
    (note,) = summary["notes"]
    assert note == (
        "m scales on gpu_utilisation_pct, and up to 4 of its pods share a GPU: each shows the whole GPU's, which no "
        "further pod on it brings down"
    )


def test_pods_with_a_gpu_of_their_own_need_no_such_note(tmp_path: Path) -> None:
    own = {"gpus": 8, "sharing": "exclusive", "shares": 1, "interference": []}
    summary, _ = played(tmp_path / "alone", np.arange(0, 240, 1 / 20), **own)
    assert summary["notes"] == []
