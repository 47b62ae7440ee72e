"""What `kis activator` is given."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from testbed.config import Strict


class PortConfig(Strict):
    """A port that clients connect to, and the pods' port behind it."""

    listen: int = Field(ge=0, le=65535, description="listening port; 0: a free one")
    pod: int = Field(ge=1, le=65535, description="the pods' port: 8000 is Triton's HTTP, 8001 its gRPC")


class ActivatedConfig(Strict):
    """A deployment, and the ports of its pods that clients reach through the activator."""

    deployment: str = Field(description="name of the deployment")
    ports: tuple[PortConfig, ...] = Field(min_length=1, description="listening ports, each with the pods' port")


class HoldLimits(Strict):
    """What the activator holds back, and how long."""

    max_waiting: int = Field(1000, ge=1, description="most connections that wait for a pod, per deployment")
    max_held_mib: int = Field(
        256,
        ge=1,
        description="memory for what they have sent, per deployment; the rest of it stays in the sockets",
    )
    hold_s: float = Field(120.0, gt=0, description="longest wait for a pod; then 503, or the connection is closed")


class ActivatorConfig(Strict):
    """`kis activator`: which deployments it stands before, and how long it holds connections without a pod."""

    namespace: str | None = Field(
        None, description="namespace of the deployments; none: the pod's own, or `default` outside of a cluster"
    )
    deployments: tuple[ActivatedConfig, ...] = Field(min_length=1, description="deployments, each with its ports")
    hold: HoldLimits = Field(HoldLimits(), description="limits of what waits")
    look_period_s: float = Field(0.5, gt=0, description="time between two looks at the ready pods")
    drain_s: float = Field(30.0, ge=0, description="time that open connections get to finish after SIGTERM")
    address: str = Field("127.0.0.1", description="listening address; in a pod 0.0.0.0")
    metrics_port: int = Field(9102, ge=0, le=65535, description="port of /metrics and /healthz; 0: no page")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [activated.deployment for activated in self.deployments]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"deployments: {', '.join(sorted(twice))} is named twice")
        taken = [port.listen for activated in self.deployments for port in activated.ports if port.listen]
        taken += [self.metrics_port] if self.metrics_port else []
        if again := {port for port in taken if taken.count(port) > 1}:
            raise ValueError(f"port {', '.join(map(str, sorted(again)))} is given twice")
        return self
