"""What `kis plan` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from testbed.config import RequestTraffic, Strict


class PlanGrid(Strict):
    """The settings to choose from."""

    max_replicas: int = Field(16, ge=1, description="largest number of replicas to try")
    instances: tuple[int, ...] = Field((1,), description="numbers of instances to try")
    max_batch_size: tuple[int, ...] = Field(
        (), description="largest batch sizes to try; none: the largest measured one, and half of it"
    )
    queue_delay_s: tuple[float, ...] = Field((0.0,), description="longest queue delays to try")


class PlannedGpu(Strict):
    """Another kind of GPU that the replicas could have."""

    profile: Path = Field(description="profile of the same model on it")
    price_per_gpu_hour: float = Field(ge=0, description="price of an hour of one, which a replica has for itself")


class PlanConfig(PlanGrid):
    """`kis plan`: a profile, traffic, a target, and the settings to choose from."""

    profile: Path = Field(description="profile-<model>.json of a calibration")
    target_ms: float = Field(gt=0, description="latency target")
    percentile: float = Field(95, ge=1, le=99.999, description="latency percentile of the target")
    traffic: RequestTraffic = RequestTraffic()
    price_per_gpu_hour: float | None = Field(
        None, ge=0, description="price of an hour of the profile's GPU, which a replica has for itself; none: no money"
    )
    currency: str | None = Field(None, min_length=1, description="currency of the prices, e.g. EUR")
    other_gpus: dict[str, PlannedGpu] = Field(
        {}, description="further kinds of GPU, by any name; the cheapest that holds is recommended"
    )

    @model_validator(mode="after")
    def _prices_fit(self) -> Self:
        if self.other_gpus and self.price_per_gpu_hour is None:
            raise ValueError("other_gpus are compared by money: give price_per_gpu_hour of the profile's GPU too")
        if (self.price_per_gpu_hour is None) != (self.currency is None):
            raise ValueError("give price_per_gpu_hour and currency together, e.g. `currency: EUR`")
        return self
