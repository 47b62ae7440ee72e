"""Rate functions: how many requests per second are offered at each moment of a run. Add a pattern here.

A pattern is a frozen dataclass deriving from Pattern: its fields are its parameters (each with a unit, a default and
a `description`), `rate_rps` is a pure function of time, and `peak_rps` bounds it. `PATTERNS` lists them by name, and
the locustfiles, `make_pattern` and the configuration find it there.
"""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from workloads.errors import KisError

FloatArray = npt.NDArray[np.float64]


class PatternError(KisError):
    """A pattern that does not exist, or a parameter that it cannot have."""


def _parameter(default: Any, description: str) -> Any:
    return dataclasses.field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Pattern(ABC):
    """A rate over time. `default_duration_s` shows the pattern's whole shape at its default parameters."""

    name: ClassVar[str]
    default_duration_s: ClassVar[float] = 60.0

    @abstractmethod
    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """Requests per second at each time (seconds since the run's start, >= 0); same shape as `t_s`."""

    @property
    @abstractmethod
    def peak_rps(self) -> float:
        """An upper bound of `rate_rps` that is reached or nearly so (requests per second)."""

    def parameters(self) -> dict[str, Any]:
        """Parameter names and values; `make_pattern(self.name, **self.parameters())` gives an equal pattern."""
        return dataclasses.asdict(self)

    def _need(self, holds: bool, rule: str) -> None:
        if not holds:
            given = ", ".join(f"{key}={value}" for key, value in self.parameters().items())
            raise PatternError(f"pattern '{self.name}': {rule} (given: {given})")


@dataclass(frozen=True)
class Constant(Pattern):
    """The same rate all the time."""

    name: ClassVar[str] = "constant"
    rate: float = _parameter(50.0, "rate, requests/s")

    def __post_init__(self) -> None:
        self._need(self.rate > 0, "rate must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return np.full(np.shape(t_s), self.rate)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.rate


@dataclass(frozen=True)
class Ramp(Pattern):
    """Rises in a straight line from low to peak during rise_s, then holds the peak."""

    name: ClassVar[str] = "ramp"
    low: float = _parameter(10.0, "rate at the start, requests/s")
    peak: float = _parameter(100.0, "rate after the rise, requests/s")
    rise_s: float = _parameter(40.0, "how long the rise takes, s")

    def __post_init__(self) -> None:
        self._need(0 <= self.low <= self.peak and self.peak > 0, "0 <= low <= peak, and peak > 0")
        self._need(self.rise_s > 0, "rise_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return self.low + (self.peak - self.low) * np.minimum(np.asarray(t_s) / self.rise_s, 1.0)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.peak


@dataclass(frozen=True)
class Periodic(Pattern):
    """A sine: mean + amplitude * sin(2 pi t / period_s)."""

    name: ClassVar[str] = "periodic"
    mean: float = _parameter(50.0, "mean rate, requests/s")
    amplitude: float = _parameter(40.0, "swing above and below the mean, requests/s")
    period_s: float = _parameter(20.0, "length of one period, s")

    def __post_init__(self) -> None:
        self._need(0 <= self.amplitude <= self.mean and self.mean > 0, "0 <= amplitude <= mean, and mean > 0")
        self._need(self.period_s > 0, "period_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return self.mean + self.amplitude * np.sin(2 * np.pi * np.asarray(t_s) / self.period_s)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.mean + self.amplitude


@dataclass(frozen=True)
class Fluctuating(Pattern):
    """KIS-S's "random" pattern: the rate is drawn anew, uniformly between low and high, every interval."""

    name: ClassVar[str] = "fluctuating"
    low: float = _parameter(10.0, "smallest rate, requests/s")
    high: float = _parameter(100.0, "largest rate, requests/s")
    interval_s: float = _parameter(5.0, "how long each rate lasts, s")
    rate_seed: int = _parameter(0, "seed of the rates (the arrivals have their own)")

    def __post_init__(self) -> None:
        self._need(0 <= self.low <= self.high and self.high > 0, "0 <= low <= high, and high > 0")
        self._need(self.interval_s > 0, "interval_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        interval = (np.asarray(t_s) / self.interval_s).astype(np.int64)
        # Draws come one after the other, so a longer run sees the same rates first.
        rates = np.random.default_rng(self.rate_seed).uniform(self.low, self.high, int(interval.max(initial=0)) + 1)
        return rates[interval]

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.high


@dataclass(frozen=True)
class Bursty(Pattern):
    """A base rate with sudden spikes (10 -> 100 -> 10).

    mode `spikes`: one spike of spike_s at the end of every `every_s`. mode `on_off`: bursts of exponential length (mean
    spike_s) after exponential quiet times (mean every_s - spike_s); with base 0 this is an interrupted Poisson process.
    """

    name: ClassVar[str] = "bursty"
    base: float = _parameter(10.0, "rate between spikes, requests/s")
    spike: float = _parameter(100.0, "rate during a spike, requests/s")
    spike_s: float = _parameter(5.0, "length of a spike (on_off: its mean), s")
    every_s: float = _parameter(20.0, "from one spike to the next (on_off: on average), s")
    mode: str = _parameter("spikes", "spikes: one every every_s; on_off: random bursts")
    burst_seed: int = _parameter(0, "on_off: seed of the burst times (the arrivals have their own)")

    def __post_init__(self) -> None:
        self._need(self.base >= 0 and self.spike > 0, "base >= 0 and spike > 0")
        self._need(0 < self.spike_s < self.every_s, "0 < spike_s < every_s")
        self._need(self.mode in ("spikes", "on_off"), "mode is 'spikes' or 'on_off'")

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


@dataclass(frozen=True)
class Trace(Pattern):
    """A given rate for each interval, as counted in a trace; the last one holds on.

    To replay a trace's own arrival times instead, see `loadgen.traces.read_trace`.
    """

    name: ClassVar[str] = "trace"
    rates: tuple[float, ...] = _parameter((10.0, 100.0, 10.0), "rate in each interval, requests/s")
    interval_s: float = _parameter(20.0, "length of an interval, s")

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(float(rate) for rate in self.rates))  # a list from JSON is welcome
        self._need(len(self.rates) > 0 and min(self.rates) >= 0 < max(self.rates), "rates >= 0, one of them > 0")
        self._need(self.interval_s > 0, "interval_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        interval = (np.asarray(t_s) / self.interval_s).astype(np.int64)
        return np.array(self.rates)[np.minimum(interval, len(self.rates) - 1)]

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return max(self.rates)


PATTERNS: dict[str, type[Pattern]] = {
    kind.name: kind for kind in (Constant, Ramp, Periodic, Fluctuating, Bursty, Trace)
}


def make_pattern(name: str, **parameters: Any) -> Pattern:
    """The pattern of that name; PatternError names the nearest known name or parameter if there is none."""
    if name not in PATTERNS:
        raise PatternError(f"unknown pattern '{name}': {_hint(name, list(PATTERNS))}")
    kind = PATTERNS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for key in parameters:
        if key not in known:
            raise PatternError(f"pattern '{name}' has no parameter '{key}': {_hint(key, known)}")
    try:
        return kind(**parameters)
    except (TypeError, ValueError) as error:
        raise PatternError(f"pattern '{name}': a parameter has the wrong type ({error}): give numbers") from None


def _hint(wrong: str, known: list[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
