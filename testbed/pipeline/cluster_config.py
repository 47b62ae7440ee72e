"""Configuration of a simulated cluster run: who is served where, with what traffic, scaled by whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from testbed.autoscaling.budget import Budget, Positive
from testbed.autoscaling.settings import PolicySettings
from testbed.config import PatternName, Strict, TrafficConfig
from testbed.simulation.cluster.config import ClusterConfig


class UsersConfig(Strict):
    """Closed-loop users as Locust has them; how many there are follows a pattern, whose rates are read as numbers.

    KIS-S's own: ramp (low 1, peak 100), bursty (base 10, spike 100), periodic, fluctuating.
    """

    pattern: PatternName = Field(description="pattern of the number of users")
    parameters: dict[str, int | float | str] = Field({}, description="parameters of the pattern")
    think_s: float = Field(1.0, ge=0, description="time between a response and the user's next request")
    think: Literal["constant", "exponential"] = "constant"


class Fault(Strict):
    """A fault during the run: a crash of a model's longest-serving pod, a lost node, changed batch times, or metrics
    that no policy is told for a while."""

    at_s: float = Field(ge=0, description="time of the fault, from the start of the run")
    crash: str | None = Field(None, description="model of which a container crashes")
    lose_node: str | None = Field(None, description="node that is lost, e.g. node-0")

    slow_down: float | None = Field(None, gt=0, le=100, description="factor on the batch times of the profile")
    lose_metrics_s: float | None = Field(None, gt=0, description="time for which no policy is told any metric")
    model: str | None = Field(None, description="model that is slowed down; none: the cluster's only one")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.crash, self.lose_node, self.slow_down, self.lose_metrics_s].count(None) != 3:
            raise ValueError(
                "a fault is one of `crash: <model>`, `lose_node: <node>`, `slow_down: <factor>`, "
                "`lose_metrics_s: <seconds>`"
            )
        if self.model is not None and self.slow_down is None:
            raise ValueError("`model` goes with `slow_down`")
        return self


class ClusterBudget(Budget):
    """GPUs that the cluster's models share, and who has them when they do not suffice."""

    weights: dict[str, Positive] = Field({}, description="weights, by model; none: 1")
    replica_capacity_rps: dict[str, Positive] = Field(
        {},
        description="requests/s that a replica serves within the target, by model, for `sum`; none: the policy's, "
        "or computed from the profile",
    )


class ClusterRunConfig(Strict):
    """`kis simulate --cluster`: a cluster, its traffic and its policies."""

    cluster: ClusterConfig
    traffic: dict[str, TrafficConfig] = Field({}, description="open-loop traffic, by model")
    users: dict[str, UsersConfig] = Field({}, description="closed-loop users, by model")
    policies: dict[str, PolicySettings] = Field(
        {}, description="policies, by model; none: a constant number of replicas"
    )
    budget: ClusterBudget | None = Field(None, description="GPUs that the models share; none: all that there are")
    faults: tuple[Fault, ...] = Field((), description="faults, with their times")
    duration_s: float = Field(600.0, gt=0, description="length of the run")
    seed: int = Field(0, description="seed of the arrivals and service times")
    draws: int = Field(0, ge=0, description="number of simulated further runs, for 90 % intervals; 0: no intervals")

    @model_validator(mode="after")
    def _models_are_served(self) -> Self:
        served = [model.name for model in self.cluster.models]
        struck = [name for fault in self.faults for name in (fault.crash, fault.model) if name is not None]
        if len(served) > 1 and any(planned.slow_down is not None and planned.model is None for planned in self.faults):
            raise ValueError(f"faults: the cluster serves {', '.join(served)}: say which `model` is slowed down")
        named: dict[str, Iterable[str]] = {
            "traffic": self.traffic,
            "users": self.users,
            "policies": self.policies,
            "faults": struck,
        }
        if self.budget is not None:
            named |= {
                "budget.weights": self.budget.weights,
                "budget.replica_capacity_rps": self.budget.replica_capacity_rps,
            }
        if not self.traffic and not self.users:
            raise ValueError("give traffic (open loop) or users (closed loop)")
        nodes = [f"{pool.name}-{k}" for pool in self.cluster.pools for k in range(pool.most)]
        for fault in self.faults:
            if fault.lose_node is not None and fault.lose_node not in nodes:
                raise ValueError(f"faults name the node '{fault.lose_node}', the cluster has {', '.join(nodes)}")
        for what, names in named.items():
            for name in names:
                if name not in served:
                    raise ValueError(f"{what} names the model '{name}', the cluster serves {', '.join(served)}")
        return self

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        if self.budget is None:
            return self
        if len(self.cluster.models) == 1:
            raise ValueError("budget: it is for several models, the cluster serves one: give its policy max_replicas")
        there = sum(pool.most * pool.gpus for pool in self.cluster.pools)
        if self.budget.gpus > there:
            raise ValueError(
                f"budget: gpus is {float(self.budget.gpus):g}, the nodes have {there}: give as many at most"
            )
        return self
