"""Configuration of an evaluation: one simulated service, some traffic, some policies, and which two matter most."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from testbed.autoscaling.build import knows_the_future
from testbed.autoscaling.settings import PolicySettings
from testbed.config import Strict, TrafficConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.objective import DESCRIPTION, Objective, check
from testbed.pipeline.traffic import own_length_s
from testbed.simulation.cluster.config import ClusterConfig

PER_TRAFFIC = "per_traffic"


class EvaluateConfig(Strict):
    """`kis evaluate`: every traffic under every policy, with several seeds."""

    cluster: ClusterConfig = Field(description="simulated cluster; its one model is scaled")
    traffic: dict[str, TrafficConfig] = Field(
        min_length=1, description="traffic, by any name; not the traffic of a training"
    )
    policies: dict[str, PolicySettings] = Field(
        min_length=2,
        description="kind and parameters of each policy, by any name; or `per_traffic: {<traffic>: {kind and "
        "parameters}}`; an HPA may also be `{kind: hpa, tuned: <tuned.json of kis tune>}`",
    )
    objective: Objective = Field("gpu_seconds", description=DESCRIPTION)
    baseline: str = Field(description="policy with which the others are compared")
    challenger: str | None = Field(
        None, description="policy of the headline; none: the first one that is neither the baseline nor an oracle"
    )
    seeds: int = Field(10, ge=2, description="runs of each pair of traffic and policy")
    duration_s: float = Field(600.0, gt=0, description="length of patterns without one; a trace has its own length")
    seed: int = Field(0, description="seed from which the runs' seeds are derived")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.cluster.models) != 1:
            raise ValueError(f"cluster.models: policies scale one model, this cluster has {len(self.cluster.models)}")
        check(self.objective, self.cluster)
        for what, names in (("traffic", self.traffic), ("policies", self.policies)):
            for name in names:
                if not name.replace("-", "").isalnum() or name != name.lower():
                    raise ValueError(f"{what}: '{name}' names files: give lower-case letters, digits and '-'")
        for role, chosen in (("baseline", self.baseline), ("challenger", self.challenger)):
            if chosen is not None and chosen not in self.policies:
                raise ValueError(f"{role} '{chosen}' is none of the policies {', '.join(self.policies)}")
        if self.challenger == self.baseline:
            raise ValueError(f"challenger and baseline are both '{self.baseline}': name two policies")
        for name, settings in self.policies.items():
            self._covers_traffic(name, settings)
        return self

    def _covers_traffic(self, name: str, settings: dict[str, Any]) -> None:
        if PER_TRAFFIC not in settings:
            return
        each = settings[PER_TRAFFIC]
        if (
            len(settings) > 1
            or not isinstance(each, dict)
            or not all(isinstance(inner, dict) for inner in each.values())
        ):
            raise ValueError(
                f"policies: {name}: per_traffic stands alone, and has kind and parameters for each name of traffic"
            )
        missing = [traffic for traffic in self.traffic if traffic not in each]
        unknown = [traffic for traffic in each if traffic not in self.traffic]
        if missing or unknown:
            problem = f"has nothing for {', '.join(missing)}" if missing else f"names {', '.join(unknown)}"
            raise ValueError(f"policies: {name}: per_traffic {problem}; the traffic is {', '.join(self.traffic)}")

    @property
    def model(self) -> str:
        """Its name."""
        return self.cluster.models[0].name

    @property
    def run_seeds(self) -> list[int]:
        """One a run, the same for every policy and traffic; more of them begin with the same ones."""
        return [int(state >> 1) for state in np.random.SeedSequence(self.seed).generate_state(self.seeds)]

    @property
    def headline(self) -> str:
        """The challenger. Where there are a baseline and oracles only, the first of those."""
        others = [name for name in self.policies if name != self.baseline]
        learners = [name for name in others if not self._is_oracle(name)]
        return self.challenger or (learners or others)[0]

    def _is_oracle(self, policy: str) -> bool:
        return all(knows_the_future(self.settings_of(policy, traffic)) for traffic in self.traffic)

    def settings_of(self, policy: str, traffic: str) -> dict[str, Any]:
        """A policy on that traffic, as configured."""
        settings = self.policies[policy]
        return dict(settings[PER_TRAFFIC][traffic]) if PER_TRAFFIC in settings else dict(settings)

    def run_of(self, traffic: str, settings: dict[str, Any], seed: int) -> ClusterRunConfig:
        """One run under a policy's settings."""
        of_traffic = self.traffic[traffic]
        return ClusterRunConfig(
            cluster=self.cluster,
            traffic={self.model: of_traffic},
            policies={self.model: settings},
            duration_s=own_length_s(of_traffic) or self.duration_s,
            seed=seed,
        )
