"""What `kis controller` is given."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from testbed.config import Strict
from testbed.controller.guard import Limits


class ControllerConfig(Strict):
    """`kis controller`: which deployment, under which policy, within which limits."""

    namespace: str | None = Field(
        None, description="namespace of the deployment; none: the pod's own, or `default` outside of a cluster"
    )
    deployment: str = Field(description="name of the scaled deployment")
    model: str = Field(description="model that its pods serve")
    policy: dict[str, Any] = Field(description="kind and parameters of the policy, as in a simulated cluster")
    limits: Limits
    activator: str | None = Field(
        None, description="address of `kis activator` before the pods; it counts what is sent, also at 0 replicas"
    )
    scrape_period_s: float = Field(1.0, gt=0, description="time between two scrapes of a pod's metrics")
    lease: str | None = Field(
        None, description="name of the Lease; of several controllers, only its owner acts; none: no election"
    )
    lease_s: float = Field(6.0, ge=1, description="time after which another controller takes over")
    shadow: bool = Field(False, description="decide, log and export, but never patch")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the controller's own metrics; 0: no page")
