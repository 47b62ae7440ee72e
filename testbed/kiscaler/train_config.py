"""The configuration of a training, and what it is of: scenarios and environments."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from testbed.calibration.profile import ServiceProfile
from testbed.config import PolicySettings, Strict, current_names
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv, Weights
from testbed.kiscaler.scenarios import Ranges, Scenarios
from testbed.simulation.cluster.config import ClusterConfig


class TrainConfig(Strict):
    """`kis train`: in which scenarios, for which reward, for how long."""

    cluster: ClusterConfig = Field(description="cluster in which the policy is trained; its one model is scaled")
    replica_capacity_rps: float = Field(
        gt=0, description="requests/s that one replica serves within the target (see `kis plan`)"
    )
    ranges: Ranges = Field(Ranges(), description="ranges of the properties that are sampled for each episode")
    weights: Weights = Field(Weights(), description="weights of the reward")
    step_s: float = Field(5.0, gt=0, description="time between two decisions")
    episode_steps: int = Field(60, ge=1, description="decisions in an episode")
    max_step: int = Field(2, ge=1, description="largest change of one decision")
    total_steps: int = Field(300_000, ge=1, description="decisions, over all environments")
    imitated_steps: int = Field(60_000, ge=0, description="decisions imitated from a teacher before PPO; 0: no teacher")
    environments: int = Field(6, ge=1, description="number of simulating processes; three per core keep it busy")
    evaluate_every: int = Field(20_000, ge=1, description="decisions between two evaluations")
    evaluation_scenarios: int = Field(
        12, ge=1, description="number of evaluation scenarios, never used in training, the same at each evaluation"
    )
    baselines: dict[str, PolicySettings] = Field({}, description="policies to compare with, by name")
    control: Literal["shuffled"] | None = Field(None, description="negative control: train on shuffled observations")
    patience: int = Field(8, ge=1, description="evaluations without an improvement after which the training ends")
    seed: int = Field(0, description="seed of all random values")

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_trainings(cls, data: Any) -> Any:
        """Of before December 2026: other names, `world` for `scenario`, and a `placement` that was never given."""
        if not isinstance(data, dict):
            return data
        now = {key: current_names(value) if key != "cluster" else value for key, value in data.items()}
        if "marks" in now:
            now["marks"] = {name: _with_scenario(settings) for name, settings in now["marks"].items()}
        return {key: value for key, value in now.items() if (key, value) != ("placement", {})}


def _with_scenario(settings: Any) -> Any:
    """A baseline's settings, in which the drawn scenario was called world."""
    if not isinstance(settings, dict):
        return settings
    return {key: "scenario" if value == "world" else value for key, value in settings.items()}


def scenarios_of(config: TrainConfig) -> Scenarios:
    """The scenarios of a configuration; ArtifactError if a profile cannot be read."""
    profiles = {kind: ServiceProfile.read(file) for kind, file in config.cluster.models[0].profiles.items()}
    return Scenarios(config.cluster, profiles, config.replica_capacity_rps, config.ranges, config.step_s)


def make_env(config: TrainConfig, scenarios: Scenarios, *, teacher: bool = False) -> ScalingEnv | Shuffled:
    """One environment."""
    env = ScalingEnv(scenarios, config.weights, steps=config.episode_steps, max_step=config.max_step, teacher=teacher)
    return env if config.control is None else Shuffled(env)
