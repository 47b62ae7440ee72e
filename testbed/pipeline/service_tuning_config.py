"""What `kis tune-service` is given."""

from __future__ import annotations

from pydantic import Field, model_validator

from loadgen.access import PLAIN, Access
from testbed.config import AddressText, ClientConfig, FitPlan, Strict, TrafficConfig

REQUESTS = 250  # of each fitted run: enough for P95 of a server of unknown speed


class TuneServiceConfig(Strict):
    """`kis tune-service`: a running Triton, traffic, a target, and the settings of its model to choose from."""

    server: AddressText = Field(
        "http://127.0.0.1:8000", description="HTTP address of a running Triton: host:port, or http(s)://host:port/path"
    )
    models: tuple[str, ...] = Field(
        (), description="models to choose from, e.g. one network in several precisions; none: the server's only one"
    )
    metrics: AddressText | None = Field(
        None, description="address of the metrics page; none: port 8002 of the same host, if it has no TLS and no path"
    )
    access: Access = PLAIN
    shapes: dict[str, tuple[int, ...]] = Field({}, description="shapes of inputs with free dimensions, by input name")
    target_ms: float = Field(gt=0, description="latency target")
    percentile: float = Field(95, ge=50, le=99, description="latency percentile of the target")
    traffic: TrafficConfig = TrafficConfig()
    instances: tuple[int, ...] = Field(
        (1, 2), min_length=1, description="numbers of instances to try; each is measured"
    )
    max_batch_size: tuple[int, ...] = Field(
        (), description="largest batch sizes to try; none: powers of two up to the model's own"
    )
    queue_delay_s: tuple[float, ...] = Field(
        (0.0, 0.001, 0.005), min_length=1, description="longest queue delays to try"
    )
    preferred_batch_sizes: tuple[tuple[int, ...], ...] = Field(
        ((),), min_length=1, description="lists of preferred batch sizes to try; []: none are preferred"
    )
    max_replicas: int = Field(16, ge=1, description="largest number of replicas to try")
    price_per_gpu_hour: float | None = Field(
        None, gt=0, description="price of a replica's GPU for an hour; none: no cost"
    )
    currency: str | None = Field(None, description="currency of the price, e.g. EUR")
    picks: int = Field(3, ge=0, description="number of settings that are run for real")
    fit: FitPlan = Field(FitPlan(requests=REQUESTS), description="runs that each profile is fitted on")
    client: ClientConfig = ClientConfig()
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")
    seed: int = Field(1, description="seed of the measured runs' arrivals, and of simulated runs")

    @model_validator(mode="after")
    def _sizes_are_counts(self) -> TuneServiceConfig:
        for key in ("instances", "max_batch_size"):
            if any(value < 1 for value in getattr(self, key)):
                raise ValueError(f"{key} has a number below 1")
        if any(delay_s < 0 for delay_s in self.queue_delay_s):
            raise ValueError("queue_delay_s has a number below 0")
        if (self.price_per_gpu_hour is None) != (self.currency is None):
            raise ValueError("give price_per_gpu_hour and currency together")
        return self
