"""Ratios of two services that answered the same arrivals, with intervals.

A *pair* is one run of each on the same schedule, made one after the other. A ratio is the geometric mean of its pairs'
ratios: swapping the two services gives its reciprocal. Intervals are of 90 %, and of the bootstrap; what is drawn again
depends on how many pairs there are:

- Three or more: whole pairs. They hold what differs when everything is done again (another start of the server, another
  minute of the machine), which no single run can tell. Few pairs make such an interval too narrow, so its quantiles are
  Hesterberg's expanded ones ("What Teachers Should Know about the Bootstrap", 2015): of three pairs it is
  their whole range. An interval cannot leave that range: of k pairs it covers at most 1 - 2^(1-k), three quarters of
  three; from five on, 90 %.
- One or two: blocks of time, circular and of one length (Politis and Romano 1992), the same in all runs of the pairs:
  both services met the same requests there. Requests near in time share a queue and a slow phase of the machine; drawn
  one by one they would count as if each were news. Such an interval knows nothing of another start or another hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.statistics import expanded_tail

FloatArray = npt.NDArray[np.float64]
Method = Literal["pairs", "blocks"]

TAIL = 0.05  # on each side of an interval
RESAMPLES = 2000
FEWEST_PAIRS = 3  # that are drawn again as a whole
BLOCKS = 20  # of a run's time, if its latencies are short beside them
FEWEST_BLOCKS = 5  # with fewer there is no interval
LATENCIES_IN_A_BLOCK = 2.0  # a block lasts that many P95s of the slower service: a queue is seen as a whole


class Answers(NamedTuple):
    """How one run answered n requests of a schedule."""

    latency_s: FloatArray  # float[n]; NaN: not answered
    in_time: npt.NDArray[np.bool_]  # bool[n]: answered within the schedule's span


class Ratio(NamedTuple):
    """First service by second. None: not known (nobody answered), or too little for an interval."""

    value: float | None
    low: float | None
    high: float | None


def p95_s(answers: Answers) -> float:
    """P95 of the latency of the answered requests; NaN if there are none."""
    answered = answers.latency_s[np.isfinite(answers.latency_s)]
    return float(np.quantile(answered, 0.95)) if len(answered) else np.nan


def mean_s(answers: Answers) -> float:
    """Mean latency of the answered requests; NaN if there are none."""
    answered = answers.latency_s[np.isfinite(answers.latency_s)]
    return float(answered.mean()) if len(answered) else np.nan


def answered_in_time(answers: Answers) -> float:
    """Number of requests: throughput times the span, which is the same for both services."""
    return float(answers.in_time.sum())


FIGURES: dict[str, Callable[[Answers], float]] = {"p95": p95_s, "mean": mean_s, "throughput": answered_in_time}


def method_of(pairs: int) -> Method:
    """What is drawn again for the interval of so many pairs."""
    return "pairs" if pairs >= FEWEST_PAIRS else "blocks"


def ratios(
    first: Sequence[Answers], second: Sequence[Answers], scheduled_s: FloatArray, duration_s: float
) -> dict[str, Ratio]:
    """The ratio of each of FIGURES, first by second.

    first, second: the runs of each service, the k-th of one paired with the k-th of the other. scheduled_s: ascending
    times of the n requests, all within [0, duration_s). ValueError if there is no pair, or one without a partner.
    """
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        raise ValueError("a ratio needs at least one pair of runs")
    rng = np.random.default_rng(0)
    logs = {name: np.array([_log_ratio(figure, *pair) for pair in pairs]) for name, figure in FIGURES.items()}
    if method_of(len(pairs)) == "pairs":
        drawn = rng.integers(len(pairs), size=(RESAMPLES, len(pairs)))
        tail = expanded_tail(len(pairs))
        return {name: _ratio(values, values[drawn].mean(axis=1), tail) for name, values in logs.items()}
    slower_s = max(p95_s(run) for run in (*first, *second))
    resampled: dict[str, list[float]] = {name: [] for name in FIGURES}
    for requests in _blocks(scheduled_s, duration_s, slower_s, rng):
        cut = [tuple(Answers(run.latency_s[requests], run.in_time[requests]) for run in pair) for pair in pairs]
        for name, figure in FIGURES.items():
            resampled[name].append(float(np.mean([_log_ratio(figure, *pair) for pair in cut])))
    return {name: _ratio(values, np.array(resampled[name]), TAIL) for name, values in logs.items()}


def _log_ratio(figure: Callable[[Answers], float], first: Answers, second: Answers) -> float:
    """NaN if one of the two is missing or 0."""
    above, below = figure(first), figure(second)
    return float(np.log(above / below)) if above > 0 and below > 0 else np.nan


def _ratio(logs: FloatArray, resampled: FloatArray, tail: float) -> Ratio:
    if not np.isfinite(logs).all():
        return Ratio(None, None, None)
    value = float(np.exp(logs.mean()))
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return Ratio(value, None, None)
    low, high = np.exp(np.quantile(known, (tail, 1 - tail)))
    return Ratio(value, float(low), float(high))


def _blocks(
    scheduled_s: FloatArray, duration_s: float, slower_s: float, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Row numbers of each resample: of blocks that begin anywhere and go on at the start beyond the end."""
    longest = duration_s / (LATENCIES_IN_A_BLOCK * slower_s) if slower_s > 0 else BLOCKS
    count = int(min(BLOCKS, longest))
    if count < FEWEST_BLOCKS:
        return []
    twice_s = np.concatenate([scheduled_s, scheduled_s + duration_s])
    begin_s = rng.uniform(0.0, duration_s, (RESAMPLES, count))
    begin = np.searchsorted(twice_s, begin_s)
    end = np.searchsorted(twice_s, begin_s + duration_s / count)
    return [
        np.concatenate([np.arange(a, b) for a, b in zip(one_begin, one_end, strict=True)]) % len(scheduled_s)
        for one_begin, one_end in zip(begin, end, strict=True)
    ]
