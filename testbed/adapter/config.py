"""What `kis adapter` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from testbed.config import Strict


class FollowedConfig(Strict):
    """A deployment, and the model that its pods serve."""

    deployment: str = Field(description="name of the deployment")
    model: str = Field(description="model that its pods serve")


class TlsConfig(Strict):
    """Certificates, as PEM files."""

    certificate: Path = Field(description="server certificate, for NAME.NAMESPACE.svc of its Service")
    key: Path = Field(description="private key of the certificate")
    client_ca: Path | None = Field(
        None, description="certificate authority of the front proxy; none: the one that the API server publishes"
    )
    allowed_names: tuple[str, ...] = Field(
        ("front-proxy-client",), description="accepted client names, with client_ca only; empty: any"
    )


class AdapterConfig(Strict):
    """`kis adapter`: which deployments' metrics it offers, and how."""

    namespace: str = Field("default", description="namespace of the deployments")
    deployments: tuple[FollowedConfig, ...] = Field(min_length=1, description="deployments, each with its model")
    window_s: float = Field(15.0, gt=0, description="window over which values are averaged")
    scrape_period_s: float = Field(1.0, gt=0, description="time between two scrapes of a pod's metrics")
    stale_s: float = Field(15.0, gt=0, description="largest age of a value; older ones are missing")
    address: str = Field("0.0.0.0", description="listening address; default: all, because clients need a certificate")
    port: int = Field(6443, ge=0, le=65535, description="listening port; 0: a free one")
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
