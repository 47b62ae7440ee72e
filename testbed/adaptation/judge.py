"""Is a candidate better than the incumbent? Both in KISim, in scenarios with the new profile and the arrivals of late.

A scenario is a run of its own (run effects, seed); in each the two meet the same arrivals and the same random draws, so
what counts is the difference. What a policy costs is the reward that policies are trained for, less its part for
changes:

    cost = penalty * share of requests missed + GPU time held, of what max_replicas would hold

The confidence that the candidate is better is Student's, one-sided, of the differences in the scenarios.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple, Protocol

import numpy as np

from loadgen.patterns import make_pattern
from testbed.adaptation.settings import JudgeSettings
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.rollout import rollout
from testbed.autoscaling.simulated import PolicyRun
from testbed.calibration.another_run import another_run
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from testbed.statistics import confidence_above_zero
from workloads.errors import KisError

IDLE_NICENESS = 19  # of the process that judges


class Costs(NamedTuple):
    """One policy, mean over the scenarios. latency_s: mean of the answered requests."""

    slo_violation_rate: float
    gpu: float
    latency_s: float
    cost: float


class CandidateVerdict(NamedTuple):
    """The candidate beside the incumbent. gain: cost saved; confidence: that there is a gain."""

    candidate: Costs
    incumbent: Costs
    gain: float
    confidence: float

    @property
    def summary(self) -> str:
        """One line."""
        was, now = self.incumbent, self.candidate
        return (
            f"in KISim it misses {now.slo_violation_rate:.2%} instead of {was.slo_violation_rate:.2%} with "
            f"{now.gpu:.2f} instead of {was.gpu:.2f} of the GPU time: better with confidence {self.confidence:.3f}"
        )


class Case(NamedTuple):
    """What is to be judged. rates: arrivals/s of late, each for interval_s; replicas: at the start."""

    cluster: ClusterConfig
    profile: ServiceProfile
    incumbent: Policy
    candidates: tuple[Policy, ...]
    rates: tuple[float, ...]
    interval_s: float
    replicas: int
    settings: JudgeSettings


def judge_candidates(case: Case) -> tuple[CandidateVerdict, ...]:
    """One verdict a candidate; KisError if the arrivals are no numbers."""
    if not case.rates or not np.isfinite(case.rates).all():
        raise KisError("there are no arrivals of late to judge a candidate on")
    incumbent = _costs(case, case.incumbent)
    return tuple(_verdict(incumbent, _costs(case, candidate)) for candidate in case.candidates)


def _costs(case: Case, policy: Policy) -> np.ndarray:
    """float64[scenarios, 4]: slo_violation_rate, gpu, latency_s and cost in each scenario."""
    states = np.random.SeedSequence(case.settings.seed).spawn(case.settings.scenarios)
    return np.array([_played(case, policy, np.random.default_rng(state)) for state in states])


def _played(case: Case, policy: Policy, rng: np.random.Generator) -> tuple[float, float, float, float]:
    served, settings = case.cluster.models[0], case.settings
    served = served.model_copy(update={"replicas": min(max(1, case.replicas), served.max_replicas)})
    config = case.cluster.model_copy(update={"models": (served,)})
    (kind,) = served.profiles
    service = make_service(0, served, kind, another_run(case.profile, rng))
    repeats = int(np.ceil(settings.duration_s / (case.interval_s * len(case.rates))))
    pattern = make_pattern("trace", rates=case.rates * repeats, interval_s=case.interval_s)
    traffic_seed, seed = (int(integer) for integer in rng.integers(2**31, size=2))
    sim = KISim(config, [service], PatternTraffic((pattern,), traffic_seed), seed=seed)
    outcome = rollout(PolicyRun(sim, {served.name: policy}), served.name, settings.duration_s)
    missed = outcome.slo_violation_rate or 0.0  # None: nothing was sent
    gpu = outcome.gpu_seconds / (settings.duration_s * served.max_replicas)
    return missed, gpu, outcome.mean_latency_s or float("nan"), settings.slo_penalty * missed + gpu


def _verdict(incumbent: np.ndarray, candidate: np.ndarray) -> CandidateVerdict:
    saved = incumbent[:, 3] - candidate[:, 3]
    return CandidateVerdict(
        Costs(*candidate.mean(axis=0).tolist()),
        Costs(*incumbent.mean(axis=0).tolist()),
        float(saved.mean()),
        confidence_above_zero(saved),
    )


class JudgeWorker(Protocol):
    """Where cases are judged."""

    def submit(self, work: Callable[[], object]) -> None:
        """Begin; what was begun before is forgotten."""

    def answer(self) -> object | None:
        """What came of it, once; None: nothing yet. An exception is an answer too."""

    def close(self) -> None:
        """End what runs."""


class Inline:
    """In this thread: for a simulation, whose time stands still meanwhile.

    answer_after: the answer is given when it is asked for so often; a real bench takes its time, too.
    """

    def __init__(self, answer_after: int = 1) -> None:
        self._answer: object | None = None
        self._answer_after, self._left = answer_after, answer_after

    def submit(self, work: Callable[[], object]) -> None:
        """See JudgeWorker."""
        self._answer, self._left = _done(work), self._answer_after

    def answer(self) -> object | None:
        """See JudgeWorker."""
        self._left -= 1
        if self._left > 0:
            return None
        kept_answer, self._answer = self._answer, None
        return kept_answer

    def close(self) -> None:
        """See JudgeWorker."""


class Background:
    """In a process of its own, of the lowest priority: for a controller, whose loop must turn."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._answers: Connection | None = None

    def submit(self, work: Callable[[], object]) -> None:
        """See JudgeWorker. The process is new each time, and ends with its answer."""
        self.close()
        spawn = get_context("spawn")  # the controller has threads, and a fork of them may hang
        self._answers, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_think, args=(theirs, work))
        self._process.start()
        theirs.close()

    def answer(self) -> object | None:
        """See JudgeWorker."""
        if self._answers is None or not self._answers.poll():
            return None
        try:
            received: object = self._answers.recv()
        except EOFError:
            received = KisError("the process that judged ended without an answer")
        self.close()
        return received

    def close(self) -> None:
        """See JudgeWorker: a process that still thinks is killed."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._answers is not None:
            self._answers.close()
        self._process = self._answers = None


def _think(answers: Connection, work: Callable[[], object]) -> None:
    os.nice(IDLE_NICENESS)
    answers.send(_done(work))


def _done(work: Callable[[], object]) -> object:
    """Its result; or what went wrong, as a KisError that can be handed from one process to another."""
    try:
        return work()
    except Exception as error:
        return KisError(f"{type(error).__name__}: {error}")


def best_of(verdicts: Sequence[CandidateVerdict]) -> int:
    """The candidate that saves most."""
    return max(range(len(verdicts)), key=lambda k: verdicts[k].gain)
