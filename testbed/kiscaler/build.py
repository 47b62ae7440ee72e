"""What a training's configuration describes: its scenarios and environments."""

from __future__ import annotations

from testbed.calibration.profile import ServiceProfile
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.scenarios import Scenarios, TrainedService
from testbed.kiscaler.train_config import TrainConfig
from testbed.simulation.cluster.config import ClusterConfig


def scenarios_of(config: TrainConfig) -> Scenarios:
    """The scenarios of a configuration; ArtifactError if a profile cannot be read."""
    others = tuple(
        TrainedService(other.cluster, _profiles(other.cluster), other.replica_capacity_rps) for other in config.others
    )
    profiles = _profiles(config.cluster)
    return Scenarios(config.cluster, profiles, config.replica_capacity_rps, config.ranges, config.step_s, others)


def _profiles(cluster: ClusterConfig) -> dict[str, ServiceProfile]:
    """Of its model, by kind of device."""
    return {kind: ServiceProfile.read(file) for kind, file in cluster.models[0].profiles.items()}


def make_env(config: TrainConfig, scenarios: Scenarios, *, teacher: bool = False) -> ScalingEnv | Shuffled:
    """One environment."""
    env = ScalingEnv(
        scenarios,
        config.weights,
        steps=config.episode_steps,
        max_step=config.max_step,
        teacher=teacher,
        base=config.base,
    )
    return env if config.control is None else Shuffled(env)
