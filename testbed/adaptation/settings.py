"""What an adaptation is given: when a policy is adapted, how far, and how it is undone."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, model_validator

from testbed.config import Strict
from testbed.simulation.cluster.config import ClusterConfig


class DriftSettings(Strict):
    """What counts as a change, and how sure one must be."""

    window_s: float = Field(5.0, gt=0, description="over which the time of a batch is a mean")
    least_batches: int = Field(20, ge=1, description="a window with fewer is skipped")
    least_change: float = Field(0.15, gt=0, lt=1, description="of the time of a batch, that is to be found")
    level_windows: int = Field(12, ge=3, description="at least so many set the run's level")
    false_alarms: float = Field(0.01, gt=0, lt=1, description="chance of one within `without_alarm_s`")
    without_alarm_s: float = Field(86_400.0, gt=0, description="see false_alarms")


class RecalibrationSettings(Strict):
    """How much it takes to believe in a factor, and which ones are believed at all."""

    windows: int = Field(12, ge=3, description="after the change")
    least_factor: float = Field(0.4, gt=0, lt=1, description="beyond them a service is not the one that was calibrated")
    most_factor: float = Field(2.5, gt=1, description="see least_factor")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the factor's interval")

    @model_validator(mode="after")
    def _a_profile_can_be_moved_so_far(self) -> RecalibrationSettings:
        if max(-math.log(self.least_factor), math.log(self.most_factor)) > 1:  # as far as `moved` goes
            raise ValueError(f"factors are within {math.exp(-1):.2f} to {math.exp(1):.2f}")
        return self


class JudgeSettings(Strict):
    """In how many scenarios, for how long, and how sure one must be."""

    scenarios: int = Field(12, ge=5, description="simulated runs of a candidate")
    duration_s: float = Field(300.0, gt=0, description="of a scenario; arrivals of late are repeated to fill it")
    slo_penalty: float = Field(10.0, gt=0, description="of all requests missed, in GPU time of max_replicas")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="that no candidate wrongly takes over from an incumbent, of all that are tried"
    )
    seed: int = Field(0, description="of those runs")

    def needed(self, test: int) -> float:
        """Confidence for the test-th candidate (from 1) that is set against the same incumbent.

        Each is another chance to be wrong: the k-th gets 6 / (pi k)^2 of what may go wrong, all of them the whole.
        """
        return 1 - (1 - self.confidence) * 6 / (math.pi * test) ** 2


class TuningSettings(Strict):
    """To teach a learned incumbent on in KISim: minutes, and the `train` extra."""

    folder: Path = Field(description="of the training that it comes from: train.json and checkpoint.zip")
    steps: int = Field(50_000, ge=1, description="further decisions")


class AdaptSettings(Strict):
    """When a policy is adapted, how far, and how it is undone."""

    drift: DriftSettings = DriftSettings()
    recalibration: RecalibrationSettings = RecalibrationSettings()
    judge: JudgeSettings = JudgeSettings()
    tuning: TuningSettings | None = Field(None, description="teach a learned policy on; none: only its scale changes")
    thinking_s: float = Field(1800.0, gt=0, description="for candidates and their judgement, at most")
    shadow_s: float = Field(
        60.0, ge=0, description="that a candidate decides beside the incumbent before it takes over"
    )
    probation_s: float = Field(180.0, gt=0, description="after it took over, that it may be undone")
    slower: float = Field(1.5, gt=1, description="factor on the time in the server that undoes a promotion")
    cooldown_s: float = Field(120.0, ge=0, description="from the end of one adaptation to the next")
    promotions_per_hour: int = Field(4, ge=1, description="at most")
    hold_s: float = Field(900.0, ge=0, description="that everything stays after it was undone, or kept")


class AdaptConfig(Strict):
    """What the service was calibrated as, and in which simulated cluster candidates are judged."""

    cluster: ClusterConfig = Field(description="its one model, with its profile and latency target, is what is scaled")
    adaptation: AdaptSettings = AdaptSettings()
    folder: Path = Field(
        Path("adaptation"), description="of adaptation.jsonl and the new profiles; none named: in the current folder"
    )
