"""How patient a client is: the same for a real client and for a simulated one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ClientLimits(BaseModel):
    """How long a client waits for an answer, and how many requests it has under way at most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float = Field(10.0, gt=0, description="of each request, from when it was sent")
    max_in_flight: int = Field(1024, ge=1, description="requests beyond it are dropped, and counted")
