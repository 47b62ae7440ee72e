"""What `kis tune-hpa` is given."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator

from testbed.autoscaling.hpa.spec import ControllerFlags
from testbed.autoscaling.metrics import METRICS, did_you_mean, is_metric
from testbed.config import TrafficConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.simulation.cluster.config import ClusterConfig

Family = Annotated[tuple[TrafficConfig, ...], Field(min_length=1)]


class TuneConfig(ClusterRunConfig):
    """`kis tune-hpa`: a simulated cluster with one model and its traffic, and what an HPA of it may do."""

    families: dict[str, Family] = Field(
        {}, description="by any name, instead of traffic: each family of traffic gets its own HPA"
    )
    variants: tuple[TrafficConfig, ...] = Field(
        (), description="further traffic; each trial runs all of it, and means count"
    )
    allowed_slo_violation_rate: float = Field(
        0.01, gt=0, lt=1, description="largest share of requests that are answered over the target, or not at all"
    )
    metrics: tuple[str, ...] = Field(
        ("in_flight_requests", "requests_per_second", "queue_time_ms", "gpu_utilisation_pct"),
        min_length=1,
        description="metrics to try",
    )
    flags: ControllerFlags = Field(ControllerFlags(), description="flags of the cluster's controller manager")
    window_s: float = Field(15.0, gt=0, description="averaging window of the adapter")
    metrics_delay_s: float = Field(1.0, ge=0, description="age of the adapter's newest sample")
    trials: int = Field(80, ge=1, description="number of HPAs to try")
    seeds: int = Field(3, ge=1, description="runs of each trial, each with other arrivals")
    check_seeds: int = Field(
        10, ge=1, description="runs of the best and of the untuned HPA, on arrivals that the search did not use"
    )
    deployment: str = Field("triton", description="deployment named in hpa.yaml")
    namespace: str = Field("default", description="namespace named in hpa.yaml")

    @model_validator(mode="before")
    @classmethod
    def _traffic_of_families(cls, data: Any) -> Any:
        """The parent wants traffic; the first of the families' stands there, and each family has its own later."""
        if not isinstance(data, dict) or not data.get("families") or data.get("traffic"):
            return data
        given = TypeAdapter(dict[str, Family]).validate_python(data["families"])
        models = TypeAdapter(ClusterConfig).validate_python(data.get("cluster")).models
        return {**data, "traffic": {models[0].name: next(iter(given.values()))[0]}}

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: an HPA scales one model, this cluster has {len(self.cluster.models)}")
        unknown = [name for name in self.metrics if not is_metric(name, of_service=False)]
        if unknown:
            raise ValueError(
                f"metrics: {did_you_mean(unknown[0])}{', '.join(unknown)} is none of {', '.join(METRICS.known())}"
            )
        return self

    def of_family(self, name: str) -> Self:
        """The same search for one of the families."""
        first, *others = self.families[name]
        changed = {"families": {}, "traffic": {self.cluster.models[0].name: first}, "variants": tuple(others)}
        return self.model_copy(update=changed)
