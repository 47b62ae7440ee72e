"""Every pod's Triton, read at once: Scrapes as a simulation makes them, and the last minutes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from testbed.autoscaling.observation import Scrape
from testbed.errors import ServingError
from testbed.measurement.triton_metrics import TritonAddress, read_gauges, read_statistics

KEPT_S = 660.0  # how far back an observation may look
AT_ONCE = 32  # pods read at the same time

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
    """Reads one model's statistics of all pods. A pod that does not answer, or answers nonsense, is left out."""

    def __init__(self, model: str, timeout_s: float = 0.9) -> None:
        self.scrapes: deque[Scrape] = deque()
        self.failures: Mapping[str, str] = {}  # pod -> why it is not in the last scrape
        self._model, self._timeout_s = model, timeout_s
        self._counters = Counters()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scrape")

    def scrape(self, now_s: float, pods: Sequence[TritonAddress]) -> Scrape:
        """One reading of all of them; it is kept."""
        answers = list(self._pool.map(self._read, pods))
        self.failures = {pod.endpoint: a for pod, a in zip(pods, answers, strict=True) if isinstance(a, str)}
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
        )
        self.scrapes.append(scrape)
        while self.scrapes[0].time_s < now_s - KEPT_S:
            self.scrapes.popleft()
        self._counters.keep(name for kept in self.scrapes for name in kept.pods)
        return scrape

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, pod: TritonAddress) -> Reading | str:
        """What it tells; or why it does not."""
        try:
            known = read_statistics(pod.http_url, self._model, self._timeout_s)
            assert pod.metrics_url is not None
            now = read_gauges(pod.metrics_url, self._model, self._timeout_s)
        except ServingError as error:
            return str(error)
        except Exception as error:  # whatever a page makes a parser do, the other pods are still read
            return f"{pod.endpoint} answers nonsense ({type(error).__name__}: {error})"
        active_s = sum(batch.compute_ns for batch in known.batches.values()) / 1e9
        compute_s = sum(size * batch.compute_ns for size, batch in known.batches.items()) / 1e9
        requests, batches = float(known.succeeded), float(known.executions)
        return requests, known.queue_ns / 1e9, compute_s, now.waiting, active_s, now.gpu_share, batches
