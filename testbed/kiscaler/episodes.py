"""What the exported policy does, beside the baselines: some of the scenarios that judge, played step by step.

episodes.csv has a row a step: scenario (1, 2, ..., in the order of the evaluation), policy (TRAINED or a baseline's
name), time_s, arrived and missed (requests since the step before), asked and ready (replicas at its end).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.autoscaling.simulated import PolicyRun
from testbed.kiscaler.baselines import OF_SCENARIO, policy_in
from testbed.kiscaler.env import begin, pass_step
from testbed.kiscaler.evaluation import EVALUATION_SEED
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import EPISODES, TRAINED, EpisodeRow
from testbed.simulation.cluster.pods import Pod
from workloads.files import replacing

SHOWN = 2  # scenarios


def write_episodes(config: TrainConfig, scenarios: Scenarios, folder: Path) -> None:
    """Play policy.onnx of the folder and every baseline. A control is left out: it scales nothing."""
    policies: dict[str, dict[str, Any]] = {name: dict(settings) for name, settings in config.baselines.items()}
    if config.control is None:
        kind = "learned" if config.base is None else "corrected"
        trained = {"kind": kind, "file": str(folder / "policy.onnx"), **dict.fromkeys(OF_SCENARIO, "scenario")}
        policies = {TRAINED: trained, **policies}
    with replacing(folder / EPISODES) as temporary, temporary.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(EpisodeRow._fields)
        for number in range(min(SHOWN, config.evaluation_scenarios)):
            for name, settings in policies.items():
                rows.writerows(_steps(config, scenarios, number, name, settings))


def _steps(
    config: TrainConfig, scenarios: Scenarios, number: int, name: str, settings: dict[str, Any]
) -> Iterator[EpisodeRow]:
    scenario = begin(scenarios, EVALUATION_SEED + number)
    sim, model = scenario.sim, scenario.model
    run = PolicyRun(sim, {model: policy_in(scenario, settings, name)})
    run.next_s[model] = sim.now_s
    before = sim.totals(model)
    for _ in range(config.episode_steps):
        pass_step(run, scenario, config.weights)
        now = sim.totals(model)
        pods: list[Pod] = sim.wanted(model)
        passed = (now.arrived - before.arrived, now.missed - before.missed)
        yield EpisodeRow(number + 1, name, sim.now_s, *passed, len(pods), sum(pod.ready for pod in pods))
        before = now
