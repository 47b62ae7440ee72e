"""Many simulated clusters side by side, for who learns or searches: reset, advance, scale, observe.

    episodes = Episodes(lambda seed: KISim(config, services, PatternTraffic((pattern,), seed), seed=seed), "resnet50")
    seen = episodes.reset(range(8))
    episodes.scale([2, 2, 3, 1, 2, 2, 4, 2])
    episodes.advance(30.0)
    seen = episodes.observe()

Each episode is its own KISim with its own seed, and gives what it would give alone. The compiled loop runs without
Python's lock, so they run on as many cores as there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from testbed.autoscaling.simulated import SimulatedObservation
from testbed.simulation.cluster.kisim import KISim


class Episodes:
    """make(seed) starts one episode; model is the one that is scaled and observed."""

    def __init__(self, make: Callable[[int], KISim], model: str, workers: int | None = None) -> None:
        self.sims: list[KISim] = []
        self._make, self._model = make, model
        self._workers = workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="episode")

    def __len__(self) -> int:
        return len(self.sims)

    def reset(self, seeds: Iterable[int]) -> list[SimulatedObservation]:
        """New episodes at second 0, one a seed, in the place of those there are."""
        self.sims = list(self._pool.map(self._make, seeds))
        return self.observe()

    def restart(self, number: int, seed: int) -> SimulatedObservation:
        """A new episode in the place of one that is over."""
        self.sims[number] = self._make(seed)
        return SimulatedObservation(self.sims[number], self._model)

    def advance(self, seconds: float) -> None:
        """Let so much time pass in each episode."""
        list(self._pool.map(lambda sim: sim.advance(sim.now_s + seconds), self.sims))

    def scale(self, replicas: Sequence[int]) -> None:
        """Ask for that many replicas in each episode."""
        for sim, wanted in zip(self.sims, replicas, strict=True):
            sim.scale(self._model, int(wanted))

    def observe(self) -> list[SimulatedObservation]:
        """What a policy would see of each episode now."""
        return [SimulatedObservation(sim, self._model) for sim in self.sims]

    def copy(self) -> Episodes:
        """Episodes that go on from here by themselves: the same ones, as long as the same is done to them."""
        twin = Episodes(self._make, self._model, self._workers)
        twin.sims = [sim.copy() for sim in self.sims]
        return twin

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
