"""What `kis plan` is given."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from testbed.config import Strict, TrafficConfig


class PlanGrid(Strict):
    """What may be chosen."""

    max_replicas: int = Field(16, ge=1, description="most that are tried")
    instances: tuple[int, ...] = Field((1,), description="to try")
    max_batch_size: tuple[int, ...] = Field(
        (), description="to try; none: the largest that was measured, and half of it"
    )
    queue_delay_s: tuple[float, ...] = Field((0.0,), description="longest waits for a full batch, to try")


class PlanConfig(PlanGrid):
    """`kis plan`: a profile, traffic, a target, and what may be chosen."""

    profile: Path = Field(description="a calibration's profile-<model>.json")
    target_ms: float = Field(gt=0, description="latency to hold")
    percentile: float = Field(95, ge=1, le=99.999, description="of the latency")
    traffic: TrafficConfig = TrafficConfig()
