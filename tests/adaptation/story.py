"""An adaptation as a story: windows of 5 s with a clock of their own, and a bench that answers what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from testbed.adaptation.adapt import Setting, first_memory, step
from testbed.adaptation.candidate import Finding, with_rate
from testbed.adaptation.journal import JournalEntry
from testbed.adaptation.judge import CandidateVerdict, Costs
from testbed.adaptation.recalibrate import Serves
from testbed.adaptation.settings import AdaptSettings, DriftSettings, JudgeSettings
from testbed.adaptation.states import Memory, State
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Predictive
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.cluster.config import ClusterConfig
from tests.adaptation.drifting import varying_profile
from tests.oracles.cluster_worlds import cluster

SETTINGS = AdaptSettings(
    drift=DriftSettings(level_windows=4),
    judge=JudgeSettings(scenarios=5, duration_s=60.0),
    shadow_s=20.0,
    probation_s=40.0,
    cooldown_s=30.0,
    hold_s=100.0,
)
POLICY = Predictive(replica_capacity_rps=200.0, provisioning_delay_s=3.0, max_replicas=4)


def small_cluster(**model: Any) -> ClusterConfig:
    return cluster(gpus=4, max_replicas=4, max_batch_size=8, latency_target_s=0.03, balancer="random", **model)


def finding(confidence: float = 1.0, latency_s: float = 0.01) -> Finding:
    outcome = Costs(0.01, 0.5, latency_s, 0.6)
    serves = Serves(120.0, "told")
    verdict = CandidateVerdict(outcome, outcome, 0.1, confidence)
    return Finding(with_rate(POLICY, 120.0), "replica_capacity_rps 200 -> 120", serves, verdict, {"another": 0.05})


@dataclass
class Story:
    """Windows of 5 s, one after the other. slowness: factor on batch times; sojourn_s: of requests in their server."""

    settings: AdaptSettings = SETTINGS
    now_s: float = 0.0
    slowness: float = 1.0
    sojourn_s: float = 0.01
    answer: Any = None
    answered: bool = True  # does the service answer anything?
    scraped: bool = True  # are there windows at all?
    entries: list[JournalEntry] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    written: list[tuple[Path, ServiceProfile]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profile = varying_profile()
        self.setting = Setting(small_cluster(), self.settings, Path("folder"), "a story")
        self.memory: Memory = first_memory(self.profile, POLICY, self.settings)

    @property
    def state(self) -> State:
        """Now."""
        return self.memory.state

    def go(self, windows: int) -> list[str]:
        """So many windows; the states that were entered."""
        before = len(self.entries)
        for _ in range(windows):
            self.now_s += 5.0
            window = self._window() if self.scraped else None
            done = step(self.memory, self.now_s, 2, window, self.answer, self.setting)
            again = step(self.memory, self.now_s, 2, window, self.answer, self.setting)
            assert repr(done) == repr(again)  # it is pure; what is not known is NaN, which equals nothing
            self.memory = done.memory
            self.entries += done.entries
            self.tasks += [] if done.task is None else [done.task]
            self.written += [] if done.write is None else [done.write]
        return [entry.state for entry in self.entries[before:]]

    def _window(self) -> Window:
        one, batches, size = np.ones(1), 500.0 * self.answered, 2.0
        mean_s = self.slowness * self.profile.service_time.mean_s[1]
        requests = batches * size
        return Window(
            start_s=self.now_s - 5.0,
            end_s=self.now_s,
            pods=("a",),
            requests=requests * one,
            queue_s=one,
            waiting=0 * one,
            in_flight=requests / 5.0 * self.sojourn_s * one,
            utilisation=one,
            cpu_cores=one,
            batches=batches * one,
            batch_s=batches * mean_s * one,
        )


def drifted(**settings: Any) -> Story:
    """A story up to the moment when candidates are thought over: batches 1.4 times as long from second 50 on."""
    story = Story(SETTINGS.model_copy(update=settings))
    assert story.go(10) == []
    story.slowness = 1.4
    assert story.go(20)[:2] == ["ALARMED", "RECALIBRATING"]
    return story
