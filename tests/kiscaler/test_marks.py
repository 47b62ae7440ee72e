"""Other policies in an agent's worlds: the same world, the same reward, each at its own scale."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from testbed.autoscaling.policy import Decision
from testbed.errors import ConfigError
from testbed.kiscaler.env import ScalingEnv, Weights, begin
from testbed.kiscaler.marks import PARTS, play, play_marks, policy_in
from testbed.kiscaler.scenarios import Ranges, Scenarios
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile

STEPS = 20
ORACLE = {"kind": "oracle", "per_replica_rps": "world", "ahead_s": "world"}


def scenarios(**ranges: Any) -> Scenarios:
    config = cluster(gpus=8, max_batch_size=4, max_replicas=8, latency_target_s=0.1, pod={"container_start_s": 1.0})
    profile = flat_profile((0.020, 0.024, 0.028, 0.032))
    return Scenarios(config, {GPU: profile}, per_replica_rps=90.0, ranges=Ranges(**ranges))


class UpAndDown(NamedTuple):
    """One more, then one fewer."""

    name: str = "up-and-down"
    period_s: float = 5.0

    def decide(self, seen: Any, memory: int | None) -> Decision:
        turn = memory or 0
        return Decision(seen.spec_replicas + (1 if turn % 2 == 0 else -1), turn + 1, "")


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_policy_that_does_what_an_agent_does_gets_its_reward(seed: int) -> None:
    env = ScalingEnv(scenarios(peak_load=(0.5, 0.6)), steps=STEPS, reach=1)
    env.reset(options={"scenario_seed": seed})
    expected = np.zeros(len(PARTS))
    for k in range(STEPS):
        _, reward, _, _, told = env.step(np.int64(2 if k % 2 == 0 else 0))
        expected += (reward, *(told[name] for name in PARTS[1:]))
    assert expected[PARTS.index("churn")] > 0
    found = play(UpAndDown(), begin(scenarios(peak_load=(0.5, 0.6)), seed), Weights(), STEPS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_settings_may_be_the_worlds_own() -> None:
    worlds = [begin(scenarios(), seed) for seed in (1, 2)]
    told = [policy_in(world, {**ORACLE, "min_replicas": 2}, "oracle") for world in worlds]
    for world, policy in zip(worlds, told, strict=True):
        assert policy.per_replica_rps == world.scale.per_replica_rps  # type: ignore[attr-defined]
        assert policy.ahead_s == world.scale.ahead_s  # type: ignore[attr-defined]
        assert policy.max_replicas == 8  # type: ignore[attr-defined]
        assert policy.rate_rps(10.0) == world.pattern.rate_rps(np.array([10.0]))[0]  # type: ignore[attr-defined]
    assert told[0].per_replica_rps != told[1].per_replica_rps  # type: ignore[attr-defined]


def test_who_knows_the_traffic_misses_less_than_one_replica_and_holds_less_than_all() -> None:
    marks = {"one": {"kind": "fixed", "replicas": 1}, "all": {"kind": "fixed", "replicas": 8}, "oracle": ORACLE}
    found = play_marks(marks, scenarios(peak_load=(0.7, 0.7)), Weights(), STEPS, [1, 2])
    assert list(found) == list(marks)
    assert found["oracle"]["reward"] > max(found["one"]["reward"], found["all"]["reward"])
    assert found["one"]["missed"] > found["oracle"]["missed"]
    assert found["one"]["gpu"] < found["oracle"]["gpu"] < found["all"]["gpu"] <= 1
    assert found == play_marks(marks, scenarios(peak_load=(0.7, 0.7)), Weights(), STEPS, [1, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hpaa"}, r"marks.mine: unknown policy 'hpaa': did you mean 'hpa'\?"),
        ({"kind": "hpa", "metric": "requests_per_second", "target": "world"}, r"marks.mine.target: a world has no"),
        ({"kind": "fixed", "replicas": "many"}, r"marks.mine: policy fixed: replicas: .*got 'many'"),
        ({"kind": "predictive", "per_replica_rps": 0, "ahead_s": "world"}, r"marks.mine: policy predictive: per_rep"),
    ],
)
def test_what_is_no_mark_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        play_marks({"fine": {"kind": "fixed", "replicas": 1}, "mine": settings}, scenarios(), Weights(), STEPS, [1])
