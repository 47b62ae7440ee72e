"""What `kis adapt` is given."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from testbed.adaptation.settings import AdaptSettings
from testbed.config import Strict
from testbed.pipeline.cluster_config import ClusterRunConfig


class AdaptRunConfig(Strict):
    """`kis adapt`: a simulated cluster with a fault `slow_down`, and how its policy is adapted."""

    run: ClusterRunConfig = Field(description="simulated cluster with one model, one policy and one fault slow_down")
    adaptation: AdaptSettings = AdaptSettings()
    quiet_runs: int = Field(100, ge=0, description="number of runs without drift")

    @model_validator(mode="after")
    def _drifts_once(self) -> Self:
        if len(self.run.cluster.models) != 1 or len(self.run.policies) != 1:
            raise ValueError("run: adaptation is of one model under one policy")
        if [fault.slow_down is not None for fault in self.run.faults] != [True]:
            raise ValueError("run.faults: give one fault, `slow_down: <factor>` at a second of the run")
        return self

    @property
    def model(self) -> str:
        """Its name."""
        return self.run.cluster.models[0].name

    @property
    def drift_s(self) -> float:
        """When it begins."""
        return self.run.faults[0].at_s
