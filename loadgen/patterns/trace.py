"""A given rate for each interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter

WANDERING = 400  # intervals of a drawn one; its rate stays there after them


@dataclass(frozen=True)
class Trace(Pattern):
    """A given rate for each interval, as counted in a trace; the last one holds on.

    To replay a trace's own arrival times instead, see `loadgen.traces.read_trace`.
    """

    name: ClassVar[str] = "trace"
    rank: ClassVar[int] = 5
    families: ClassVar[tuple[str, ...]] = ("wandering",)
    configurable: ClassVar[bool] = False  # its rates are a list; configurations name a recorded trace
    rates: tuple[float, ...] = parameter((10.0, 100.0, 10.0), "rate in each interval, requests/s")
    interval_s: float = parameter(20.0, "length of an interval, s")

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(float(rate) for rate in self.rates))  # a list from JSON is welcome
        self.need(len(self.rates) > 0 and min(self.rates) >= 0 < max(self.rates), "rates >= 0, one of them > 0")
        self.need(self.interval_s > 0, "interval_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        interval = (np.asarray(t_s) / self.interval_s).astype(np.int64)
        return np.array(self.rates)[np.minimum(interval, len(self.rates) - 1)]

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return max(self.rates)

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Trace:
        """See Pattern: rates stray from interval to interval and are drawn back to the middle, as of many users."""
        rng.integers(2**31)  # so that a seed gives the scenarios that it always gave
        back, stray = float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.05, 0.3))
        place, rates = 0.0, []
        for step in rng.normal(size=WANDERING).tolist():
            place = float(np.clip((1 - back) * place + stray * step, -0.5, 0.5))
            rates.append(float(low * (peak / low) ** (place + 0.5)))
        return cls(rates=tuple(rates), interval_s=period_s / 10)
