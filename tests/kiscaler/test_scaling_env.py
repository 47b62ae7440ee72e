"""The learning environment does what its docstring says."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from loadgen.patterns import families
from testbed.autoscaling.features import FEATURES
from testbed.kiscaler import ENV_ID
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.scenarios import Scenarios, TrainedService
from testbed.kiscaler.train_config import Ranges
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile
from workloads.errors import KisError

MEAN_S = (0.020, 0.024, 0.028, 0.032)  # 125 requests/s at most; 90 within the target
MAX_STEP = 3


def scenarios(**ranges: object) -> Scenarios:
    config = cluster(gpus=8, max_batch_size=4, max_replicas=8, latency_target_s=0.1, pod={"container_start_s": 1.0})
    return Scenarios(config, {GPU: flat_profile(MEAN_S)}, replica_capacity_rps=90.0, ranges=Ranges(**ranges))  # type: ignore[arg-type]


def env(**ranges: object) -> ScalingEnv:
    return ScalingEnv(scenarios(**ranges), steps=20, max_step=MAX_STEP)


def play(one: ScalingEnv, choose: Callable[[int], int], seed: int) -> tuple[float, float, float]:
    """Sums over an episode: reward, missed, gpu."""
    one.reset(options={"scenario_seed": seed})
    total, missed, gpu = 0.0, 0.0, 0.0
    for k in range(one.steps):
        _, reward, terminated, truncated, parts = one.step(np.int64(choose(k)))
        total, missed, gpu = total + reward, missed + parts["slo_violation_rate"], gpu + parts["gpu"]
        assert not terminated
        assert truncated == (k == one.steps - 1)
    return total, missed, gpu


def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(env(), skip_render_check=True)
    made = gymnasium.make(ENV_ID, scenarios=scenarios())
    assert made.observation_space.shape == (len(FEATURES),) == (19,)  # as the docstring says


def test_the_same_seed_and_actions_give_the_same_episode() -> None:
    one, other = env(), env()
    first, _ = one.reset(seed=7)
    second, _ = other.reset(seed=7)
    assert first.tobytes() == second.tobytes()
    for k in range(10):
        ours, theirs = one.step(np.int64(k % 7)), other.step(np.int64(k % 7))
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert ours[1:] == theirs[1:]
    assert one.reset(seed=8)[0].tobytes() != first.tobytes()


def test_observations_stay_in_their_ranges() -> None:
    one = env(peak_load=(1.5, 1.5))
    for seed in range(3):
        seen, _ = one.reset(seed=seed)
        for k in range(12):
            assert one.observation_space.contains(seen)
            seen = one.step(np.int64((k * 5) % 7))[0]


def test_the_reward_depends_on_the_action() -> None:
    one = env(peak_load=(0.8, 0.8), families=("periodic",))
    rewards = {play(one, lambda k, a=action: a, seed=3)[0] for action in (0, MAX_STEP, 2 * MAX_STEP)}
    assert len(rewards) == 3


def test_more_replicas_miss_no_more_and_cost_more() -> None:
    one = env(peak_load=(0.7, 0.7), families=("periodic",))
    for seed in range(3):
        fewer = play(one, lambda k: 0 if k == 0 else MAX_STEP, seed)  # three fewer than the start, then left alone
        same = play(one, lambda k: MAX_STEP, seed)
        more = play(one, lambda k: 2 * MAX_STEP if k == 0 else MAX_STEP, seed)
        assert fewer[1] >= same[1] >= more[1]
        assert fewer[2] <= same[2] < more[2]


def test_a_random_policy_is_worse_than_leaving_what_is_enough() -> None:
    one = env(peak_load=(0.5, 0.5), families=("periodic",))
    rng = np.random.default_rng(1)
    fixed = np.mean([play(one, lambda k: MAX_STEP + 1 if k < 2 else MAX_STEP, seed)[0] for seed in range(4)])
    random = np.mean([play(one, lambda k: int(rng.integers(2 * MAX_STEP + 1)), seed)[0] for seed in range(4)])
    assert random < fixed


def test_scenarios_differ_within_their_ranges() -> None:
    drawn = [scenarios().draw(seed) for seed in range(60)]
    assert {one.pattern.name for one in drawn} == {kind.name for kind in families().values()}
    assert all(90 / 1.25 <= one.scale.replica_capacity_rps <= 90 / 0.8 for one in drawn)
    assert len({one.scale.provisioning_delay_s for one in drawn}) == len(drawn)
    assert {one.pattern.parameters()["mode"] for one in drawn if one.pattern.name == "bursty"} == {"spikes", "on_off"}
    for one in drawn:
        low = 0.03 if one.pattern.name == "trace" else 0.3  # it need not reach its peak
        assert low * 0.999 <= one.pattern.peak_rps / (8 * one.scale.replica_capacity_rps) <= 0.9 * 1.001


def test_several_services_are_drawn_each_at_its_own_scale() -> None:
    pods = [{"container_start_s": 1.0, "load_s": load_s} for load_s in (2.0, 60.0)]
    quick, slow = (
        cluster(gpus=8, max_batch_size=4, max_replicas=most, latency_target_s=0.1, pod=pod)
        for most, pod in zip((8, 4), pods, strict=True)
    )
    profiles = {GPU: flat_profile(MEAN_S)}
    ranges = Ranges(load_factor=(0.5, 1.5), period=(10.0, 40.0), step=(0.2, 0.5), families=("periodic",))
    both = Scenarios(quick, profiles, 90.0, ranges, others=(TrainedService(slow, profiles, 45.0),))
    drawn = [both.draw(seed) for seed in range(40)]
    assert {one.scale.max_replicas for one in drawn} == {4, 8}
    for one in drawn:
        load_s = 60.0 if one.scale.max_replicas == 4 else 2.0
        assert 0.5 * load_s <= one.scale.provisioning_delay_s - 2.15 <= 1.5 * load_s
        assert 0.2 <= one.scale.step_s / one.scale.provisioning_delay_s <= 0.5
        assert 10 <= one.pattern.parameters()["period_s"] / one.scale.provisioning_delay_s <= 40
    one_env = ScalingEnv(both, steps=5, max_step=MAX_STEP)
    for seed in range(6):
        play(one_env, lambda k: 2 * MAX_STEP, seed)
        assert len(one_env._run.sim.wanted("m")) == one_env._scenario.scale.max_replicas  # not the other's


def test_impossible_ranges_are_named() -> None:
    with pytest.raises(KisError, match=r"load_s is \(5, 1\)"):
        scenarios(load_s=(5.0, 1.0))
    with pytest.raises(KisError, match=r"step is \(0, 1\); give 0 < low <= high"):
        scenarios(step=(0.0, 1.0))
    with pytest.raises(KisError, match=r"load_factor is of pod.load_s: give each cluster's model one"):
        scenarios(load_factor=(0.5, 1.0))
    with pytest.raises(KisError, match="slo_penalty begins at 0"):
        scenarios(slo_penalty=(0.0, 1.0))
    with pytest.raises(KisError, match="families are ramp"):
        scenarios(families=("rampp",))


def test_the_reward_is_what_the_docstring_says() -> None:
    one = env(peak_load=(0.9, 0.9), slo_penalty=(25.0, 25.0))
    one.reset(seed=2)
    missed = 0.0
    for k in range(one.steps):
        _, reward, _, _, told = one.step(np.int64(0 if k < 2 else 2 * MAX_STEP))
        assert told["slo_penalty"] == pytest.approx(25.0)
        assert reward == pytest.approx(-(25 * told["slo_violation_rate"] + told["gpu"] + 0.1 * told["churn"]) / 5)
        missed += told["slo_violation_rate"]
    assert missed > 0


def test_an_action_that_a_limit_undoes_is_none() -> None:
    one = env(peak_load=(0.5, 0.5))
    one.reset(seed=4)
    acted = [one.step(np.int64(action))[4]["acted"] for action in (0, 0, 0, 0, MAX_STEP, MAX_STEP + 1, 0, 0)]
    assert acted[-4:] == [0.0, 1.0, 1.0, 0.0]  # stay, up to 2, down to 1, no further
    assert acted[3] == 0.0  # 8 replicas are gone after three


def test_an_agent_sees_its_last_change() -> None:
    one = env(peak_load=(0.5, 0.5))
    one.reset(seed=1)
    for metrics_delay_s in (5.0, 10.0):  # a step later nothing has changed
        seen, *_ = one.step(np.int64(MAX_STEP + 2 if metrics_delay_s == 5.0 else MAX_STEP))
        features = dict(zip(FEATURES, seen.tolist(), strict=True))
        assert features["last_change"] == pytest.approx(2 / 8)
        provisioning_delay_s = 20 * 5.0 * features["ahead"]
        assert features["since_change"] == pytest.approx(metrics_delay_s / (10 * provisioning_delay_s), rel=1e-5)
