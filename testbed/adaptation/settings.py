"""What an adaptation is given: when a policy is adapted, how far, and how it is undone."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, model_validator

from testbed.config import Strict
from testbed.simulation.cluster.config import ClusterConfig


class DriftSettings(Strict):
    """The smallest change to detect, and the permitted rate of false alarms."""

    window_s: float = Field(5.0, gt=0, description="window over which batch times are averaged")
    least_batches: int = Field(20, ge=1, description="windows with fewer batches are skipped")
    least_change: float = Field(0.15, gt=0, lt=1, description="smallest relative change of the batch time to detect")
    level_windows: int = Field(12, ge=3, description="smallest number of windows that set the level of the run")
    false_alarms: float = Field(0.01, gt=0, lt=1, description="probability of a false alarm within `without_alarm_s`")
    without_alarm_s: float = Field(86_400.0, gt=0, description="time to which `false_alarms` refers")


class RecalibrationSettings(Strict):
    """How a factor is estimated, and which factors are accepted."""

    windows: int = Field(12, ge=3, description="windows after the change from which the factor is estimated")
    least_factor: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="smallest accepted factor; beyond the limits, the service is not the calibrated one",
    )
    most_factor: float = Field(2.5, gt=1, description="largest accepted factor")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence of the factor's interval")

    @model_validator(mode="after")
    def _a_profile_can_be_moved_so_far(self) -> RecalibrationSettings:
        if max(-math.log(self.least_factor), math.log(self.most_factor)) > 1:  # as far as `moved` goes
            raise ValueError(f"factors are within {math.exp(-1):.2f} to {math.exp(1):.2f}")
        return self


class JudgeSettings(Strict):
    """How candidates are compared: number and length of the scenarios, cost, confidence."""

    scenarios: int = Field(12, ge=5, description="number of simulated runs of each candidate")
    duration_s: float = Field(300.0, gt=0, description="length of a scenario; recent arrivals are repeated to fill it")
    slo_penalty: float = Field(
        10.0,
        gt=0,
        description="cost of a scenario in which all requests violate the target, in units of the GPU time of "
        "max_replicas",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability that no worse candidate is promoted, over all candidates"
    )
    seed: int = Field(0, description="seed of the simulated runs")

    def needed(self, test: int) -> float:
        """Confidence for the test-th candidate (from 1) that is set against the same incumbent.

        Each is another chance to be wrong: the k-th gets 6 / (pi k)^2 of what may go wrong, all of them the whole.
        """
        return 1 - (1 - self.confidence) * 6 / (math.pi * test) ** 2


class TuningSettings(Strict):
    """Further training of a learned incumbent in KISim. It takes minutes, and needs the `train` extra."""

    folder: Path = Field(description="folder of the original training, with train.json and checkpoint.zip")
    steps: int = Field(50_000, ge=1, description="number of further decisions")


class AdaptSettings(Strict):
    """When a policy is adapted, how far, and how it is undone."""

    drift: DriftSettings = DriftSettings()
    recalibration: RecalibrationSettings = RecalibrationSettings()
    judge: JudgeSettings = JudgeSettings()
    tuning: TuningSettings | None = Field(
        None, description="further training of a learned policy; none: only its capacity per replica changes"
    )
    thinking_s: float = Field(1800.0, gt=0, description="time limit for computing and judging candidates")
    shadow_s: float = Field(
        60.0, ge=0, description="time for which a candidate decides in shadow mode before its promotion"
    )
    probation_s: float = Field(180.0, gt=0, description="time after a promotion in which it may be undone")
    slower: float = Field(1.5, gt=1, description="ratio of the times in the server that undoes a promotion")
    cooldown_s: float = Field(120.0, ge=0, description="pause between the end of one adaptation and the next")
    promotions_per_hour: int = Field(4, ge=1, description="largest number of promotions per hour")
    hold_s: float = Field(900.0, ge=0, description="pause after a promotion was undone, or the incumbent was kept")


class AdaptConfig(Strict):
    """`--adapt`: the settings of online adaptation, and the simulated cluster in which candidates are judged."""

    cluster: ClusterConfig = Field(
        description="simulated cluster in which candidates are judged; its one model has the profile and the "
        "latency target"
    )
    adaptation: AdaptSettings = AdaptSettings()
    folder: Path = Field(
        Path("adaptation"), description="folder for adaptation.jsonl and new profiles; default: the current folder"
    )
