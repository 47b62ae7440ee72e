"""What `kis controller` is given."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from testbed.config import Strict
from testbed.controller.guard import Limits


class ControllerConfig(Strict):
    """`kis controller`: which deployment, under which policy, within which limits."""

    namespace: str | None = Field(None, description="none: the pod's own, or `default` outside of a cluster")
    deployment: str = Field(description="that is scaled")
    model: str = Field(description="that its pods serve")
    policy: dict[str, Any] = Field(description="kind and parameters, as in a simulated cluster")
    limits: Limits
    scrape_period_s: float = Field(1.0, gt=0, description="of every pod's metrics")
    lease: str | None = Field(None, description="of several controllers, who holds this Lease acts; none: no election")
    lease_s: float = Field(6.0, ge=1, description="after which another controller takes over")
    shadow: bool = Field(False, description="decide, log and export, and never patch")
    metrics_port: int = Field(0, ge=0, le=65535, description="of its own metrics; 0: no page")
