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

    cluster: ClusterConfig = Field(description="its one model is what is scaled")
    replica_capacity_rps: float = Field(
        gt=0, description="that one replica serves within the target (`kis plan` tells)"
    )
    ranges: Ranges = Field(Ranges(), description="what is drawn anew for each episode")
    weights: Weights = Field(Weights(), description="of the reward")
    step_s: float = Field(5.0, gt=0, description="from one decision to the next")
    episode_steps: int = Field(60, ge=1, description="decisions of an episode")
    max_step: int = Field(2, ge=1, description="largest change of one decision")
    total_steps: int = Field(300_000, ge=1, description="decisions, of all environments together")
    imitated_steps: int = Field(60_000, ge=0, description="decisions that a teacher shows before; 0: no teacher")
    environments: int = Field(6, ge=1, description="processes that simulate; three for each core keep it busy")
    evaluate_every: int = Field(20_000, ge=1, description="decisions")
    evaluation_scenarios: int = Field(12, ge=1, description="never trained on, the same at each evaluation")
    baselines: dict[str, PolicySettings] = Field({}, description="policies to compare with, by name (baselines.py)")
    control: Literal["shuffled"] | None = Field(None, description="learn from others' observations (control.py)")
    patience: int = Field(8, ge=1, description="evaluations without a better one, then it ends")
    seed: int = Field(0, description="of everything that is drawn")

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
