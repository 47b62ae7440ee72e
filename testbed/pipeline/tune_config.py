"""What `kis tune` is given."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator

from testbed.autoscaling.hpa.spec import ControllerFlags
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.settings import PolicySettings
from testbed.config import TrafficConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.objective import DESCRIPTION, Objective, check
from testbed.pipeline.varied import Variation
from testbed.simulation.cluster.config import ClusterConfig

Family = Annotated[tuple[TrafficConfig, ...], Field(min_length=1)]
WHOLE = (0.0, 1.0)


class TuneConfig(ClusterRunConfig):
    """`kis tune`: a simulated cluster with one model and its traffic, and the policies whose settings are searched.

    `policies` may name the policy that scales the model today: it is compared with what is found.
    """

    candidates: dict[str, PolicySettings] = Field(
        {"hpa": {"kind": "hpa"}, "keda": {"kind": "keda"}, "rule": {"kind": "rule"}},
        min_length=1,
        description="policies to tune, by any name: their kind, and the settings that are not to be searched",
    )
    families: dict[str, Family] = Field(
        {}, description="by any name, instead of traffic: each family of traffic gets its own search"
    )
    variants: tuple[TrafficConfig, ...] = Field(
        (), description="further traffic; each trial runs all of it, and means count"
    )
    variation: Variation = Field(Variation(), description="how much the traffic of a run differs from the given one")
    held_out: float = Field(
        0.4, ge=0, lt=1, description="last share of a recorded trace, which only the final check is played on"
    )
    allowed_slo_violation_rate: float = Field(
        0.01, gt=0, lt=1, description="largest share of requests that are answered over the target, or not at all"
    )
    objective: Objective = Field("gpu_seconds", description=DESCRIPTION)
    flags: ControllerFlags = Field(ControllerFlags(), description="flags of the cluster's controller manager")
    window_s: float = Field(15.0, gt=0, description="averaging window of the adapter")
    metrics_delay_s: float = Field(1.0, ge=0, description="age of the adapter's newest sample")
    trials: int = Field(60, ge=1, description="settings to try, of each candidate")
    seeds: int = Field(3, ge=1, description="runs of each trial, each with other arrivals and variations")
    check_seeds: int = Field(
        10, ge=3, description="runs of the final check, on arrivals and variations that no search has used"
    )
    deployment: str = Field("triton", description="deployment named in the manifests")
    namespace: str = Field("default", description="namespace named in the manifests")

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
    def _fits(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: a policy scales one model, this cluster has {len(self.cluster.models)}")
        check(self.objective, self.cluster)
        for name, settings in self.candidates.items():
            if not name.replace("-", "").isalnum() or name != name.lower() or name in RESERVED:
                raise ValueError(
                    f"candidates: '{name}' names files: give lower-case letters, digits and '-', but not "
                    f"{' or '.join(RESERVED)}"
                )
            if not hasattr(find_policy(settings.get("kind")), "suggested"):
                raise ValueError(f"candidates: {name}: a policy of kind {settings.get('kind')} offers no search")
        return self

    @property
    def model(self) -> str:
        """Its name."""
        return self.cluster.models[0].name

    @property
    def all_traffic(self) -> tuple[TrafficConfig, ...]:
        """What a trial plays."""
        return (self.traffic[self.model], *self.variants)

    @property
    def searched_part(self) -> tuple[float, float]:
        """Of a trace, that the search may see."""
        return (0.0, 1.0 - self.held_out) if self._is_recorded else WHOLE

    @property
    def checked_part(self) -> tuple[float, float]:
        """Of a trace, that nothing was chosen on; all of it, if nothing is held out, or there is no trace."""
        return (1.0 - self.held_out, 1.0) if self.held_out and self._is_recorded else WHOLE

    @property
    def _is_recorded(self) -> bool:
        return any(traffic.trace is not None for traffic in self.all_traffic)

    def of_family(self, name: str) -> Self:
        """The same search for one of the families."""
        first, *others = self.families[name]
        changed = {"families": {}, "traffic": {self.model: first}, "variants": tuple(others)}
        return self.model_copy(update=changed)


RESERVED = ("given", "fixed")  # policies that are compared with, and not searched
