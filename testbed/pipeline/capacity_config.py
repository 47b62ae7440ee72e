"""What `kis plan` is given."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from testbed.config import Strict, TrafficConfig


class PlanGrid(Strict):
    """The settings to choose from."""

    max_replicas: int = Field(16, ge=1, description="largest number of replicas to try")
    instances: tuple[int, ...] = Field((1,), description="numbers of instances to try")
    max_batch_size: tuple[int, ...] = Field(
        (), description="largest batch sizes to try; none: the largest measured one, and half of it"
    )
    queue_delay_s: tuple[float, ...] = Field((0.0,), description="longest queue delays to try")


class PlanConfig(PlanGrid):
    """`kis plan`: a profile, traffic, a target, and the settings to choose from."""

    profile: Path = Field(description="profile-<model>.json of a calibration")
    target_ms: float = Field(gt=0, description="latency target")
    percentile: float = Field(95, ge=1, le=99.999, description="latency percentile of the target")
    traffic: TrafficConfig = TrafficConfig()
