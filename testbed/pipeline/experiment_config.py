"""Configuration of an experiment: one deployment, some traffic, some policies; each pair for real, and simulated."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from testbed.adaptation.settings import AdaptSettings
from testbed.autoscaling.build import start_replicas
from testbed.autoscaling.settings import PolicySettings
from testbed.config import ClientConfig, Strict, TrafficConfig
from testbed.controller.guard import Limits
from testbed.pipeline.cluster_config import ClusterRunConfig, Fault
from testbed.simulation.cluster.config import ClientBehaviour, ClusterConfig

Which = tuple[str, str, int]  # of an experiment's runs: traffic, policy, repeat from 1 on


def real_run_id(which: Which) -> str:
    """Name of a real run's folder."""
    return "{}-{}-real-{}".format(*which)


class RealConfig(Strict):
    """The real deployment, and how it is scaled."""

    kustomization: Path | None = Field(
        None, description="kustomization that is applied first with kubectl; none: the deployment exists"
    )
    namespace: str = Field("default", description="namespace of the deployment")
    deployment: str = Field(description="name of the deployment")
    limits: Limits | None = Field(None, description="limits of `kis controller`; none: 1 to the model's max_replicas")
    by_controller: tuple[str, ...] = Field(
        (),
        description="policies of kind hpa or keda that `kis controller` runs, as the cluster's HPA has other flags; "
        "the others of these kinds are its HPAs",
    )
    scrape_period_s: float = Field(1.0, gt=0, description="scrape period of `kis controller`")
    ready_s: float = Field(120.0, gt=0, description="longest wait for the initial pods of a run")


class ExperimentConfig(Strict):
    """`kis experiment`: every traffic under every policy, on the cluster and in KISim."""

    cluster: ClusterConfig = Field(description="simulated cluster; its one model is the served one")
    clusters: dict[str, ClusterConfig] = Field(
        {},
        description="by traffic: another calibration of the cluster, for traffic sent on another machine or "
        "another day",
    )
    real: RealConfig
    traffic: dict[str, TrafficConfig] = Field(min_length=1, description="traffic, by any name")
    policies: dict[str, PolicySettings] = Field(
        min_length=1, description="kind and parameters of each policy, by any name"
    )
    adapted: dict[str, AdaptSettings] = Field({}, description="settings of online adaptation, by policy")
    faults: dict[str, tuple[Fault, ...]] = Field(
        {}, description="by traffic: `slow_down` only, of emulated pods whose overlay has the component `slowness`"
    )
    repeats: int = Field(1, ge=1, description="real runs of each pair; their spread is reported beside the errors")
    random_order: bool = Field(
        False, description="each repeat runs all pairs once, in an order drawn from the seed; else pair after pair"
    )
    settled: bool = Field(
        False,
        description="a run begins with as many pods as its first arrivals need, at least the policy's fewest, as if it "
        "had been going on; else with the model's `replicas`",
    )
    attempts: int = Field(
        2, ge=1, description="attempts at a real run whose only fault is that requests were sent late"
    )
    simulated_runs: int = Field(
        25,
        ge=1,
        description="simulated runs of each pair; the prediction is their mean, and as many others give the interval",
    )
    sample_period_s: float = Field(0.5, gt=0, description="time between two samples of the metrics")
    client: ClientConfig = ClientConfig()
    seed: int = Field(0, description="seed of the simulated runs")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: an experiment has one model, this has {len(self.cluster.models)}")
        for name, cluster in self.clusters.items():
            if [model.name for model in cluster.models] != [self.model]:
                raise ValueError(f"clusters.{name}.models: the model is {self.model}, and there is no other")
        for what, names in (("traffic", self.traffic), ("policies", self.policies)):
            for name in names:
                if not name.replace("-", "").isalnum() or name != name.lower():
                    raise ValueError(f"{what}: '{name}' names files: give lower-case letters, digits and '-'")
        return self

    @model_validator(mode="after")
    def _drifts_and_adapts_what_there_is(self) -> Self:
        for what, named, names in (
            ("real.by_controller", self.real.by_controller, self.policies),
            ("adapted", self.adapted, self.policies),
            ("faults", self.faults, self.traffic),
            ("clusters", self.clusters, self.traffic),
        ):
            for name in named:
                if name not in names:
                    raise ValueError(f"{what} names '{name}', there are {', '.join(names)}")
        for name, faults in self.faults.items():
            if len(faults) > 1:
                raise ValueError(f"faults of '{name}': one at most, so that there is a before and an after")
            if any(fault.slow_down is None for fault in faults):
                raise ValueError("faults: only `slow_down` can be made to happen on a real deployment")
            if any(fault.model not in (None, self.model) for fault in faults):
                raise ValueError(f"faults of '{name}': the model is {self.model}")
        for name, how in self.adapted.items():
            if how.tuning is not None:
                raise ValueError(f"adapted.{name}: leave out `tuning`: minutes of training would load what is measured")
        return self

    @property
    def runs(self) -> list[Which]:
        """All real runs, in their order. What slows a machine for an hour then strikes all policies alike."""
        pairs, repeats = [*product(self.traffic, self.policies)], range(1, self.repeats + 1)
        if not self.random_order:
            return [(*pair, repeat) for pair in pairs for repeat in repeats]
        orders = {repeat: np.random.default_rng((self.seed, repeat)).permutation(len(pairs)) for repeat in repeats}
        return [(*pairs[place], repeat) for repeat, order in orders.items() for place in order.tolist()]

    @property
    def model(self) -> str:
        """Its name."""
        return self.cluster.models[0].name

    def start_replicas(self, policy: str) -> int:
        """Of that policy's runs, unless they are settled: the number itself if it is fixed, else the model's."""
        return start_replicas(self.policies[policy], self.cluster.models[0].replicas)

    def cluster_of(self, traffic: str) -> ClusterConfig:
        """What KISim knows of the cluster as it was under that traffic."""
        return self.clusters.get(traffic, self.cluster)

    def simulated(
        self, traffic: str, policy: str, start: int, duration_s: float, faults: tuple[Fault, ...] = ()
    ) -> ClusterRunConfig:
        """The same pair for KISim. start: pods at its beginning; faults: as they struck."""
        client = ClientBehaviour(timeout_s=self.client.timeout_s, max_in_flight=self.client.max_in_flight)
        cluster = self.cluster_of(traffic)
        served = cluster.models[0].model_copy(update={"client": client, "replicas": start})
        return ClusterRunConfig(
            cluster=cluster.model_copy(update={"models": (served,)}),
            traffic={self.model: self.traffic[traffic]},
            policies={self.model: self.policies[policy]},
            faults=faults,
            duration_s=duration_s,
            seed=self.seed,
        )
