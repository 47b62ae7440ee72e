"""What `kis controller` is given."""

from __future__ import annotations

from fractions import Fraction
from typing import Self

from pydantic import Field, model_validator

from testbed.autoscaling.budget import Budget, Gpus, Positive
from testbed.autoscaling.settings import PolicySettings
from testbed.config import Strict
from testbed.controller.guard import Limits

CAPACITY = "replica_capacity_rps"


class ScaledDeployment(Strict):
    """A deployment, its policy, and the limits of that."""

    deployment: str = Field(description="name of the scaled deployment")
    model: str = Field(description="model that its pods serve")
    policy: PolicySettings = Field(description="kind and parameters of the policy, as in a simulated cluster")
    limits: Limits
    activator: str | None = Field(
        None, description="address of `kis activator` before the pods; it counts what is sent, also at 0 replicas"
    )


class ControllerProcess(Strict):
    """What all deployments of one process have in common."""

    namespace: str | None = Field(
        None, description="namespace of the deployment; none: the pod's own, or `default` outside of a cluster"
    )
    scrape_period_s: float = Field(1.0, gt=0, description="time between two scrapes of a pod's metrics")
    lease: str | None = Field(
        None, description="name of the Lease; of several controllers, only its owner acts; none: no election"
    )
    lease_s: float = Field(6.0, ge=1, description="time after which another controller takes over")
    shadow: bool = Field(False, description="decide, log and export, but never patch")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the controller's own metrics; 0: no page")


class ControllerConfig(ControllerProcess, ScaledDeployment):
    """`kis controller`: which deployment, under which policy, within which limits."""


class BudgetedDeployment(ScaledDeployment):
    """A deployment that shares a budget of GPUs with others."""

    weight: Positive = Field(1.0, description="weight in the objective of the budget")
    gpus_per_replica: Gpus = Field(
        Fraction(1), ge=0, description='GPUs of one replica: 1, or a part where pods share one ("1/4"); 0: none'
    )
    replica_capacity_rps: Positive | None = Field(
        None, description="requests/s that a replica serves within the target, for `sum`; none: the policy's"
    )

    @property
    def capacity_rps(self) -> float | None:
        """See replica_capacity_rps."""
        own = self.replica_capacity_rps
        return self.policy.get(CAPACITY) if own is None else own


class BudgetControllerConfig(ControllerProcess):
    """`kis controller`: several deployments of one namespace, each with its policy and limits, on a budget of GPUs."""

    deployments: tuple[BudgetedDeployment, ...] = Field(min_length=2, description="deployments that share the budget")
    budget: Budget

    @model_validator(mode="after")
    def _deployments_fit(self) -> Self:
        names = [each.deployment for each in self.deployments]
        if len(set(names)) < len(names):
            raise ValueError(f"deployments: two have the same name ({', '.join(names)})")
        for each in self.deployments:
            if self.budget.objective == "sum" and each.capacity_rps is None:
                raise ValueError(f"deployments: {each.deployment}: give {CAPACITY}: the objective sum rests on it")
        return self
