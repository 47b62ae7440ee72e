"""An adapter from its configuration: until it is told to stop."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Self

from kubernetes import client
from pydantic import Field, model_validator

from testbed.adapter.followed import Followed, FollowedDeployments
from testbed.adapter.server import AdapterServer, Trust
from testbed.autoscaling.live.deployment import DeploymentView
from testbed.autoscaling.live.scraper import PodScraper
from testbed.config import Strict
from testbed.errors import ClusterError, ConfigError
from testbed.serving.kubernetes_api import AsClusterError, api_client

# Where every API server says by which certificates it will call those behind it.
_AUTHENTICATION = ("kube-system", "extension-apiserver-authentication")


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


def run_adapter(config: AdapterConfig, *, kubeconfig: Path | None, stop: threading.Event) -> None:
    """Serve until `stop`. A deployment that is not there yet has no values until it is."""
    api = api_client(kubeconfig)
    trust = _trust(config.tls, api)
    scrapers = [PodScraper(deployment.model) for deployment in config.deployments]
    followed = [
        Followed(
            DeploymentView(api, config.namespace, deployment.deployment),
            scraper,
            {"deployment": deployment.deployment, "model": deployment.model},
            config.window_s,
            config.stale_s,
        )
        for deployment, scraper in zip(config.deployments, scrapers, strict=True)
    ]
    source = FollowedDeployments({config.namespace: followed}, config.scrape_period_s)
    server = AdapterServer(source, (config.address, config.port), config.tls.certificate, config.tls.key, trust)
    source.start()
    server.start()
    try:
        stop.wait()
    finally:
        server.close()
        source.stop()
        for scraper in scrapers:
            scraper.close()


def _trust(tls: TlsConfig, api: client.ApiClient) -> Trust:
    if tls.client_ca is not None:
        try:
            return Trust(tls.client_ca.read_text(), frozenset(tls.allowed_names))
        except OSError as error:
            raise ConfigError(f"tls.client_ca: {tls.client_ca} cannot be read ({error.strerror})") from None
    namespace, name = _AUTHENTICATION
    core: Any = client.CoreV1Api(api)
    what = f"ConfigMap {namespace}/{name}"
    with AsClusterError(what, "may this account read it? See role extension-apiserver-authentication-reader"):
        data = core.read_namespaced_config_map(name, namespace, _request_timeout=10).data or {}
    if "requestheader-client-ca-file" not in data:
        raise ClusterError(f"{what} names no front proxy: the API server aggregates no APIs")
    return Trust(
        data["requestheader-client-ca-file"], frozenset(json.loads(data.get("requestheader-allowed-names", "[]")))
    )
