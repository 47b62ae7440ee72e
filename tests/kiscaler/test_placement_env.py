"""The environment with placement does what its docstring says."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from testbed.autoscaling.features import FEATURES
from testbed.autoscaling.mixes import KindScale
from testbed.autoscaling.placement_features import KIND_FEATURES, KindState, feature_names
from testbed.kiscaler import PLACEMENT_ENV_ID
from testbed.kiscaler.placement_baselines import CheapestMix, Choose, Foreseeing, at_random
from testbed.kiscaler.placement_env import PlacementEnv
from testbed.kiscaler.placement_scenarios import PlacementScenarios, placement_scenarios
from testbed.kiscaler.scenarios import Ranges
from tests.oracles.two_kinds import profiles, two_kinds

FAST, SLOW = 0, 1
KINDS = {
    "fast": KindScale(per_replica_rps=180, gpu_cost=1.0),
    "slow": KindScale(per_replica_rps=90, gpu_cost=0.3),
}


def scenarios(*, max_replicas: int = 8, **ranges: object) -> PlacementScenarios:
    config = two_kinds(fast=3, slow=6, max_replicas=max_replicas)
    return placement_scenarios(config, profiles(), KINDS, Ranges(**ranges))  # type: ignore[arg-type]


def env(*, max_replicas: int = 8, steps: int = 20, **ranges: object) -> PlacementEnv:
    return PlacementEnv(scenarios(max_replicas=max_replicas, **ranges), steps=steps)


def play(one: PlacementEnv, choose: Choose, seed: int) -> tuple[float, float, float]:
    """Sums over an episode: reward, missed, gpu."""
    one.reset(options={"scenario_seed": seed})
    total, missed, gpu = 0.0, 0.0, 0.0
    for k in range(one.steps):
        _, reward, terminated, truncated, parts = one.step(np.int64(choose(one)))
        total, missed, gpu = total + reward, missed + parts["missed"], gpu + parts["gpu"]
        assert not terminated
        assert truncated == (k == one.steps - 1)
    return total, missed, gpu


def once(kind: int, replicas: int) -> Choose:
    """That change at the first step, then none."""
    left = [(kind, replicas)]
    return lambda one: one.action_of(*left.pop()) if left else 0


def nothing(one: PlacementEnv) -> int:
    return 0


def asked(one: PlacementEnv) -> tuple[int, ...]:
    return tuple(state.asked for state in one.states())


def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(env(), skip_render_check=True)
    made = gymnasium.make(PLACEMENT_ENV_ID, scenarios=scenarios())
    assert made.observation_space.shape == (len(FEATURES) + 2 * len(KIND_FEATURES),) == (19 + 6 * 2,)
    assert made.action_space == gymnasium.spaces.Discrete(1 + 2 * 2 * 2)  # as the docstring says


def test_the_same_seed_and_actions_give_the_same_episode() -> None:
    one, other = env(), env()
    assert one.reset(seed=7)[0].tobytes() == other.reset(seed=7)[0].tobytes()
    for k in range(10):
        ours, theirs = one.step(np.int64(k % 9)), other.step(np.int64(k % 9))
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert ours[1:] == theirs[1:]


def test_observations_stay_in_their_ranges_and_say_what_there_is_of_each_kind() -> None:
    one = env(peak_load=(1.5, 1.5))
    names = feature_names(("fast", "slow"))
    for seed in range(3):
        seen, _ = one.reset(seed=seed)
        for k in range(12):
            assert one.observation_space.contains(seen)
            of = dict(zip(names, seen.tolist(), strict=True))
            for kind, state in zip(("fast", "slow"), one.states(), strict=True):
                assert of[f"{kind}.asked"] == pytest.approx(state.asked / 8)
                assert of[f"{kind}.coming"] == pytest.approx((state.asked - state.ready) / 8)
                assert of[f"{kind}.room"] == pytest.approx(state.room / 8)
            assert of["fast.capacity"] + of["slow.capacity"] == pytest.approx(1.0)
            assert of["fast.cost"] >= of["fast.asked"] / (of["fast.asked"] + of["slow.asked"]) - 1e-6
            seen = one.step(np.int64((k * 5) % 9))[0]


def test_actions_change_one_kind_and_what_is_impossible_changes_nothing() -> None:
    one = env(peak_load=(0.3, 0.3), low_share=(0.2, 0.2))
    one.reset(options={"scenario_seed": 1})
    while asked(one)[FAST] > 0:
        one.step(np.int64(one.action_of(FAST, -1)))
    while asked(one)[SLOW] > 1:
        one.step(np.int64(one.action_of(SLOW, -1)))
    for kind, replicas, expected in (
        (SLOW, -1, (0, 1)),  # the last replica stays
        (FAST, -1, (0, 1)),
        (FAST, 2, (2, 1)),
        (FAST, 2, (2, 1)),  # three devices only
        (FAST, 1, (3, 1)),
        (SLOW, 2, (3, 3)),
        (SLOW, 2, (3, 5)),
        (SLOW, 1, (3, 5)),  # max_replicas
        (FAST, -2, (1, 5)),
        (SLOW, -2, (1, 3)),
    ):
        possible = one.action_masks()[one.action_of(kind, replicas)]
        before = asked(one)
        _, _, _, _, parts = one.step(np.int64(one.action_of(kind, replicas)))
        assert asked(one) == expected
        assert possible == (before != expected)
        assert (parts["churn"] > 0) == possible
    assert one.action_masks()[0]


def test_devices_that_still_drain_are_no_room() -> None:
    one = env(max_replicas=8)
    one.reset(options={"scenario_seed": 1})
    sim = one.world.sim
    sim.scale("m", 0, kind="slow")
    sim.scale("m", 3, kind="fast")
    sim.advance(sim.now_s + 30)
    sim.scale("m", 1, kind="fast")
    assert one.states()[FAST] == KindState(asked=1, ready=1, room=0)
    assert not one.action_masks()[one.action_of(FAST, 1)]


def test_the_reward_depends_on_the_action_and_on_the_kind() -> None:
    one = env(peak_load=(0.2, 0.2), families=("periodic",))
    rewards = {kind: play(one, once(kind, 1), seed=3) for kind in (FAST, SLOW)}
    idle = play(one, nothing, seed=3)
    assert len({idle[0], rewards[FAST][0], rewards[SLOW][0]}) == 3
    dear, cheap = rewards[FAST][2] - idle[2], rewards[SLOW][2] - idle[2]
    assert cheap == pytest.approx(0.3 * dear, rel=1e-6)  # both start at the same moment


def test_more_replicas_miss_no_more_and_cost_more() -> None:
    one = env(peak_load=(0.6, 0.6), families=("periodic",))
    for seed in range(3):
        same = play(one, nothing, seed)
        for kind in (FAST, SLOW):
            one.reset(options={"scenario_seed": seed})
            if one.action_masks()[one.action_of(kind, 1)]:
                more = play(one, once(kind, 1), seed)
                assert same[1] >= more[1]
                assert same[2] < more[2]


def test_a_random_policy_is_worse_than_leaving_what_is_enough_and_both_than_the_cheapest_mix() -> None:
    one = env(peak_load=(0.5, 0.5), families=("periodic",), period_s=(60.0, 60.0))

    def mean(choose: Choose) -> float:
        return float(np.mean([play(one, choose, seed)[0] for seed in range(4)]))

    def enough(at: PlacementEnv) -> int:
        return at.action_towards(at.world.pattern.peak_rps, at.mixes)

    random, fixed, reactive, knowing = (mean(c) for c in (at_random(1), enough, CheapestMix(1.0), Foreseeing()))
    assert random < fixed
    assert random < reactive < knowing


def test_a_mix_of_kinds_beats_each_kind_alone() -> None:
    one = env(peak_load=(0.5, 0.9), families=("periodic",), steps=40)
    mix, fast, slow = (
        np.mean([play(one, Foreseeing(kind), seed)[0] for seed in range(4)]) for kind in (None, "fast", "slow")
    )
    assert mix > max(fast, slow)


def test_what_goes_goes_after_what_comes() -> None:
    one = env(peak_load=(0.5, 0.5), families=("periodic",))
    one.reset(options={"scenario_seed": 2})
    sim = one.world.sim
    sim.scale("m", 0, kind="fast")
    sim.scale("m", 2, kind="slow")
    sim.advance(sim.now_s + 30)
    rate_rps = 0.99 * 2 * one.mixes.rates_rps[SLOW]
    only_fast = one.mixes.only("fast")
    first = one.changes[one.action_towards(rate_rps, only_fast)]
    assert first == (FAST, 1)
    sim.scale("m", 1, kind="fast")
    assert one.action_towards(rate_rps, only_fast) == 0  # it is not ready
    sim.advance(sim.now_s + 30)
    assert one.changes[one.action_towards(rate_rps, only_fast)] == (SLOW, -2)
