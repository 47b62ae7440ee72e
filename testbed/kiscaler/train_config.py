"""The configuration of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from loadgen.patterns import families
from testbed.autoscaling.settings import PolicySettings
from testbed.config import Strict, current_names
from testbed.kiscaler import methods  # noqa: F401 - they register themselves
from testbed.kiscaler.learner import METHODS
from testbed.simulation.cluster.config import ClusterConfig
from workloads.errors import KisError

Range = tuple[float, float]


@dataclass(frozen=True)
class Weights:
    """Of the reward's parts, beside the penalty of what is missed, which is the drawn scenario's."""

    gpu: float = 1.0
    churn: float = 0.1


@dataclass(frozen=True)
class Ranges:
    """What is drawn anew for each episode, uniformly; a range of one value draws nothing."""

    peak_load: Range = (0.3, 0.9)  # of what max_replicas serve within the target
    low_share: Range = (0.1, 0.5)  # of the peak
    period_s: Range = (60.0, 240.0)  # of a wave, a spike's distance, a redrawn rate (a fifth of it)
    service: Range = (0.8, 1.25)  # factor on batch times
    load_s: Range = (1.0, 5.0)  # start-up, after the container's start
    metrics_delay_s: Range = (0.0, 2.0)  # of metrics
    slo_penalty: Range = (3.0, 30.0)  # of a miss (env.py); its logarithm is uniform
    load_factor: Range | None = None  # on each service's own load_s, in place of load_s
    period: Range | None = None  # in start-up times, in place of period_s; its logarithm is uniform
    step: Range | None = None  # from one decision to the next, in start-up times, in place of step_s
    families: tuple[str, ...] = field(default_factory=lambda: tuple(families()))  # of traffic: all that patterns draw

    def __post_init__(self) -> None:
        for name in ("peak_load", "low_share", "period_s", "service", "load_s", "metrics_delay_s", "slo_penalty"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise KisError(f"ranges of scenarios: {name} is ({low:g}, {high:g}); give 0 <= low <= high")
        for name in ("load_factor", "period", "step"):
            low, high = getattr(self, name) or (1.0, 1.0)
            if not 0 < low <= high:
                raise KisError(f"ranges of scenarios: {name} is ({low:g}, {high:g}); give 0 < low <= high")
        if self.slo_penalty[0] <= 0:
            raise KisError(
                f"ranges of scenarios: slo_penalty begins at {self.slo_penalty[0]:g}; give penalties above 0"
            )
        known = families()
        if not self.families or set(self.families) - set(known):
            raise KisError(f"ranges of scenarios: families are {', '.join(known)}, not {', '.join(self.families)}")


class OtherService(Strict):
    """A further service that scenarios are drawn for."""

    cluster: ClusterConfig = Field(description="cluster whose one model is scaled")
    replica_capacity_rps: float = Field(gt=0, description="requests/s that one replica serves within the target")


class TrainConfig(Strict):
    """`kis train`: in which scenarios, for which reward, for how long."""

    cluster: ClusterConfig = Field(description="cluster in which the policy is trained; its one model is scaled")
    replica_capacity_rps: float = Field(
        gt=0, description="requests/s that one replica serves within the target (see `kis plan`)"
    )
    others: tuple[OtherService, ...] = Field(
        (), description="further services: each episode draws one of all; their ranges are relative to them"
    )
    ranges: Ranges = Field(Ranges(), description="ranges of the properties that are sampled for each episode")
    weights: Weights = Field(Weights(), description="weights of the reward")
    step_s: float = Field(5.0, gt=0, description="time between two decisions")
    episode_steps: int = Field(60, ge=1, description="decisions in an episode")
    max_step: int = Field(2, ge=1, description="largest change of one decision")
    method: Annotated[str, AfterValidator(METHODS.checked)] = Field(
        "ppo", description=f"learning method: {', '.join(METHODS.known())}, or my_module:MyLearner"
    )
    total_steps: int = Field(300_000, ge=1, description="decisions, over all environments")
    imitated_steps: int = Field(
        60_000,
        ge=0,
        description="decisions imitated from a teacher before PPO; 0: no teacher. With another method nothing is "
        "imitated, whatever is given here",
    )
    environments: int = Field(6, ge=1, description="number of simulating processes; three per core keep it busy")
    evaluate_every: int = Field(20_000, ge=1, description="decisions between two evaluations")
    evaluation_scenarios: int = Field(
        12, ge=1, description="number of evaluation scenarios, never used in training, the same at each evaluation"
    )
    baselines: dict[str, PolicySettings] = Field({}, description="policies to compare with, by name")
    base: Literal["rule"] | None = Field(
        None,
        description="policy that the network corrects; none: it decides alone. The teacher's correction is imitated",
    )
    control: Literal["shuffled"] | None = Field(None, description="negative control: train on shuffled observations")
    patience: int = Field(8, ge=1, description="evaluations without an improvement after which the training ends")
    seed: int = Field(0, description="seed of all random values")

    @property
    def shown_steps(self) -> int:
        """Decisions that a teacher shows: none to a method that does not imitate."""
        return self.imitated_steps if METHODS.find(self.method).imitates else 0

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
