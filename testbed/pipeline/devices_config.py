"""What `kis devices` is given."""

from __future__ import annotations

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from testbed.config import ClientConfig, NetworkConfig, ServeConfig, Strict, TrafficConfig
from testbed.config_file import build
from workloads.catalog import ServiceConfig, find_model

DeviceName = Literal["cpu", "gpu"]


class DeviceStudy(NetworkConfig):
    """One model under one traffic, on both devices."""

    service: ServiceConfig = ServiceConfig()
    traffic: TrafficConfig

    def serve(self, device: DeviceName) -> ServeConfig:
        """What to serve; ConfigError if the catalog's model cannot be served so."""
        # A core is left to server and client, as in a calibration.
        cores = len(os.sched_getaffinity(0)) - 1
        threads = self.threads or max(1, cores // (self.service.replicas * self.service.instances))
        data = {**self.network(), "device": device, "threads": threads, "service": self.service}
        return build(ServeConfig, data, f"study of {self.model} on {device}")


class DevicesConfig(Strict):
    """`kis devices`: which devices, which models, which traffic."""

    devices: tuple[DeviceName, DeviceName] = Field(
        ("cpu", "gpu"),
        description="ratios are of the first to the second; [cpu, cpu] tests the comparison itself: about 1",
    )
    repeats: int = Field(5, ge=1, description="runs on each device, alternating")
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")
    client: ClientConfig = ClientConfig()
    studies: tuple[DeviceStudy, ...] = Field(min_length=1, description="models, each with its traffic")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        models = [study.model for study in self.studies]
        if len(set(models)) < len(models):
            raise ValueError(f"two studies of one model ({', '.join(models)}): compare them in different folders")
        for model in models:
            if find_model(model).emulated and "gpu" in self.devices:
                raise ValueError(
                    f"studies: model '{model}' only waits, the same on every device: name another, or devices: "
                    "[cpu, cpu] to check the comparison itself"
                )
        return self
