"""What `kis pack` is given: models with their traffic and targets, and the kind of GPU that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from testbed.config import Strict, TrafficConfig
from testbed.simulation.cluster.config import GpuKind, Sharing

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]  # as Kubernetes takes names


class SharedGpu(Strict):
    """GPUs of one kind, and how several models share one."""

    sharing: Sharing = Field("time_slicing", description="time_slicing, mps, mig, or my_module:MyMode")
    shares: int = Field(4, ge=2, description="largest number of models on one GPU")
    interference: tuple[float, ...] = Field(
        (),
        description="factors on a batch's time while 1, 2, ... models of the GPU are busy, as measured; none: the "
        "profiles', else those of the sharing mode",
    )
    memory_gib: float | None = Field(None, gt=0, description="memory of one GPU; none: memory is not looked at")

    @property
    def kind(self) -> GpuKind:
        """As a simulated cluster has it."""
        return GpuKind(sharing=self.sharing, shares=self.shares, interference=self.interference)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _ = self.kind  # for its errors
        if len(self.interference) == 1:
            raise ValueError("interference has a factor for a model alone: give one for two busy ones too, [1, 1.4]")
        return self


class PackedModel(Strict):
    """A model, its traffic and its target."""

    name: Name = Field(description="name of the model")
    profile: Path = Field(description="its profile-<model>.json, calibrated on such a GPU")
    target_ms: float = Field(gt=0, description="latency target")
    percentile: float = Field(95, ge=1, le=99.999, description="latency percentile of the target")
    traffic: TrafficConfig = TrafficConfig()
    replicas: int | None = Field(
        None, ge=1, description="replicas, each on another GPU; none: the fewest that hold the target alone on GPUs"
    )
    instances: int = Field(1, ge=1, description="model instances in each replica, as calibrated")
    max_batch_size: int | None = Field(None, ge=1, description="largest batch; none: the largest measured one")
    queue_delay_s: float = Field(0.0, ge=0, description="longest wait for a full batch")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="GPU memory of one replica; none: the profile's, if it was measured"
    )
    deployment: Name | None = Field(None, description="its Deployment, for the manifests; none: triton-NAME")


class PackConfig(Strict):
    """`kis pack`: models, and the GPUs that they are to share."""

    gpu: SharedGpu = SharedGpu()
    models: tuple[PackedModel, ...] = Field(min_length=2, description="the models")
    max_replicas: int = Field(16, ge=1, description="largest number of replicas of a model to try")
    duration_s: float = Field(60.0, gt=0, description="length of each simulated run")
    seed: int = Field(0, description="seed of the arrivals and service times")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"two models have the same name ({', '.join(names)})")
        for model in self.models:
            if model.traffic.duration_s is not None:
                raise ValueError(f"model '{model.name}': all traffic lasts duration_s: say it there")
        return self
