"""A training without its observations: the same scenarios, and worse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from testbed.autoscaling.policies.learned import read_policy
from testbed.errors import ConfigError
from testbed.kiscaler import control
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.evaluation import Evaluation, read_curve
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile, six_replicas


def env(steps: int = 8) -> ScalingEnv:
    config = cluster(gpus=4, max_batch_size=4, max_replicas=4, latency_target_s=0.1, pod={"container_start_s": 1.0})
    scenarios = Scenarios(config, {GPU: flat_profile((0.020, 0.024, 0.028, 0.032))}, replica_capacity_rps=90.0)
    return ScalingEnv(scenarios, steps=steps, max_step=1, teacher=True)


def test_scenarios_and_rewards_are_the_same_and_what_is_shown_is_of_a_step_before() -> None:
    plain, shuffled = env(), Shuffled(env())
    earlier: set[bytes] = set()
    elsewhere = 0
    for episode in range(2):
        (seen, told), (shown, also_told) = (one.reset(seed=episode) for one in (plain, shuffled))
        assert told == also_told
        for k in range(plain.steps):
            assert shuffled.observation_space.contains(shown)
            assert shown.tobytes() in earlier or not earlier
            earlier.add(seen.tobytes())
            elsewhere += shown.tobytes() != seen.tobytes()
            seen, *rest = plain.step(np.int64(k % 3))
            shown, *also = shuffled.step(np.int64(k % 3))
            assert rest == also
        earlier.add(seen.tobytes())
    assert elsewhere >= 12


def test_the_oldest_observations_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "KEPT", 3)
    shuffled = Shuffled(env())
    for k in range(8):
        shuffled.observation(np.full(19, k, dtype=np.float32))
    assert shuffled.observation(np.full(19, 8, dtype=np.float32))[0] in (5, 6, 7)


def imitated(folder: Path, kind: str | None) -> Evaluation:
    """What imitation alone leaves, in scenarios of one wave, at a penalty at which no constant number is a good answer:
    who does not see, and holds everything, would else come close.
    """
    config = TrainConfig.model_validate(
        {
            "cluster": six_replicas(folder),
            "replica_capacity_rps": 200,
            "ranges": {
                "families": ["periodic"],
                "peak_load": [0.9, 0.9],
                "low_share": [0.1, 0.1],
                "slo_penalty": [3, 3],
            },
            "episode_steps": 40,
            "environments": 1,
            "total_steps": 1,
            "imitated_steps": 4000,
            "evaluation_scenarios": 4,
            "control": kind,
        }
    )
    train(config, folder / str(kind), lambda found: None, lambda share: None)
    return read_curve(folder / str(kind) / "curve.csv")[0]


@pytest.mark.timeout(300)
def test_who_sees_does_better_than_who_does_not(tmp_path: Path) -> None:
    seeing, blind = imitated(tmp_path, None), imitated(tmp_path, "shuffled")
    assert seeing.reward > blind.reward + 0.1  # 0 if the second saw, too: the seeds are the same
    assert json.loads((tmp_path / "shuffled" / "policy.json").read_text())["trained"]["control"] == "shuffled"
    read_policy(tmp_path / "None" / "policy.onnx")
    with pytest.raises(ConfigError, match=r"a control \(shuffled\).*it scales nothing"):
        read_policy(tmp_path / "shuffled" / "policy.onnx")
