"""Deployments of Triton pods, scraped again and again: the source of the adapter's values."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from testbed.adapter.api import Value
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import LiveObservation, PodScraper, steady_clock
from testbed.autoscaling.metrics import METRICS, milli, of_all, of_each
from testbed.autoscaling.observation import Window
from testbed.errors import ClusterError
from testbed.log_line import print_line


class View(Protocol):
    """A deployment that can be looked at; ClusterError if the API does not answer."""

    def look(self) -> DeploymentStatus:
        """Its scale and its pods, now."""


class LastScrape(NamedTuple):
    """What was found at the last look. window None: there has not been a whole one yet."""

    ready: frozenset[str]
    labels: Mapping[str, Mapping[str, str]]
    window: Window | None


class Followed:
    """One deployment's values. window_s: over which they are means; stale_s: older than that they are not known.

    clock: seconds since 1970 that never go back; None: a steady_clock of its own.
    """

    def __init__(
        self,
        view: View,
        scraper: PodScraper,
        labels: Mapping[str, str],
        window_s: float,
        stale_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._view, self._scraper, self._labels = view, scraper, labels
        self._window_s, self._stale_s = window_s, stale_s
        self._clock = clock or steady_clock()
        self.name = labels["deployment"]
        self._known: LastScrape | None = None  # replaced as a whole: whoever reads it needs no lock

    def turn(self) -> Mapping[str, str]:
        """Look and scrape, once. What told nothing, and why: by pod, or by deployment if that could not be seen."""
        try:
            status = self._view.look()
        except ClusterError as error:
            return {self.name: str(error)}  # what was known grows old meanwhile
        now_s = self._clock()
        self._scraper.scrape(now_s, status.addresses)
        window = LiveObservation(now_s, status.spec_replicas, status.pods, tuple(self._scraper.scrapes)).window(
            self._window_s, 0.0
        )
        self._known = LastScrape(frozenset(address.endpoint for address in status.addresses), status.labels, window)
        return dict(self._scraper.failures)

    def of_pods(self, metric: str) -> list[Value]:
        """One value for each pod that was measured."""
        return [
            Value(pod, known.labels.get(pod, {}), milli(value), window.end_s, window.seconds)
            for window, known in self._fresh()
            for pod, value in of_each(metric, window).items()
        ]

    def of_deployment(self, metric: str) -> list[Value]:
        """The value for all its pods; none if one of those that are ready was not measured."""
        return [
            Value("", self._labels, milli(value), window.end_s, window.seconds)
            for window, known in self._fresh()
            if known.ready == frozenset(window.pods) and (value := of_all(metric, window)) is not None
        ]

    def _fresh(self) -> list[tuple[Window, LastScrape]]:
        """What is known, if it is not too old: at most one."""
        known = self._known
        if known is None or known.window is None or self._clock() - known.window.end_s > self._stale_s:
            return []
        return [(known.window, known)]


class FollowedDeployments:
    """Each deployment in a thread of its own. See api.MetricSource."""

    def __init__(self, deployments: Mapping[str, Sequence[Followed]], period_s: float) -> None:
        """deployments: by namespace."""
        self._deployments, self._period_s = deployments, period_s
        self._stop = threading.Event()
        self.metrics = tuple(METRICS.known())

    def start(self) -> None:
        """Follow from now on."""
        for deployment in (deployment for group in self._deployments.values() for deployment in group):
            threading.Thread(target=self._follow, args=(deployment,), name="follow", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()

    def of_pods(self, namespace: str, metric: str) -> Sequence[Value]:
        """See MetricSource."""
        return [v for deployment in self._deployments.get(namespace, ()) for v in deployment.of_pods(metric)]

    def of_deployments(self, namespace: str, metric: str) -> Sequence[Value]:
        """See MetricSource."""
        return [v for deployment in self._deployments.get(namespace, ()) for v in deployment.of_deployment(metric)]

    def _follow(self, deployment: Followed) -> None:
        reported: Mapping[str, str] = {}
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                failures = deployment.turn()
            except Exception as error:  # whatever it was, the next turn may do; meanwhile what was known grows old
                failures = {deployment.name: f"{type(error).__name__}: {error}"}
            if failures != reported:  # a line when something changes
                print_line(sys.stdout, not_measured=failures)
                reported = failures
            self._stop.wait(max(0.0, self._period_s - (time.monotonic() - begin)))
