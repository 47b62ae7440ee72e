"""Every pod's Triton, read at once: Scrapes as a simulation makes them, and what a policy sees of the last minutes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.activator import ACTIVATOR, ActivatorReader, Demand
from testbed.autoscaling.observation import Scrape, Window, last_window, window_of
from testbed.errors import ServingError
from testbed.measurement.triton_metrics import TritonAddress, read_gauges, read_statistics

KEPT_S = 660.0  # how far back an observation may look
AT_ONCE = 32  # pods read at the same time
TIMEOUT_S = 0.9  # of each reading

# requests, queue_s, compute_s, waiting, active_s, gpu_share, batches
Reading = tuple[float, float, float, float, float, float, float]
_COUNTERS = (0, 1, 2, 4, 6)


class Counters:
    """Makes one's pods' counters go on where they were when a server began again at 0 under the same pod's name."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[Reading, tuple[float, ...]]] = {}  # the last reading, and what came before it

    def go_on(self, pod: str, now: Reading) -> Reading:
        """The reading, with what the pod's earlier servers did added to it."""
        last, before = self._pods.get(pod, (now, (0.0,) * len(now)))
        if any(now[k] < last[k] for k in _COUNTERS):
            before = tuple(
                b + value if k in _COUNTERS else 0.0 for k, (b, value) in enumerate(zip(before, last, strict=True))
            )
        self._pods[pod] = now, before
        requests, queue_s, compute_s, waiting, active_s, gpu, batches = (
            b + value for b, value in zip(before, now, strict=True)
        )
        return requests, queue_s, compute_s, waiting, active_s, gpu, batches

    def keep(self, pods: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(pods)
        self._pods = {pod: known for pod, known in self._pods.items() if pod in wanted}


class PodScraper:
    """Reads one model's statistics of all pods. A pod that does not answer, or answers nonsense, is left out.

    activator: counts what is sent to the service, also while there is no pod; what it does not tell is not known.
    """

    def __init__(self, model: str, activator: ActivatorReader | None = None) -> None:
        self.scrapes: deque[Scrape] = deque()
        self.failures: Mapping[str, str] = {}  # pod, or ACTIVATOR -> why it is not in the last scrape
        self._model, self._activator = model, activator
        self._counters = Counters()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scrape")

    def scrape(self, now_s: float, pods: Sequence[TritonAddress]) -> Scrape:
        """One reading of all of them; it is kept."""
        counted = self._pool.submit(self._count)
        answers = list(self._pool.map(self._read, pods))
        demand = counted.result()
        self.failures = {pod.endpoint: a for pod, a in zip(pods, answers, strict=True) if isinstance(a, str)}
        if isinstance(demand, str):
            self.failures = {**self.failures, ACTIVATOR: demand}
            demand = None
        read = [
            (pod.endpoint, self._counters.go_on(pod.endpoint, a))
            for pod, a in zip(pods, answers, strict=True)
            if not isinstance(a, str)
        ]
        values = np.array([row for _, row in read], dtype=float).reshape(-1, 7)
        cpu_s = np.full(len(read), np.nan)  # Triton does not tell
        requests, queue_s, compute_s, waiting, active_s, gpu_share, batches = values.T
        scrape = Scrape(
            time_s=now_s,
            pods=tuple(name for name, _ in read),
            requests=requests,
            queue_s=queue_s,
            compute_s=compute_s,
            waiting=waiting,
            active_s=active_s,
            cpu_s=cpu_s,
            gpu_share=gpu_share,
            batches=batches,
            batch_s=active_s,  # Triton tells no other: what its batches took, each once
            sent=None if demand is None else demand.sent,
            held=None if demand is None else demand.held,
        )
        self.scrapes.append(scrape)
        while self.scrapes[0].time_s < now_s - KEPT_S:
            self.scrapes.popleft()
        self._counters.keep(name for kept in self.scrapes for name in kept.pods)
        return scrape

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _count(self) -> Demand | str | None:
        """What was sent; None: nobody counts it; or why it is not known."""
        try:
            return None if self._activator is None else self._activator.read()
        except ServingError as error:
            return str(error)

    def _read(self, pod: TritonAddress) -> Reading | str:
        """What it tells; or why it does not."""
        try:
            known = read_statistics(pod.http_url, self._model, TIMEOUT_S)
            assert pod.metrics_url is not None
            now = read_gauges(pod.metrics_url, self._model, TIMEOUT_S)
        except ServingError as error:
            return str(error)
        except Exception as error:  # whatever a page makes a parser do, the other pods are still read
            return f"{pod.endpoint} answers nonsense ({type(error).__name__}: {error})"
        active_s = sum(batch.compute_ns for batch in known.batches.values()) / 1e9
        compute_s = sum(size * batch.compute_ns for size, batch in known.batches.items()) / 1e9
        requests, batches = float(known.succeeded), float(known.executions)
        return requests, known.queue_ns / 1e9, compute_s, now.waiting, active_s, now.gpu_share, batches


def steady_clock() -> Callable[[], float]:
    """A clock of seconds since 1970, as the machine's clock had it when this was called, that only goes on from there.

    Its times may be compared and subtracted, whatever is done to the machine's clock meanwhile, and may be shown. One
    clock is for one run: two of them differ by as much as the machine's clock was set between their beginnings.
    """
    offset_s = time.time() - time.monotonic()
    return lambda: offset_s + time.monotonic()


@dataclass(frozen=True)
class LiveObservation:
    """An Observation of a real deployment: its pods from the API, its metrics from the scrapes.

    Times are seconds on the controller's clock (steady_clock).
    """

    now_s: float
    spec_replicas: int
    pods: Sequence[PodState]
    scrapes: Sequence[Scrape]

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        """See Observation. The metrics are as old as they are: metrics_delay_s is the least age wanted."""
        places = last_window([scrape.time_s for scrape in self.scrapes], self.now_s, seconds, metrics_delay_s)
        return None if places is None else window_of(self.scrapes[places[0] : places[1] + 1])
