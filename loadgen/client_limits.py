"""What a client of a service keeps to: the replay's, and a simulated one. Light to import: configurations hold it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

TransportName = Literal["http", "http_shm", "grpc", "null"]


class ClientLimits(BaseModel):
    """How long a client waits for an answer, and how many requests it has under way at most; a simulated one too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(10.0, gt=0, description="of each request, from when it was sent")
    max_in_flight: int = Field(1024, ge=1, description="requests beyond it are dropped, and counted")
