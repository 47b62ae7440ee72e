"""What the figures draw, as plain arrays: thinned curves of a pair of runs, and of a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from testbed.calibration.profile import OverheadLevel, ServiceProfile
from testbed.reporting.loading import LoadedRun, Pair
from testbed.reporting.usage import batch_counts

FloatArray = npt.NDArray[np.float64]
Role = Literal["real", "repeat", "simulated"]

NORMAL_95 = 1.645  # standard deviations: 90 % of a normal distribution lie within
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


@dataclass(frozen=True)
class ServiceCurve:
    """A profile's service time by batch size: the fitted mean, and the band that holds 90 % of single batches.

    measured_ms: mean of the batches that were executed; NaN where there were none.
    """

    batch_size: tuple[int, ...]
    mean_ms: FloatArray
    low_ms: FloatArray
    high_ms: FloatArray
    measured: npt.NDArray[np.bool_]  # False: no batch of that size was executed
    measured_ms: FloatArray
    mean_std_ms: FloatArray  # NaN: not known


@dataclass(frozen=True)
class OverheadCurves:
    """A profile's per-request overhead by load, one array a quantile; ingress and egress delay drawn independently."""

    rate_rps: FloatArray
    quantiles_ms: dict[str, FloatArray]


def pair_series(pair: Pair) -> PairSeries:
    """Thin a pair of runs down to what its figures draw."""
    runs: list[tuple[Role, LoadedRun]] = [("repeat", run) for run in pair.repeats]
    runs += [("real", pair.real), ("simulated", pair.sim)]
    curves = tuple(curve for role, run in runs if (curve := _curve(role, run.requests.latency_s)) is not None)
    return PairSeries(curves, _timeline(pair), batch_counts(pair.real), batch_counts(pair.sim))


def service_curve(profile: ServiceProfile) -> ServiceCurve:
    """Mean and the 5 % and 95 % quantiles of single batches (slow phases not included)."""
    times = profile.service_time
    mean_ms = np.array(times.mean_s) * 1e3
    low, high = (_quantile(times.noise_quantiles, probability) for probability in (0.05, 0.95))
    measured = np.array(times.batches) > 0
    raw_ms = np.array([np.nan if one is None else 1e3 * one for one in times.measured_s or times.mean_s])
    std_ms = 1e3 * np.array(times.uncertainty.std_s()) if times.uncertainty else np.full(len(mean_ms), np.nan)
    return ServiceCurve(
        times.batch_size,
        mean_ms,
        mean_ms * low,
        mean_ms * high,
        measured,
        np.where(measured, raw_ms, np.nan),
        std_ms,
    )


def overhead_curves(profile: ServiceProfile) -> OverheadCurves:
    """P5, P50, P95 and P99 of ingress plus egress delay at each level of load, of the smallest service measured."""
    levels = profile.overhead.levels_for(replicas=1, instances=1)
    sums = [_sum_of_independent(level) for level in levels]
    return OverheadCurves(
        np.array([level.rate_rps for level in levels]),
        {f"P{p}": np.array([np.quantile(total, p / 100) * 1e3 for total in sums]) for p in (99, 95, 50, 5)},
    )


def _curve(role: Role, latency_s: FloatArray) -> Curve | None:
    answered = latency_s[np.isfinite(latency_s)]
    if not len(answered):
        return None
    tail = 1 - np.geomspace(0.1, min(1 / len(answered), 0.1), _CURVE_POINTS // 2)
    probability = np.unique(np.concatenate([np.linspace(0, 0.9, _CURVE_POINTS // 2), tail]))
    return Curve(role, np.quantile(answered, probability) * 1e3, probability)


def _timeline(pair: Pair) -> Timeline:
    duration_s = pair.real.manifest.duration_s
    scheduled_s = pair.real.schedule.scheduled_s
    bins = int(np.clip(len(scheduled_s) // _REQUESTS_A_BIN, *_TIME_BINS))
    edges = np.linspace(0, duration_s, bins + 1)
    offered = np.histogram(scheduled_s, edges)[0] / (duration_s / bins)
    real, sim = (_quantiles_by_bin(run, edges) for run in (pair.real, pair.sim))
    return Timeline((edges[:-1] + edges[1:]) / 2, offered, *real, *sim)


def _quantiles_by_bin(run: LoadedRun, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """P50 and P95 in ms by bin of scheduled time."""
    latency_ms, ok = run.requests.latency_s * 1e3, run.requests.ok
    index = np.digitize(run.requests.seconds("scheduled_ns"), edges) - 1
    in_bins = [latency_ms[ok & (index == k)] for k in range(len(edges) - 1)]
    p50, p95 = (
        np.array([np.quantile(values, probability) if len(values) else np.nan for values in in_bins])
        for probability in (0.50, 0.95)
    )
    return p50, p95


def _quantile(evenly_spaced: tuple[float, ...], probability: float) -> float:
    return float(np.interp(probability, np.linspace(0, 1, len(evenly_spaced)), evenly_spaced))


def _sum_of_independent(level: OverheadLevel) -> FloatArray:
    """All sums of 100 evenly spaced quantiles of each of two independent draws."""
    grid = (np.arange(100) + 0.5) / 100
    ingress_delay, egress_delay = (
        np.interp(grid, np.linspace(0, 1, len(quantiles)), quantiles)
        for quantiles in (level.ingress_delay_quantiles_s, level.egress_delay_quantiles_s)
    )
    return np.add.outer(ingress_delay, egress_delay).ravel()
