"""What `kis adapter` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from testbed.config import Strict


class FollowedConfig(Strict):
    """A deployment, and the model that its pods serve."""

    deployment: str
    model: str


class TlsConfig(Strict):
    """Certificates, as PEM files."""

    certificate: Path = Field(description="of this server, for NAME.NAMESPACE.svc of its Service")
    key: Path = Field(description="of the certificate")
    client_ca: Path | None = Field(None, description="of the front proxy; none: as the API server publishes it")
    allowed_names: tuple[str, ...] = Field(("front-proxy-client",), description="only with client_ca; empty: any")


class AdapterConfig(Strict):
    """`kis adapter`: which deployments' metrics it offers, and how."""

    namespace: str = Field("default", description="of the deployments")
    deployments: tuple[FollowedConfig, ...] = Field(min_length=1, description="each with the model that it serves")
    window_s: float = Field(15.0, gt=0, description="over which values are means")
    scrape_period_s: float = Field(1.0, gt=0, description="of every pod's metrics")
    stale_s: float = Field(15.0, gt=0, description="values older than that are not known")
    address: str = Field("0.0.0.0", description="all of them: certificates say who may call")
    port: int = Field(6443, ge=0, le=65535, description="0: a free one")
    tls: TlsConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window_s < self.scrape_period_s:
            raise ValueError(
                f"window_s {self.window_s:g} is below scrape_period_s {self.scrape_period_s:g}: a window needs two"
            )
        names = [deployment.deployment for deployment in self.deployments]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"deployments: {', '.join(sorted(twice))} is named twice")
        return self
