"""What `kis benchmark` is given: services, traffic that is drawn, and the policies that meet on it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from loadgen.patterns import families
from loadgen.traces import TraceReading
from testbed.autoscaling.hpa.spec import ControllerFlags
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.settings import PolicySettings
from testbed.config import Strict
from testbed.pipeline.objective import DESCRIPTION, Objective, check
from testbed.pipeline.tune_config import RESERVED
from testbed.simulation.cluster.config import ClusterConfig

Range = tuple[float, float]


class RecordedRate(Strict, TraceReading):
    """The rate of a recorded trace, to draw arrivals from: at any scale, and faster."""

    trace: Path = Field(description="file with recorded arrivals or counts")
    interval_s: float = Field(gt=0, description="interval in which its rate is counted, before it is sped up")
    per_start_up_s: float = Field(
        gt=0, description="seconds of the trace that pass in one start-up time of the service: its speed"
    )


class DrawnTraffic(Strict):
    """From what traffic is drawn, uniformly; a range of one value draws nothing."""

    families: tuple[str, ...] = Field(
        default_factory=lambda: tuple(families()), min_length=1, description="families of patterns"
    )
    traces: dict[str, RecordedRate] = Field({}, description="recorded traces, by any name")
    peak_load: Range = Field((0.3, 0.9), description="peak rate, of what max_replicas serve within the target")
    low_share: Range = Field((0.1, 0.6), description="lowest rate, of the peak")
    period: Range = Field((10.0, 45.0), description="period of a pattern, in start-up times of the service")
    length: float = Field(120.0, gt=0, description="length of a run, in start-up times of the service")
    held_out: float = Field(0.5, gt=0, lt=1, description="last share of each trace, which only held-out worlds show")

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [family for family in self.families if family not in families()]
        if unknown:
            raise ValueError(f"families: {', '.join(unknown)} is none of {', '.join(families())}")
        for name in ("peak_load", "low_share", "period"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is ({low:g}, {high:g}): give 0 < low <= high")
        return self


class BenchmarkedService(Strict):
    """A service on its cluster, and the clocks there."""

    cluster: ClusterConfig = Field(description="simulated cluster; its one model is scaled")
    flags: ControllerFlags = Field(ControllerFlags(), description="flags of the cluster's controller manager")
    window_s: float = Field(15.0, gt=0, description="averaging window of the adapter")
    metrics_delay_s: float = Field(1.0, ge=0, description="age of the newest sample that a policy sees")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: a policy scales one model, this cluster has {len(self.cluster.models)}")
        return self


class BenchmarkConfig(Strict):
    """`kis benchmark`: each candidate is tuned for each service on training worlds, and meets the others on held-out
    worlds."""

    services: dict[str, BenchmarkedService] = Field(min_length=1, description="services, by any name")
    traffic: DrawnTraffic = Field(DrawnTraffic(), description="from what the worlds' traffic is drawn")
    candidates: dict[str, PolicySettings] = Field(
        min_length=2, description="policies to tune, by any name: their kind, and the settings that are not searched"
    )
    compared: dict[str, PolicySettings] = Field(
        {},
        description="policies that are played as they are, such as a fixed number (at most the service's replicas)",
    )
    allowed_slo_violation_rate: float = Field(
        0.02, gt=0, lt=1, description="share of requests at which the policies' GPU-seconds are compared"
    )
    objective: Objective = Field("gpu_seconds", description=DESCRIPTION)
    training_worlds: int = Field(8, ge=1, description="worlds of each service that settings are searched on")
    held_out_worlds: int = Field(8, ge=3, description="worlds of each service that policies meet on")
    seeds: int = Field(5, ge=1, description="runs of each held-out world, each with other arrivals")
    trials: int = Field(40, ge=1, description="settings to try, of each candidate for each service")
    searches: int = Field(
        1, ge=1, description="searches of each candidate for each service, each with other seeds: what luck does there"
    )
    seed: int = Field(0, description="seed of the worlds and searches")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for what, names in (("services", self.services), ("candidates", self.candidates), ("compared", self.compared)):
            for name in names:
                if not name.replace("-", "").isalnum() or name != name.lower() or name in RESERVED:
                    raise ValueError(
                        f"{what}: '{name}' names files: give lower-case letters, digits and '-', but not "
                        f"{' or '.join(RESERVED)}"
                    )
        for name, benchmarked in self.services.items():
            try:
                check(self.objective, benchmarked.cluster)
            except ValueError as error:
                raise ValueError(f"services: {name}: {error}") from None
        twice = [name for name in self.compared if name in self.candidates]
        if twice:
            raise ValueError(f"{', '.join(twice)} is both a candidate and compared: give two names")
        for name, settings in self.candidates.items():
            if not hasattr(find_policy(settings.get("kind")), "suggested"):
                raise ValueError(f"candidates: {name}: a policy of kind {settings.get('kind')} offers no search")
        return self
