"""Every pod's Triton, read at once: Scrapes as a simulation makes them, and the last minutes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from testbed.autoscaling.observation import Scrape
from testbed.errors import ServingError
from testbed.measurement.triton_metrics import TritonAddress, read_pending, read_statistics

KEPT_S = 660.0  # how far back an observation may look
AT_ONCE = 32  # pods read at the same time


class PodScraper:
    """Reads one model's statistics of all pods. A pod that does not answer, or answers nonsense, is left out."""

    def __init__(self, model: str, timeout_s: float = 0.9) -> None:
        self.scrapes: deque[Scrape] = deque()
        self.failures: Mapping[str, str] = {}  # pod -> why it is not in the last scrape
        self._model, self._timeout_s = model, timeout_s
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scrape")

    def scrape(self, now_s: float, pods: Sequence[TritonAddress]) -> Scrape:
        """One reading of all of them; it is kept."""
        answers = list(self._pool.map(self._read, pods))
        self.failures = {one.endpoint: a for one, a in zip(pods, answers, strict=True) if isinstance(a, str)}
        read = [(one.endpoint, a) for one, a in zip(pods, answers, strict=True) if not isinstance(a, str)]
        values = np.array([row for _, row in read], dtype=float).reshape(-1, 5)
        cpu_s = np.full(len(read), np.nan)  # Triton does not tell
        requests, queue_s, compute_s, waiting, active_s = values.T
        names = tuple(name for name, _ in read)
        scrape = Scrape(now_s, names, requests, queue_s, compute_s, waiting, active_s, cpu_s)
        self.scrapes.append(scrape)
        while self.scrapes[0].time_s < now_s - KEPT_S:
            self.scrapes.popleft()
        return scrape

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, pod: TritonAddress) -> tuple[float, float, float, float, float] | str:
        """requests, queue_s, compute_s, waiting, active_s; or why not."""
        try:
            known = read_statistics(pod.http_url, self._model, self._timeout_s)
            assert pod.metrics_url is not None
            waiting = read_pending(pod.metrics_url, self._model, self._timeout_s)
        except ServingError as error:
            return str(error)
        active_s = sum(one.compute_ns for one in known.batches.values()) / 1e9
        compute_s = sum(size * one.compute_ns for size, one in known.batches.items()) / 1e9
        return float(known.succeeded), known.queue_ns / 1e9, compute_s, waiting, active_s
