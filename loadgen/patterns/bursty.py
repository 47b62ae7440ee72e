"""A base rate with sudden spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter

SEEN_TWICE = 1.7  # of a spike's distance: then it has come back


@dataclass(frozen=True)
class Bursty(Pattern):
    """A base rate with sudden spikes (10 -> 100 -> 10).

    mode `spikes`: one spike of spike_s at the end of every `every_s`. mode `on_off`: bursts of exponential length (mean
    spike_s) after exponential quiet times (mean every_s - spike_s); with base 0 this is an interrupted Poisson process.
    """

    name: ClassVar[str] = "bursty"
    rank: ClassVar[int] = 4
    families: ClassVar[tuple[str, ...]] = ("bursty", "on_off")
    base: float = parameter(10.0, "rate between spikes, requests/s")
    spike: float = parameter(100.0, "rate during a spike, requests/s")
    spike_s: float = parameter(5.0, "length of a spike (on_off: its mean), s")
    every_s: float = parameter(20.0, "from one spike to the next (on_off: on average), s")
    mode: str = parameter("spikes", "spikes: one every every_s; on_off: random bursts")
    burst_seed: int = parameter(0, "on_off: seed of the burst times (the arrivals have their own)")

    def __post_init__(self) -> None:
        self.need(self.base >= 0 and self.spike > 0, "base >= 0 and spike > 0")
        self.need(0 < self.spike_s < self.every_s, "0 < spike_s < every_s")
        self.need(self.mode in ("spikes", "on_off"), "mode is 'spikes' or 'on_off'")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        t_s = np.asarray(t_s, dtype=np.float64)
        if self.mode == "spikes":
            in_spike = np.mod(t_s, self.every_s) >= self.every_s - self.spike_s
        else:
            # Odd number of boundaries passed: inside a burst.
            in_spike = np.searchsorted(self._boundaries(float(t_s.max(initial=0.0))), t_s, side="right") % 2 == 1
        return np.where(in_spike, self.spike, self.base)

    def _boundaries(self, until_s: float) -> FloatArray:
        """Starts and ends of the bursts, alternating, at least up to `until_s`."""
        pairs = 16
        while True:
            # Drawn again from the seed with twice as many: the first ones stay the same.
            means = [self.every_s - self.spike_s, self.spike_s]
            times = np.cumsum(np.random.default_rng(self.burst_seed).exponential(means, (pairs, 2)))
            if times[-1] > until_s:
                return times
            pairs *= 2

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return max(self.base, self.spike)

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Bursty:
        """See Pattern: KIS-S's 1:10 spikes, four of them, two fifths of the time."""
        return cls(base=0.2 * peak_rps / 2, spike=peak_rps, spike_s=duration_s / 10, every_s=duration_s / 4)

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Bursty:
        """See Pattern."""
        burst_seed, spike_s = int(rng.integers(2**31)), period_s * float(rng.uniform(0.15, 0.5))
        mode = "on_off" if family == "on_off" else "spikes"
        return cls(base=low, spike=peak, spike_s=spike_s, every_s=period_s, mode=mode, burst_seed=burst_seed)

    @property
    def foreseen_after_s(self) -> float:
        """See Pattern: spikes, once they have come back."""
        return SEEN_TWICE * self.every_s if self.mode == "spikes" else np.inf
