"""`kis evaluate`: policies on the same simulated traffic, seed by seed, each beside one that is to be beaten.

Files in results/<name>/: evaluate.json (the configuration), evaluation.json (a row a run, and what they say), and
report.md with pareto.png. A seed means the same arrivals and the same luck for every policy, so differences are paired.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from testbed.autoscaling.build import build_policy, start_replicas
from testbed.config import Strict, TrafficConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import advance, prepare, summary_of_model
from testbed.reporting.evaluation import summary_of, write_evaluation_report
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.services import read_services


class EvaluateConfig(Strict):
    """`kis evaluate`: every traffic under every policy, some times."""

    cluster: ClusterConfig = Field(description="its one model is what is scaled")
    traffic: dict[str, TrafficConfig] = Field(min_length=1, description="by a name of yours; not what was trained on")
    policies: dict[str, dict[str, Any]] = Field(min_length=2, description="by a name of yours: kind and parameters")
    baseline: str = Field(description="the policy that the others are compared with")
    seeds: int = Field(10, ge=2, description="runs of each pair")
    duration_s: float = Field(600.0, gt=0, description="of traffic that names none")
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: policies scale one model, this cluster has {len(self.cluster.models)}")
        if self.baseline not in self.policies:
            raise ValueError(f"baseline '{self.baseline}' is none of the policies {', '.join(self.policies)}")
        return self

    @property
    def model(self) -> str:
        """Its name."""
        return self.cluster.models[0].name

    def run_of(self, traffic: str, policy: str, seed: int) -> ClusterRunConfig:
        """One run's configuration."""
        one, served = self.traffic[traffic], self.cluster.models[0]
        start = start_replicas(self.policies[policy], served.replicas)
        return ClusterRunConfig(
            cluster=self.cluster.model_copy(update={"models": (served.model_copy(update={"replicas": start}),)}),
            traffic={self.model: one},
            policies={self.model: self.policies[policy]},
            duration_s=one.duration_s or self.duration_s,
            seed=seed,
        )


def evaluate(config: EvaluateConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Run everything and write the folder; returns evaluation.json's content."""
    services = read_services(config.cluster)
    most = config.cluster.models[0].max_replicas
    for settings in config.policies.values():
        build_policy(settings, most, lambda time_s: 0.0)  # what is wrong is told before anything runs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluate.json").write_text(config.model_dump_json(indent=2) + "\n")
    rows: list[Mapping[str, Any]] = []
    total = len(config.traffic) * len(config.policies) * config.seeds
    for traffic in config.traffic:
        for policy in config.policies:
            for seed in _seeds(config):
                told = config.run_of(traffic, policy, seed)
                run = prepare(told, services, seed, keep_rows=False)
                advance(told, run, lambda: None, lambda share: None)
                rows.append(_row(traffic, policy, seed, summary_of_model(told, run, config.model)))
                on_progress(len(rows) / total)
    result = {"simulated": True, "baseline": config.baseline, **summary_of(rows, config.baseline), "rows": rows}
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    write_evaluation_report(folder)
    return result


def _seeds(config: EvaluateConfig) -> Sequence[int]:
    """The same for every policy and traffic."""
    states = np.random.SeedSequence(config.seed).generate_state(config.seeds)
    return [int(one >> 1) for one in states]


def _row(traffic: str, policy: str, seed: int, told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "traffic": traffic,
        "policy": policy,
        "seed": seed,
        "requests": told["requests"],
        "slo_miss": told["missed_share"],
        "p95_ms": told["p95_ms"],
        "gpu_seconds": told["gpu_seconds"],
        "changes": told["changes"],
    }
