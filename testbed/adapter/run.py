"""An adapter from its configuration: until it is told to stop."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from kubernetes import client

from testbed.adapter.config import AdapterConfig, TlsConfig
from testbed.adapter.followed import Followed, FollowedDeployments
from testbed.adapter.server import AdapterServer, Trust
from testbed.autoscaling.live.deployment import DeploymentView
from testbed.autoscaling.live.scraper import PodScraper
from testbed.errors import ClusterError, ConfigError
from testbed.serving.kubernetes_api import AsClusterError, api_client

# Where every API server says by which certificates it will call those behind it.
_AUTHENTICATION = ("kube-system", "extension-apiserver-authentication")


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
