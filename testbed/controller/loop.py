"""The control loop: look, scrape, decide, guard, patch. One turn is one call: it can be tested without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.policy import Policy
from testbed.controller.guard import Known, Limits, Verdict, Wish, judge
from testbed.controller.observed import LiveObservation
from testbed.controller.scraper import PodScraper
from testbed.errors import ClusterError
from testbed.measurement.triton_metrics import TritonAddress


class Seen(NamedTuple):
    """A deployment as the API shows it. addresses: of its ready pods that are not being deleted."""

    spec_replicas: int
    pods: Sequence[PodState]
    addresses: Sequence[TritonAddress]


class Scalable(Protocol):
    """A deployment that can be looked at and scaled. ClusterError if the API does not answer, or refuses."""

    def look(self) -> Seen:
        """Its scale and its pods, now."""

    def patch(self, replicas: int) -> None:
        """Its new number of replicas."""

    def tell(self, reason: str, message: str, warning: bool) -> None:
        """An event on it; never fails."""


class Turn(NamedTuple):
    """One turn of the loop, for logs and metrics. replicas: patched; None: the count stayed."""

    time_s: float
    acted: bool  # leader, and not a shadow
    spec_replicas: int | None  # None: the API did not answer
    wanted: int | None
    replicas: int | None
    reason: str  # of the policy
    held: str  # why not what was wanted, or what went wrong


class Controller:
    """One deployment under one policy. leads(): may this process act now? shadow: it decides, and never patches."""

    def __init__(
        self,
        deployment: Scalable,
        scraper: PodScraper,
        policy: Policy,
        limits: Limits,
        *,
        leads: Callable[[], bool] = lambda: True,
        shadow: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._deployment, self._scraper, self._policy, self._limits = deployment, scraper, policy, limits
        self._leads, self._shadow, self._clock = leads, shadow, clock
        self._memory: Any = None
        self._wishes: tuple[Wish, ...] = ()
        self._decide_s = 0.0  # when the policy is asked again
        self._started = False

    def _look(self) -> Seen | str:
        """Look and scrape, without deciding; a text says what went wrong."""
        try:
            seen = self._deployment.look()
        except ClusterError as error:
            return str(error)
        self._scraper.scrape(self._clock(), seen.addresses)
        return seen

    def turn(self) -> Turn | None:
        """Look and scrape; decide if the policy's time has come. None: only looked."""
        seen = self._look()
        now_s = self._clock()
        if now_s < self._decide_s:
            return None
        self._decide_s = now_s + self._policy.period_s
        acting = self._leads() and not self._shadow
        if isinstance(seen, str):
            return Turn(now_s, acting, None, None, None, "", seen)
        if not self._started:  # the count that it finds is a wish: after a restart, a step down waits for its window
            self._started, self._wishes = True, (Wish(now_s, seen.spec_replicas),)
        wanted, reason = self._ask(seen, now_s)
        verdict = judge(wanted, self._known(seen, now_s), self._wishes, self._limits)
        self._wishes = verdict.wishes
        return self._act(seen, now_s, acting, wanted, reason, verdict)

    def _ask(self, seen: Seen, now_s: float) -> tuple[int | None, str]:
        observation = LiveObservation(now_s, seen.spec_replicas, seen.pods, tuple(self._scraper.scrapes))
        try:
            decision = self._policy.decide(observation, self._memory)
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"
        self._memory = decision.memory
        return decision.replicas, decision.reason

    def _known(self, seen: Seen, now_s: float) -> Known:
        last = self._scraper.scrapes[-1] if self._scraper.scrapes else None
        told = [one for one in self._scraper.scrapes if one.pods]
        scraped = 0 if last is None else len(set(last.pods) & {one.endpoint for one in seen.addresses})
        return Known(now_s, seen.spec_replicas, len(seen.addresses), scraped, told[-1].time_s if told else None)

    def _act(self, seen: Seen, now_s: float, acting: bool, wanted: int | None, reason: str, verdict: Verdict) -> Turn:
        replicas, held = verdict.replicas, verdict.held
        if replicas is not None and acting:
            try:
                self._deployment.patch(replicas)
            except ClusterError as error:
                replicas, held = None, str(error)
            else:
                self._deployment.tell("Scaled", f"{seen.spec_replicas} -> {replicas}: {reason}", warning=False)
        if held and acting:
            self._deployment.tell("Held", held, warning=True)
        return Turn(now_s, acting, seen.spec_replicas, wanted, replicas, reason, held)
