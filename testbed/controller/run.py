"""A controller from its configuration: until it is told to stop."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes import config as kubernetes_config
from kubernetes.config.config_exception import ConfigException
from pydantic import Field
from urllib3.exceptions import HTTPError

from testbed.autoscaling.build import build_policy
from testbed.config import Strict
from testbed.controller.deployment import KubernetesDeployment
from testbed.controller.election import Election
from testbed.controller.exporter import Exporter
from testbed.controller.guard import Limits
from testbed.controller.loop import Controller, Turn
from testbed.controller.scraper import PodScraper
from testbed.errors import ClusterError, ConfigError

_config: Any = kubernetes_config  # untyped


class ControllerConfig(Strict):
    """`kis controller`: which deployment, under which policy, within which limits."""

    namespace: str = "default"
    deployment: str
    model: str = Field(description="that its pods serve")
    policy: dict[str, Any] = Field(description="kind and parameters, as in a simulated cluster")
    limits: Limits
    scrape_period_s: float = Field(1.0, gt=0)
    lease: str | None = Field(None, description="of several controllers, who holds this Lease acts; none: no election")
    lease_s: float = Field(6.0, ge=1)
    shadow: bool = Field(False, description="decide, log and export, and never patch")
    metrics_port: int = Field(0, ge=0, le=65535, description="of its own metrics; 0: no page")


def run_controller(
    config: ControllerConfig,
    *,
    kubeconfig: Path | None,
    once: bool,
    stop: threading.Event,
    on_turn: Callable[[Turn], None] | None = None,
) -> None:
    """Control until `stop`, or for one decision. ClusterError if the cluster cannot be reached at the start."""
    policy = build_policy(config.policy, config.limits.max_replicas, None)
    api = api_client(kubeconfig)
    selector = _selector(api, config)
    scraper = PodScraper(config.model)
    exporter = Exporter(config.deployment, policy.name, config.metrics_port)
    election = None
    if config.lease is not None:
        me = f"{platform.node()}-{os.getpid()}"
        election = Election(api, config.namespace, config.lease, me, config.lease_s)
        election.start()
    controller = Controller(
        KubernetesDeployment(api, config.namespace, config.deployment, selector),
        scraper,
        policy,
        config.limits,
        leads=(lambda: True) if election is None else election.leads,
        shadow=config.shadow,
        clock=time.time,
    )
    try:
        while not stop.is_set():
            begin = time.monotonic()
            turn = controller.turn()
            if turn is not None:
                exporter.tell(turn, dict(scraper.failures))
                if on_turn is not None:
                    on_turn(turn)
                if once:
                    return
            stop.wait(max(0.0, config.scrape_period_s - (time.monotonic() - begin)))
    finally:
        scraper.close()
        if election is not None:
            election.stop()


def api_client(kubeconfig: Path | None) -> client.ApiClient:
    """Of a kubeconfig, or the pod's own service account if there is none; ConfigError if there is neither."""
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            _config.load_incluster_config()
            return client.ApiClient()
        made: client.ApiClient = _config.new_client_from_config(None if kubeconfig is None else str(kubeconfig))
        return made
    except (ConfigException, OSError) as error:
        raise ConfigError(f"no Kubernetes configuration ({error}): give --kubeconfig, or set KUBECONFIG") from None


def _selector(api: client.ApiClient, config: ControllerConfig) -> str:
    """The labels of the deployment's pods, from its scale: all that its Role lets it read."""
    try:
        apps: Any = client.AppsV1Api(api)
        scale = apps.read_namespaced_deployment_scale(config.deployment, config.namespace, _request_timeout=10)
    except client.ApiException as error:
        raise ClusterError(
            f"deployment {config.namespace}/{config.deployment}: the API answers {error.status} {error.reason}: is it "
            "applied, and may this account read its scale?"
        ) from None
    except (HTTPError, OSError) as error:
        raise ClusterError(f"the Kubernetes API does not answer ({type(error).__name__}): is it up?") from None
    return str(scale.status.selector)
