"""A controller from its configuration: until it is told to stop."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.live.activator import ActivatorReader
from testbed.autoscaling.live.scraper import PodScraper
from testbed.autoscaling.policy import Policy
from testbed.controller.config import ControllerConfig
from testbed.controller.deployment import KubernetesDeployment
from testbed.controller.election import Election
from testbed.controller.exporter import Exporter
from testbed.controller.health import Pulse
from testbed.controller.loop import Controller, Turn
from testbed.serving.kubernetes_api import api_client, own_namespace

HUNG_S = 60.0  # a turn of the loop that takes longer, with time-outs of seconds in it, hangs


def run_controller(
    config: ControllerConfig,
    *,
    kubeconfig: Path | None,
    once: bool,
    stop: threading.Event,
    on_turn: Callable[[Turn], None] | None = None,
    wrap: Callable[[Policy], Policy] = lambda policy: policy,
) -> None:
    """Control until `stop`, or for one decision. ClusterError if the cluster cannot be reached at the start.

    wrap: makes the policy that decides of the configured one.
    """
    policy = wrap(build_policy(config.policy, config.limits.max_replicas, None))
    api = api_client(kubeconfig)
    namespace = config.namespace or own_namespace()
    # An answer that is late ends a turn before the lease does.
    timeout_s = min(2.0, config.lease_s / 3)
    deployment = KubernetesDeployment(api, namespace, config.deployment, timeout_s)
    deployment.look()  # what cannot be seen now is told now
    activator = None if config.activator is None else ActivatorReader(config.activator, config.deployment)
    scraper = PodScraper(config.model, activator)
    pulses, election = [Pulse(HUNG_S + config.scrape_period_s)], None
    if config.lease is not None:
        me = f"{platform.node()}-{os.getpid()}"
        pulses.append(Pulse(HUNG_S + config.lease_s, of="the election"))
        election = Election(api, namespace, config.lease, me, config.lease_s, pulse=pulses[-1])
    exporter = Exporter(config.deployment, policy.name, pulses, config.metrics_port)
    if election is not None:
        election.start()
    controller = Controller(
        deployment,
        scraper,
        policy,
        config.limits,
        leads=(lambda: True) if election is None else election.leads,
        shadow=config.shadow,
    )
    try:
        due_s = time.monotonic()
        while not stop.is_set():
            pulses[0].beat()
            turn = controller.turn()
            if turn is not None:
                exporter.tell(turn, dict(scraper.failures))
                if on_turn is not None:
                    on_turn(turn)
                if once:
                    return
            due_s = max(due_s + config.scrape_period_s, time.monotonic())  # one that is missed is not made up for
            stop.wait(due_s - time.monotonic())
    finally:
        scraper.close()
        if election is not None:
            election.stop()
