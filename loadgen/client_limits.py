"""What a client of a service keeps to: the replay's, and a simulated one. Light to import: configurations hold it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

TransportName = Literal["http", "http_shm", "grpc", "null"]


class ClientLimits(BaseModel):
    """Timeout and in-flight limit of a client, real or simulated."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    timeout_s: float = Field(10.0, gt=0, description="timeout of each request, counted from its sending")
    max_in_flight: int = Field(
        1024, ge=1, description="limit on outstanding requests; further ones are dropped and counted"
    )
