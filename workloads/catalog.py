"""The catalog of models, and the vocabulary in which a service is described. Add a model here.

Names are those of Triton's model configuration; durations carry their unit.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from workloads.errors import KisError

BACKENDS = Path(__file__).parent / "backends"


def _known_family(name: str) -> str:
    """The name itself; ValueError if no file serves that family."""
    if not (BACKENDS / f"{name}.py").is_file():
        raise ValueError(f"no {name}.py in workloads/backends: that is what serves a family")
    return name


Family = Annotated[str, AfterValidator(_known_family)]
Balancer = Literal["round_robin", "least_requests"]


class CatalogError(KisError):
    """A model that is not in the catalog, or a setting it cannot have."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(_Frozen):
    """One input or output. `shape` leaves out the batch dimension; -1 is a size that a request chooses."""

    name: str
    datatype: str = Field(description="KServe v2 name: FP32, INT64, ...")
    shape: tuple[int, ...]


class DynamicBatching(_Frozen):
    """Triton's `dynamic_batching` block; an empty preferred set means {max_batch_size}."""

    preferred_batch_sizes: tuple[int, ...] = Field((), description="preferred sizes of a batch; none: max_batch_size")
    max_queue_delay_s: float = Field(0.0, ge=0, description="longest wait for a full batch")
    default_timeout_s: float = Field(0.0, ge=0, description="queue timeout of a request; 0: none")
    timeout_action: Literal["REJECT", "DELAY"] = Field("REJECT", description="what happens after default_timeout_s")
    max_queue_size: int = Field(0, ge=0, description="largest number of queued requests; 0: no limit")
    allow_timeout_override: bool = Field(
        False, description="requests may set a shorter queue timeout; Triton then prefetches no batches"
    )


class ServiceConfig(_Frozen):
    """How one model is served: replicas behind a balancer, each with its instances and batching rules."""

    replicas: int = Field(1, ge=1, description="number of servers behind the balancer")
    balancer: Balancer = Field("round_robin", description="how a replica is chosen")
    instances: int = Field(1, ge=1, description="model instances in each replica (instance_group count)")
    max_batch_size: int = Field(8, ge=1, description="largest batch")
    dynamic_batching: DynamicBatching | None = DynamicBatching()
    length_buckets: tuple[int, ...] = Field(
        (),
        description="tokens: a batch is padded to the smallest bucket that fits its longest request; none: "
        "equal lengths",
    )

    @model_validator(mode="after")
    def _buckets_ascend(self) -> ServiceConfig:
        if list(self.length_buckets) != sorted({tokens for tokens in self.length_buckets if tokens > 0}):
            raise ValueError(f"length_buckets {list(self.length_buckets)} must be ascending numbers of tokens above 0")
        return self

    @model_validator(mode="after")
    def _preferred_sizes_fit(self) -> ServiceConfig:
        if self.dynamic_batching is not None:
            for size in self.dynamic_batching.preferred_batch_sizes:
                if not 1 <= size <= self.max_batch_size:
                    raise ValueError(
                        f"preferred batch size {size} is outside 1..max_batch_size ({self.max_batch_size})"
                    )
        return self

    @property
    def label(self) -> str:
        """Short name for tables and folders, e.g. `r1-n2-b8-d2ms`; two that differ have different labels."""
        name = f"r{self.replicas}-n{self.instances}-b{self.max_batch_size}"
        if self.balancer == "least_requests":
            name += "-lr"
        if self.length_buckets:
            name += "-l" + "+".join(map(str, self.length_buckets))
        rules = self.dynamic_batching
        if rules is None:
            return f"{name}-nobatching"
        name += f"-d{rules.max_queue_delay_s * 1e3:g}ms"
        if rules.preferred_batch_sizes:
            name += "-p" + "+".join(map(str, rules.preferred_batch_sizes))
        if rules.default_timeout_s:
            name += f"-{rules.timeout_action.lower()}{rules.default_timeout_s * 1e3:g}ms"
        if rules.max_queue_size:
            name += f"-q{rules.max_queue_size}"
        if rules.allow_timeout_override:
            name += "-override"
        return name


class LatencyTargets(_Frozen):
    """P99 latency to hold, after MLPerf Inference's server scenario on an accelerator; CPUs have one of their own."""

    accelerator_s: float
    cpu_s: float


class ModelSpec(_Frozen):
    """One servable model."""

    name: str
    family: Family
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 8
    max_tokens: int | None = Field(
        None, description="largest length of a request, if its inputs have one dimension, the length"
    )
    targets: LatencyTargets

    @property
    def emulated(self) -> bool:
        """True if no network runs: the model only waits a profile's time."""
        return self.family == "emulated"

    def served_inputs(self, service: ServiceConfig) -> tuple[TensorSpec, ...]:
        """As the service takes them: with length buckets, a request chooses its length."""
        if not service.length_buckets:
            return self.inputs
        return tuple(tensor.model_copy(update={"shape": (-1,)}) for tensor in self.inputs)


CATALOG: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="resnet50",
            family="resnet",
            inputs=(TensorSpec(name="image", datatype="FP32", shape=(3, 224, 224)),),
            outputs=(TensorSpec(name="logits", datatype="FP32", shape=(1000,)),),
            targets=LatencyTargets(accelerator_s=0.015, cpu_s=0.5),
        ),
        ModelSpec(
            name="bert",
            family="bert",
            inputs=(
                TensorSpec(name="input_ids", datatype="INT64", shape=(128,)),
                TensorSpec(name="attention_mask", datatype="INT64", shape=(128,)),
            ),
            outputs=(TensorSpec(name="logits", datatype="FP32", shape=(2,)),),
            max_tokens=512,
            targets=LatencyTargets(accelerator_s=0.130, cpu_s=1.0),
        ),
        ModelSpec(
            name="emulated",
            family="emulated",
            inputs=(TensorSpec(name="x", datatype="FP32", shape=(4,)),),
            outputs=(TensorSpec(name="y", datatype="FP32", shape=(4,)),),
            targets=LatencyTargets(accelerator_s=0.030, cpu_s=0.030),
        ),
    )
}


def find_model(name: str) -> ModelSpec:
    """The catalog's entry of that name; CatalogError names the nearest one otherwise."""
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "the catalog has " + ", ".join(sorted(CATALOG)) + "."
    raise CatalogError(f"unknown model '{name}': {hint} (workloads/catalog.py is where models are added)")
