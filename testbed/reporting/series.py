"""What the figures draw, as plain arrays: thinned curves of a pair of runs, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from testbed.calibration.profile import OverheadLevel
from testbed.reporting.loading import LoadedRun, Pair, batch_counts

FloatArray = npt.NDArray[np.float64]
Role = Literal["real", "repeat", "simulated"]

_CURVE_POINTS = 240
_TIME_BINS = (12, 150)  # fewest and most
_REQUESTS_A_BIN = 60  # for a P95 that is more than the largest value


@dataclass(frozen=True)
class Curve:
    """An empirical CDF at <= 240 points, dense in the tail: latency_ms[k] is the quantile of probability[k]."""

    role: Role
    latency_ms: FloatArray
    probability: FloatArray


@dataclass(frozen=True)
class Timeline:
    """P50 and P95 of the requests scheduled in each bin (NaN: none answered), and the rate they were offered at."""

    time_s: FloatArray  # middle of each bin
    offered_rps: FloatArray
    p50_real_ms: FloatArray
    p95_real_ms: FloatArray
    p50_sim_ms: FloatArray
    p95_sim_ms: FloatArray


@dataclass(frozen=True)
class PairSeries:
    """Everything drawn of one pair; batch counts are None where they were not measured."""

    curves: tuple[Curve, ...]  # repeats first, so that real and simulated lie on top
    timeline: Timeline
    batches_real: dict[int, int] | None
    batches_sim: dict[int, int] | None


def pair_series(pair: Pair) -> PairSeries:
    """Thin a pair of runs down to what its figures draw."""
    runs: list[tuple[Role, LoadedRun]] = [("repeat", run) for run in pair.repeats]
    runs += [("real", pair.real), ("simulated", pair.sim)]
    curves = tuple(curve for role, run in runs if (curve := curve_of(role, run.requests.latency_s)) is not None)
    return PairSeries(curves, _timeline(pair), batch_counts(pair.real), batch_counts(pair.sim))


def overhead_quantiles_ms(level: OverheadLevel, shares: Sequence[float]) -> FloatArray:
    """Of ingress plus egress delay, which are drawn independently: all sums of 100 evenly spaced quantiles of each."""
    grid = (np.arange(100) + 0.5) / 100
    ingress_delay, egress_delay = (
        np.interp(grid, np.linspace(0, 1, len(quantiles)), quantiles)
        for quantiles in (level.ingress_delay_quantiles_s, level.egress_delay_quantiles_s)
    )
    return np.asarray(1e3 * np.quantile(np.add.outer(ingress_delay, egress_delay), shares))


def quantiles_of_bins(run: LoadedRun, edges_s: FloatArray, shares: Sequence[float], fewest: int = 1) -> FloatArray:
    """float64[shares, bins]: latency in ms of the requests scheduled in each bin; NaN: fewer were answered."""
    place = np.digitize(run.requests.seconds("scheduled_ns"), edges_s) - 1
    latency_ms = 1e3 * run.requests.latency_s
    bins = [latency_ms[(place == k) & np.isfinite(latency_ms)] for k in range(len(edges_s) - 1)]
    nothing = np.full(len(shares), np.nan)
    return np.transpose([np.quantile(values, shares) if len(values) >= fewest else nothing for values in bins])


def middles(edges: FloatArray) -> FloatArray:
    """Of bins."""
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def curve_of(role: Role, latency_s: FloatArray) -> Curve | None:
    """Of the answered requests (NaN: not answered); None: there are none."""
    answered = latency_s[np.isfinite(latency_s)]
    if not len(answered):
        return None
    tail = 1 - np.geomspace(0.1, min(1 / len(answered), 0.1), _CURVE_POINTS // 2)
    probability = np.unique(np.concatenate([np.linspace(0, 0.9, _CURVE_POINTS // 2), tail]))
    return Curve(role, np.quantile(answered, probability) * 1e3, probability)


def latency_bins(run: LoadedRun) -> FloatArray:
    """float64[bins + 1]: edges in seconds of bins of equal length, with requests enough for a P95 where there are."""
    bins = int(np.clip(len(run.schedule) // _REQUESTS_A_BIN, *_TIME_BINS))
    return np.linspace(0, run.manifest.duration_s, bins + 1)


def _timeline(pair: Pair) -> Timeline:
    edges = latency_bins(pair.real)
    offered = np.histogram(pair.real.schedule.scheduled_s, edges)[0] / (edges[1] - edges[0])
    real, sim = (quantiles_of_bins(run, edges, (0.50, 0.95)) for run in (pair.real, pair.sim))
    return Timeline(middles(edges), offered, *real, *sim)
