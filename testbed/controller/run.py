"""Controllers from their configuration, one for each deployment: until they are told to stop."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from testbed.autoscaling.budget import Claim, GpuBudget
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.live.activator import ActivatorReader
from testbed.autoscaling.live.scraper import PodScraper
from testbed.autoscaling.policy import Policy
from testbed.controller.config import BudgetControllerConfig, ControllerConfig
from testbed.controller.deployment import KubernetesDeployment
from testbed.controller.election import Election
from testbed.controller.exporter import Exporter
from testbed.controller.health import Pulse
from testbed.controller.loop import Controller, Place, Turn, held_replicas
from testbed.serving.kubernetes_api import api_client, own_namespace

HUNG_S = 60.0  # a turn of the loop that takes longer, with time-outs of seconds in it, hangs


class Loop(NamedTuple):
    """One deployment's."""

    controller: Controller
    scraper: PodScraper
    exporter: Exporter
    pulse: Pulse

    def run(self, period_s: float, once: bool, stop: threading.Event, on_turn: Callable[[Turn], None] | None) -> None:
        """Turn until `stop`, or for one decision."""
        due_s = time.monotonic()
        while not stop.is_set():
            self.pulse.beat()
            turn = self.controller.turn()
            if turn is not None:
                self.exporter.tell(turn, dict(self.scraper.failures))
                if on_turn is not None:
                    on_turn(turn)
                if once:
                    return
            due_s = max(due_s + period_s, time.monotonic())  # one that is missed is not made up for
            stop.wait(due_s - time.monotonic())


def run_controller(
    config: ControllerConfig | BudgetControllerConfig,
    *,
    kubeconfig: Path | None,
    once: bool,
    stop: threading.Event,
    on_turn: Callable[[Turn], None] | None = None,
    wrap: Callable[[Policy], Policy] = lambda policy: policy,
) -> None:
    """Control until `stop`, or for one decision of each. ClusterError if the cluster cannot be reached at the start.

    Each of several deployments has a loop of its own, in a thread. wrap: makes the policy that decides of the
    configured one.
    """
    scaled = config.deployments if isinstance(config, BudgetControllerConfig) else (config,)
    policies = [wrap(build_policy(each.policy, each.limits.max_replicas, None)) for each in scaled]
    budget = budget_of(config) if isinstance(config, BudgetControllerConfig) else None
    api = api_client(kubeconfig)
    namespace = config.namespace or own_namespace()
    # An answer that is late ends a turn before the lease does.
    timeout_s = min(2.0, config.lease_s / 3)
    deployments = [KubernetesDeployment(api, namespace, each.deployment, timeout_s) for each in scaled]
    for each, deployment in zip(scaled, deployments, strict=True):
        status = deployment.look()  # what cannot be seen now is told now
        if budget is not None:
            budget.note(each.deployment, wanted=status.spec_replicas, held=held_replicas(status))
    whose = [f"the loop of {each.deployment}" for each in scaled] if budget is not None else ["the control loop"]
    pulses, election = [Pulse(HUNG_S + config.scrape_period_s, of=of) for of in whose], None
    if config.lease is not None:
        me = f"{platform.node()}-{os.getpid()}"
        pulses.append(Pulse(HUNG_S + config.lease_s, of="the election"))
        election = Election(api, namespace, config.lease, me, config.lease_s, pulse=pulses[-1])
    first = Exporter(scaled[0].deployment, policies[0].name, pulses, config.metrics_port)
    if election is not None:
        election.start()
    loops = []
    for k, (each, policy, deployment) in enumerate(zip(scaled, policies, deployments, strict=True)):
        activator = None if each.activator is None else ActivatorReader(each.activator, each.deployment)
        scraper = PodScraper(each.model, activator)
        controller = Controller(
            deployment,
            scraper,
            policy,
            each.limits,
            leads=(lambda: True) if election is None else election.leads,
            shadow=config.shadow,
            place=None if budget is None else Place(budget, each.deployment),
        )
        exporter = first if k == 0 else first.also(each.deployment, policy.name)
        loops.append(Loop(controller, scraper, exporter, pulses[k]))
    try:
        if len(loops) == 1:
            loops[0].run(config.scrape_period_s, once, stop, on_turn)
            return
        with ThreadPoolExecutor(len(loops), thread_name_prefix="loop") as pool:
            running = [pool.submit(loop.run, config.scrape_period_s, once, stop, on_turn) for loop in loops]
            failed = [done for done in wait(running, return_when=FIRST_EXCEPTION).done if done.exception() is not None]
            if failed:  # what nobody reckoned with ends them all, as it does one alone
                stop.set()
                failed[0].result()
    finally:
        for loop in loops:
            loop.scraper.close()
        if election is not None:
            election.stop()


def budget_of(config: BudgetControllerConfig) -> GpuBudget:
    """Before anything is seen of the deployments. ConfigError if their min_replicas alone exceed it."""
    return GpuBudget(
        config.budget,
        [
            Claim(
                each.deployment,
                wanted=each.limits.min_replicas,
                held=each.limits.min_replicas,
                gpus=each.gpus_per_replica,
                min_replicas=each.limits.min_replicas,
                weight=Fraction(str(each.weight)),
                capacity_rps=each.capacity_rps,
            )
            for each in config.deployments
        ],
    )
