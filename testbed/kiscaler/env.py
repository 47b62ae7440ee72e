"""The environment that KIScaler learns in: a simulated cluster, one decision every step_s."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import Past, bounds, features_of, with_proposal
from testbed.autoscaling.policies.corrected import rule_of
from testbed.autoscaling.rollout import outcome_of, rollout
from testbed.autoscaling.simulated import PolicyRun, SimulatedObservation
from testbed.kiscaler.scenarios import Scenario, Scenarios
from testbed.kiscaler.train_config import Weights

FloatArray = npt.NDArray[np.float32]
KEPT_S = 20.0  # that the teacher keeps a recent peak, for each unit of the penalty
KEPT_AT_MOST_S = 400.0
GRID_S = 0.5


class StepReward(NamedTuple):
    """Of one step: the reward, and its parts, unweighted (see ScalingEnv)."""

    reward: float
    slo_violation_rate: float
    gpu: float
    churn: float


def begin(scenarios: Scenarios, seed: int) -> Scenario:
    """The scenario of that seed at the moment of the first decision: it has run until there are metrics."""
    scenario = scenarios.draw(seed)
    scenario.sim.advance(scenario.scale.metrics_delay_s + scenario.scale.step_s + scenario.sim.config.scrape_period_s)
    return scenario


def pass_step(run: PolicyRun, scenario: Scenario, weights: Weights) -> StepReward:
    """Let one step pass in the run of a scenario. What is asked for at its end belongs to the next step."""
    model, scale = scenario.model, scenario.scale
    before = outcome_of(run, model)
    passed = rollout(run, model, run.sim.now_s + scale.step_s).since(before)
    missed = passed.slo_violation_rate or 0.0
    gpu = passed.gpu_seconds / (scale.max_replicas * scale.step_s)
    churn = passed.replicas_changed / scale.max_replicas
    cost = scale.slo_penalty * missed + weights.gpu * gpu + weights.churn * churn
    return StepReward(-cost / math.sqrt(scale.slo_penalty), missed, gpu, churn)


def replicas_of_teacher(scenario: Scenario, now_s: float) -> int:
    """What a policy imitates before it learns by itself: one that knows the traffic of the drawn scenario.

    Nobody knows that much on a cluster. What cannot be foreseen there is not told here either: the teacher then keeps
    what the recent peak needs, the longer the more a miss costs; and a burst is foreseen only once it has come back.
    """
    scale, pattern = scenario.scale, scenario.pattern
    until_s = now_s + scale.provisioning_delay_s + scale.metrics_delay_s + 2 * scale.step_s
    known = now_s > pattern.foreseen_after_s
    kept_s = 0.0 if known else min(KEPT_AT_MOST_S, KEPT_S * scale.slo_penalty)
    times_s = np.arange(max(0.0, now_s - kept_s), until_s if known else now_s + GRID_S, GRID_S)
    peak_rps = float(pattern.rate_rps(times_s).max())
    return min(max(1, math.ceil(peak_rps / scale.replica_capacity_rps - 1e-9)), scale.max_replicas)


class ScalingEnv(gymnasium.Env[FloatArray, np.int64]):
    """One deployment of a simulated cluster, scaled by an agent.

    Observation: float32[19], cut to its ranges, from what a cluster exposes, as old as it is there, and from what the
    policy remembers of it (testbed/autoscaling/features.py is the table: asked, one, coming, load, level, trend,
    season, strength, cycles, peak_15, peak_60, peak, utilisation, queue_time, waiting, ahead, since_change,
    last_change, slo_penalty).

    Action: Discrete(2 k + 1), a change of the number of replicas by action - k, -k..k. What would leave 1..max_replicas
    is cut at the bound.

    base: with `rule`, the action corrects what that rule proposes instead of the number that is there, and the
    observation has the proposal as its last number (testbed/autoscaling/policies/corrected.py).

    Reward, a step: - penalty * share of the step's requests that were answered late or not at all
                    - gpu * time that pods held devices, of what max_replicas would hold
                    - churn * |change| / max_replicas, all divided by sqrt(penalty).
    The penalty is the scenario's (Ranges), and the policy is given it: one network then serves who cares much and who
    cares little. Its root keeps the rewards of both about as large. A request counts in the step in which it ends. info
    has the parts, unweighted, and the penalty.

    Start: `reset(seed)` draws a scenario (scenarios.py), with as many replicas as the first moment's rate needs, and
    lets it run until there are metrics. The same seed gives the same episode.
    End: after `steps` steps the episode is truncated. It never terminates: a service has no end.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's own attribute
    _scenario: Scenario  # from the first reset on
    _run: PolicyRun  # of the scenario, under no policy: the agent is the one that scales

    def __init__(
        self,
        scenarios: Scenarios,
        weights: Weights | None = None,
        *,
        steps: int = 60,
        max_step: int = 3,
        teacher: bool = False,
        base: str | None = None,
    ) -> None:
        self.scenarios, self.weights, self.steps, self.max_step = scenarios, weights or Weights(), steps, max_step
        self._teacher, self._base = teacher, base
        low, high = bounds(base)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(2 * max_step + 1)
        self._begin()

    def _begin(self) -> None:
        self._taken, self._past = 0, Past(0.0, 0)
        self._rule_memory: Any = None
        self._proposed = 0  # by the rule, if there is one

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """See gymnasium.Env. options: {"scenario_seed": n} names the scenario, whatever the seed."""
        super().reset(seed=seed)
        number = (options or {}).get("scenario_seed")
        self._scenario = begin(self.scenarios, int(self.np_random.integers(2**31)) if number is None else int(number))
        self._run = PolicyRun(self._scenario.sim, {})
        self._begin()
        return self._observe(), self._teachers_action()  # in this order: the rule's proposal is a part of the first

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """See gymnasium.Env."""
        sim, model = self._run.sim, self._scenario.model
        replicas = len(sim.wanted(model))
        largest = self._scenario.scale.max_replicas
        wanted = int(np.clip(self._start() + int(action) - self.max_step, 1, largest))
        acted = float(wanted != int(np.clip(self._start(), 1, largest)))
        if wanted != replicas:
            self._past = self._past._replace(change_s=sim.now_s, change=wanted - replicas)
            self._run.scale(model, wanted, "the agent")
        reward, *parts = pass_step(self._run, self._scenario, self.weights)
        self._taken += 1
        info = dict(
            zip(StepReward._fields[1:], parts, strict=True), slo_penalty=self._scenario.scale.slo_penalty, acted=acted
        )
        observed = self._observe()
        return observed, reward, False, self._taken >= self.steps, info | self._teachers_action()

    def _start(self) -> int:
        """What an action changes."""
        return len(self._run.sim.wanted(self._scenario.model)) if self._base is None else self._proposed

    def _teachers_action(self) -> dict[str, Any]:
        """Now, if it is asked for."""
        if not self._teacher:
            return {}
        change = replicas_of_teacher(self._scenario, self._run.sim.now_s) - self._start()
        return {"teacher": int(np.clip(change, -self.max_step, self.max_step)) + self.max_step}

    def _observe(self) -> FloatArray:
        observation = SimulatedObservation(self._run.sim, self._scenario.model)
        features, self._past = features_of(observation, self._past, self._scenario.scale)
        if self._base is not None:
            proposal = rule_of(self._scenario.scale).decide(observation, self._rule_memory)
            self._rule_memory, self._proposed = proposal.memory, proposal.replicas
        if features is None:  # every pod was lost: nothing is known, which reads as nothing there
            return np.zeros(self.observation_space.shape or (), dtype=np.float32)
        if self._base is None:
            return features
        return with_proposal(features, self._proposed, observation.spec_replicas, self._scenario.scale)
