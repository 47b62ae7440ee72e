"""The control loop: look, scrape, decide, guard, patch. One turn is one call: it can be tested without waiting."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from testbed.autoscaling.budget import GpuBudget, arrival_rate
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import LiveObservation, PodScraper, steady_clock
from testbed.autoscaling.policy import Held, Policy
from testbed.controller.guard import DesiredCount, GuardDecision, GuardInput, Limits, ReadyPods, count_crew, guarded
from testbed.errors import ClusterError

EARLY = 0.1  # of a period: the loop turns about when a decision is due, and a look takes its time
REPEAT_S = 60.0  # what holds a decision back is an event when it begins, and so often while it lasts
_FIGURES = re.compile(r"[\d.]+")


class Scalable(Protocol):
    """A deployment that can be looked at and scaled. ClusterError if the API does not answer, or refuses."""

    def look(self) -> DeploymentStatus:
        """Its scale and its pods, now."""

    def patch(self, replicas: int, judged: int) -> None:
        """Its new number of replicas, if it still has the number that was judged; ClusterError if it has not."""

    def tell(self, reason: str, message: str, warning: bool) -> None:
        """An event on it; never fails."""


class Turn(NamedTuple):
    """One turn of the loop, for logs and metrics. replicas: patched; None: the count stayed."""

    time_s: float  # since 1970, on the controller's clock
    acted: bool  # leader, and not a shadow
    spec_replicas: int | None  # None: the API did not answer
    wanted: int | None
    replicas: int | None
    reason: str  # of the policy
    refusal: str  # why not what was wanted, or what went wrong
    not_made: int = 0  # replicas asked for that are no pods at all: a quota, or an admission, refuses them
    not_ready: Mapping[str, str] = MappingProxyType({})  # pod -> why
    ready: int | None = None  # pods that take requests; None: the API did not answer
    pending: int | None = None  # pods that have not started yet
    load: float | None = None  # see Decision
    held: Held | None = None  # see Decision


class _Asked(NamedTuple):
    """What the policy said; see Decision. replicas: None: it failed."""

    replicas: int | None
    reason: str
    load: float | None
    held: Held | None


class Place(NamedTuple):
    """A deployment's place in the budget of GPUs that it shares with others: under this name."""

    budget: GpuBudget
    name: str


class Controller:
    """One deployment under one policy. leads(): may this process act now? shadow: it decides, and never patches.

    place: in a budget, which then lies between policy and guard. clock: seconds since 1970 that never go back (None:
    steady_clock). Scrapes, windows, history, and what the policy and its adaptation remember are all on it.
    """

    def __init__(
        self,
        deployment: Scalable,
        scraper: PodScraper,
        policy: Policy,
        limits: Limits,
        *,
        leads: Callable[[], bool] = lambda: True,
        shadow: bool = False,
        place: Place | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._deployment, self._scraper, self._policy, self._limits = deployment, scraper, policy, limits
        self._leads, self._shadow, self._place, self._clock = leads, shadow, place, clock or steady_clock()
        self._memory: Any = None
        self._history: tuple[DesiredCount, ...] = ()
        self._decide_s = -math.inf  # when the policy is asked again
        self._started = False
        self._crew: ReadyPods | None = None
        self._last_refusal = ("", -REPEAT_S)  # what the last event said, without its figures, and when

    def _look(self) -> DeploymentStatus | str:
        """Look and scrape, without deciding; a text says what went wrong."""
        try:
            status = self._deployment.look()
        except ClusterError as error:
            if self._place is not None:
                self._place.budget.note(self._place.name, keeps=True)
            return str(error)
        if self._place is not None:
            self._place.budget.note(self._place.name, held=held_replicas(status), keeps=False)
        now_s = self._clock()
        self._crew = count_crew(self._crew, now_s, status.spec_replicas, len(status.addresses))
        self._scraper.scrape(now_s, status.addresses)
        return status

    def turn(self) -> Turn | None:
        """Look and scrape; decide if the policy's time has come. None: only looked."""
        begin_s, period_s = self._clock(), self._policy.period_s
        status = self._look()
        now_s = self._clock()
        if begin_s < self._decide_s - EARLY * period_s:
            return None
        if begin_s > self._decide_s + period_s:  # the first one; or it stood still, and does not catch up
            self._decide_s = begin_s
        self._decide_s += period_s
        acting = self._leads() and not self._shadow
        if isinstance(status, str):
            return Turn(now_s, acting, None, None, None, "", status)  # an event would not arrive either
        if not self._started:  # its count counts as wanted: after a restart, a step down waits for its window
            self._started, self._history = True, (DesiredCount(now_s, status.spec_replicas),)
        observation = LiveObservation(now_s, status.spec_replicas, status.pods, tuple(self._scraper.scrapes))
        known = self._known(status, now_s)
        asked = self._ask(observation)
        allowed, limits, why = self._within(asked.replicas, known, observation)
        verdict = guarded(allowed, known, self._history, limits)
        self._history = verdict.history
        return self._act(status, now_s, acting, asked, verdict, why)

    def _within(
        self, wanted: float | None, known: GuardInput, observation: LiveObservation
    ) -> tuple[float | None, Limits, str]:
        """What the budget leaves of what the policy wants, the limits that fit to it, and why it is not all."""
        if self._place is None:
            return wanted, self._limits, ""
        budget, name = self._place
        bounded = None
        if wanted is not None and math.isfinite(wanted) and wanted >= 0:
            bounded = min(max(math.ceil(wanted), self._limits.min_replicas), self._limits.max_replicas)
            rate_rps = arrival_rate(observation) if known.scraped == known.ready else None
            budget.note(name, wanted=bounded, rate_rps=rate_rps)
        granted, why = budget.grant(name, known.spec_replicas)
        # The guard goes up to the minimum whatever is known; without a GPU for it, it does not.
        least = min(self._limits.min_replicas, granted)
        limits = self._limits.model_copy(update={"min_replicas": least})
        return (wanted if bounded is None or bounded <= granted else granted), limits, why

    def _ask(self, observation: LiveObservation) -> _Asked:
        try:
            decision = self._policy.decide(observation, self._memory)
        except Exception as error:
            return _Asked(None, f"{type(error).__name__}: {error}", None, None)
        self._memory = decision.memory
        return _Asked(decision.replicas, decision.reason, decision.load, decision.held)

    def _known(self, status: DeploymentStatus, now_s: float) -> GuardInput:
        last = self._scraper.scrapes[-1] if self._scraper.scrapes else None
        with_pods = [scrape for scrape in self._scraper.scrapes if scrape.pods]
        scraped = 0 if last is None else len(set(last.pods) & {address.endpoint for address in status.addresses})
        metrics_s = with_pods[-1].time_s if with_pods else None
        lost_s = None if self._crew is None else self._crew.lost_s
        return GuardInput(now_s, status.spec_replicas, len(status.addresses), scraped, metrics_s, lost_s)

    def _act(
        self,
        status: DeploymentStatus,
        now_s: float,
        acting: bool,
        asked: _Asked,
        verdict: GuardDecision,
        cut: str,
    ) -> Turn:
        replicas, refusal = verdict.replicas, _joined(verdict.refusal, cut)
        if replicas is not None and acting:
            try:
                if not self._leads():  # it may have been stopped for a while since it was asked
                    raise ClusterError("the lease ran out before the decision was carried out")
                self._deployment.patch(replicas, status.spec_replicas)
            except ClusterError as error:
                replicas, refusal = None, str(error)
            else:
                message = f"{status.spec_replicas} -> {replicas}: {_joined(asked.reason, cut)}"
                self._deployment.tell("Scaled", message, warning=False)
        if acting:
            self._tell_refusal(refusal, now_s)
        living = sum(not pod.deleting and pod.phase in ("Pending", "Running") for pod in status.pods)
        not_made = max(0, status.spec_replicas - living)
        pending = sum(pod.phase == "Pending" and not pod.deleting for pod in status.pods)
        return Turn(
            now_s,
            acting,
            status.spec_replicas,
            asked.replicas,
            replicas,
            asked.reason,
            refusal,
            not_made=not_made,
            not_ready=dict(status.not_ready),
            ready=len(status.addresses),
            pending=pending,
            load=asked.load,
            held=asked.held,
        )

    def _tell_refusal(self, refusal: str, now_s: float) -> None:
        what, (before, event_s) = _FIGURES.sub("", refusal), self._last_refusal
        if not refusal:
            self._last_refusal = ("", -REPEAT_S)
        elif what != before or now_s - event_s >= REPEAT_S:
            self._last_refusal = (what, now_s)
            self._deployment.tell("Held", refusal, warning=True)


def _joined(*parts: str) -> str:
    """Those that say something."""
    return "; ".join(filter(None, parts))


def held_replicas(status: DeploymentStatus) -> int:
    """Replicas whose GPUs nobody else can have: those that are asked for, and pods that are not gone yet."""
    there = [pod for pod in status.pods if pod.phase in ("Pending", "Running")]
    leaving = sum(pod.deleting for pod in there)
    return max(status.spec_replicas, len(there) - leaving) + leaving
