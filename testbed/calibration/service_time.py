"""Service time by batch size, its spread, the machine's slow phases, and the gap between batches.

The mean comes from Triton's own statistics (compute_input + infer + output per execution): they hold the backend's
cost as well. Spread, phases and the gap come from the backend's log of batches, which the statistics cannot give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from testbed.calibration.after_idle import NO_EFFECT, AfterIdle, at, fit_after_idle, idle_before, mean_extra_s
from testbed.calibration.evidence import Evidence
from testbed.calibration.profile import MeanUncertainty, ServiceTime, SlowPhase, Steadiness
from testbed.calibration.service_curve import ServiceCurve, fit_curve
from testbed.errors import CalibrationError

FloatArray = npt.NDArray[np.float64]
QUANTILES = 401
ENOUGH_BATCHES = 5  # fewer tell nothing of a spread
PHASE_BIN_S = 0.25
LONGEST_PHASE_S = 60.0  # runs are minutes: what changes more slowly is how they differ
RATE_WINDOW_S = 0.25  # local rates are counted over so long


def quantile_table(values: FloatArray) -> FloatArray:
    """float64[QUANTILES]: the empirical quantile function at evenly spaced probabilities 0..1."""
    return np.quantile(values, np.linspace(0, 1, QUANTILES))


def batch_statistics(run: Evidence) -> pd.DataFrame:
    """Executions and total compute seconds (batch_executions, batch_compute_seconds) by batch size in one run."""
    return pd.DataFrame(
        {
            name: run.metrics.increase_by_batch_size(name, run.manifest.model)
            for name in ("batch_executions", "batch_compute_seconds")
        },
        dtype=float,
    )


def counts_by_size(runs: Sequence[Evidence], max_batch_size: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Batches, int64[R, B], and the seconds that they took together, float64[R, B], by run and batch size."""
    sizes = np.arange(1, max_batch_size + 1)
    tables = [batch_statistics(run).reindex(sizes, fill_value=0.0) for run in runs]
    batches = np.stack([table["batch_executions"].to_numpy() for table in tables]).astype(np.int64)
    return batches, np.stack([table["batch_compute_seconds"].to_numpy() for table in tables])


def batch_cv(runs: Sequence[Evidence]) -> float | None:
    """Coefficient of variation of single batches of one size in one run, from the logs; None: no log tells it."""
    squares, degrees = 0.0, 0
    for run in runs:
        log = run.batches.batches() if run.batches is not None else pd.DataFrame()
        if log.empty:
            continue
        took = log["end_ns"] - log["start_ns"]
        relative = took / took.groupby(log["batch_size"]).transform("mean") - 1
        squares += float(np.square(relative).sum())
        degrees += len(log) - log["batch_size"].nunique()
    return float(np.sqrt(squares / degrees)) if degrees >= ENOUGH_BATCHES and squares > 0 else None


def curve_by_size(runs: Sequence[Evidence], max_batch_size: int, idle: AfterIdle = NO_EFFECT) -> ServiceCurve:
    """Mean seconds of a batch of 1..max_batch_size, and how well they are known; CalibrationError if nothing ran.

    idle: what is taken off for instances that were idle before.
    """
    batches, seconds = counts_by_size(runs, max_batch_size)
    if batches.sum() < ENOUGH_BATCHES:
        raise CalibrationError(
            f"{batches.sum()} batches of 1..{max_batch_size} were executed in {len(runs)} runs: measure longer or at "
            "higher rates"
        )
    if idle.known:
        seconds = without_idle(runs, batches, seconds, idle, beyond_log(runs, max_batch_size))
    return fit_curve(batches, seconds, batch_cv(runs))


def without_idle(
    runs: Sequence[Evidence],
    batches: npt.NDArray[np.int64],
    seconds: FloatArray,
    idle: AfterIdle,
    beyond_s: FloatArray,
) -> FloatArray:
    """`seconds`, [R, B], as if no instance had been idle before its batches."""
    return seconds - batches * np.stack([mean_extra_s(run, beyond_s, idle.extra_s) for run in runs])


def beyond_log(runs: Sequence[Evidence], max_batch_size: int, around_s: FloatArray | None = None) -> FloatArray:
    """Seconds that a batch of 1..max_batch_size takes beyond its log, which times execute() only: the backend's own.

    Statistics less log of the same batches. It grows evenly with the size, so it is a line weighted by batches.
    around_s: the part of it, by size, that is for idle instances, and is left out.
    """
    logged = [run for run in runs if run.batches is not None]
    batches, seconds = (table.sum(axis=0) for table in counts_by_size(logged, max_batch_size))
    every = pd.concat([run.batches.batches() for run in logged if run.batches is not None])
    inner = ((every["end_ns"] - every["start_ns"]) / 1e9).groupby(every["batch_size"]).mean()
    inner = inner[batches[inner.index - 1] > 0]
    sizes = inner.index.to_numpy()
    beyond = seconds[sizes - 1] / batches[sizes - 1] - inner.to_numpy()
    if around_s is not None:
        beyond = beyond - around_s[sizes - 1]
    if len(sizes) < 2:
        return np.full(max_batch_size, beyond.mean() if len(sizes) else 0.0)
    line = np.polynomial.Polynomial.fit(sizes, beyond, 1, w=np.sqrt(batches[sizes - 1]))
    return np.asarray(line(np.arange(1, max_batch_size + 1)))


def beyond_log_busy(runs: Sequence[Evidence], max_batch_size: int, idle: AfterIdle) -> FloatArray:
    """`beyond_log` of instances that were not idle before."""
    beyond_s = beyond_log(runs, max_batch_size)
    if not idle.known:
        return beyond_s
    logged = [run for run in runs if run.batches is not None]
    batches, _ = counts_by_size(logged, max_batch_size)
    around = np.stack([mean_extra_s(run, beyond_s, idle.extra_s - idle.logged_s) for run in logged])
    return beyond_log(runs, max_batch_size, (batches * around).sum(axis=0) / np.maximum(batches.sum(axis=0), 1))


def slowness(
    runs: Sequence[Evidence], mean_s: FloatArray, idle: AfterIdle = NO_EFFECT
) -> list[tuple[FloatArray, FloatArray]]:
    """Per run with a log: (start_s, factor) of each batch, factor = its time over the mean of its size.

    The log times execute() only; the rest of a batch's time is taken as constant by size. What a batch takes more on an
    instance that was idle is taken off.
    """
    runs = [run for run in runs if run.batches is not None and len(run.batches.frame)]
    if not runs:
        return []
    beyond_s = beyond_log_busy(runs, len(mean_s), idle)
    inner_s = mean_s - beyond_s
    out = []
    for log in [run.batches.batches() for run in runs if run.batches is not None]:
        index = log["batch_size"].to_numpy() - 1
        own_s = ((log["end_ns"] - log["start_ns"]) / 1e9).to_numpy()
        if idle.known:
            own_s = own_s - at(idle_before(log, beyond_s), idle.logged_s)
        out.append(((log["start_ns"] / 1e9).to_numpy(), 1.0 + (own_s - inner_s[index]) / mean_s[index]))
    return out


def fit_noise(factors: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, SlowPhase]:
    """White noise per batch (quantile function, mean 1) and the autocorrelated slow phase beside it.

    Log factors are centred run by run: how runs differ is not a phase (and may be their load: contention). The slow
    phase's variance is what neighbouring batches share: the autocovariance at positive lags, fitted as sigma^2
    exp(-lag / timescale). White noise keeps the shape of the whole and the variance that is left.
    """
    logs = [(t, np.log(np.maximum(f, 1e-3))) for t, f in factors if len(f) > 1]
    if not logs:
        return np.ones(QUANTILES), SlowPhase(sigma=0.0, timescale_s=1.0)
    logs = [(t, x - x.mean()) for t, x in logs]
    values = np.concatenate([x for _, x in logs])
    total = float(values.var())
    slow = _fit_phase(logs)
    share = 0.0 if total == 0 else min(1.0, slow.sigma**2 / total)
    table = quantile_table(np.exp(values * np.sqrt(1.0 - share)))
    return table / np.trapezoid(table, dx=1 / (QUANTILES - 1)), slow


def _fit_phase(logs: Sequence[tuple[FloatArray, FloatArray]]) -> SlowPhase:
    """Least squares over the time scale, a grid first: for each the best variance is a formula, so it always ends."""
    none = SlowPhase(sigma=0.0, timescale_s=1.0)
    lags = np.arange(1, 41)
    products, weights = np.zeros(len(lags)), np.zeros(len(lags))
    for time_s, x in logs:
        mean, count = _binned(time_s, x)
        for k, lag in enumerate(lags[lags < len(mean)]):
            both = np.minimum(count[:-lag], count[lag:])
            products[k] += float((both * np.nan_to_num(mean[:-lag] * mean[lag:])).sum())
            weights[k] += float(both.sum())
    filled = weights > 0
    if filled.sum() < 3:
        return none
    covariance, weight, lag_s = products[filled] / weights[filled], weights[filled], lags[filled] * PHASE_BIN_S

    def fitted(log_timescale: float) -> tuple[float, float]:
        """Variance and loss at that time scale. A positive covariance only: there is no phase otherwise."""
        timescale_s = np.exp(log_timescale)
        half = PHASE_BIN_S / 2 / timescale_s  # a bin's mean moves less than the phase: by the average over the bin
        shape = np.exp(-lag_s / timescale_s) * (np.sinh(half) / half) ** 2
        variance = max(0.0, float((weight * covariance * shape).sum() / (weight * shape**2).sum()))
        return variance, float((weight * (covariance - variance * shape) ** 2).sum())

    grid = np.log(np.geomspace(PHASE_BIN_S, LONGEST_PHASE_S, 40))
    best = int(np.argmin([fitted(timescale)[1] for timescale in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    log_scale = float(minimize_scalar(lambda log_s: fitted(log_s)[1], bounds=around, method="bounded").x)
    variance = fitted(log_scale)[0]
    return SlowPhase(sigma=variance**0.5, timescale_s=float(np.exp(log_scale))) if variance > 0 else none


def _binned(time_s: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    index = ((time_s - time_s.min()) / PHASE_BIN_S).astype(int)
    count = np.bincount(index).astype(float)
    with np.errstate(invalid="ignore"):
        return np.bincount(index, weights=x) / count, count


def inter_batch_gaps(run: Evidence, beyond_log_s: FloatArray, idle: AfterIdle = NO_EFFECT) -> pd.DataFrame:
    """Seconds between a batch's service time and the next start on a busy instance: a row (rate, inter_batch_gap) each.

    Counted where the next batch's first request was in the queue, and no longer delayed, when the batch before it
    ended: the instance could have gone on at once. beyond_log_s: what a batch takes beyond its log, by size - 1; rate
    is the local rate at that first request.
    """
    batch = run.served().sort_values(["replica", "instance", "start", "position"])
    batch = batch.drop_duplicates(["replica", "instance", "start"])
    batch["around"] = around_log(batch, beyond_log_s, idle)
    earlier = batch.groupby(["replica", "instance"])[["end", "batch_size", "around"]].shift(1)
    rules = run.manifest.service.dynamic_batching
    ready = batch["sent"] + (rules.max_queue_delay_s if rules else 0.0)
    waiting = ready < earlier["end"] - 1e-3  # NaN: there was none before
    size = earlier["batch_size"][waiting].astype(int).to_numpy()
    rate = run.local_rate_rps(RATE_WINDOW_S)[batch["request_id"][waiting].to_numpy()]
    gap_s = (batch["start"] - earlier["end"])[waiting].to_numpy()
    after_s = beyond_log_s[size - 1] + earlier["around"][waiting].to_numpy()
    return pd.DataFrame({"rate": rate, "inter_batch_gap": gap_s - after_s})


def around_log(batch: pd.DataFrame, beyond_log_s: FloatArray, idle: AfterIdle) -> FloatArray:
    """What each batch took beyond its log for an instance that was idle. batch: of Evidence.served(), one row each, in
    order of replica, instance and start."""
    if not idle.known:
        return np.zeros(len(batch))
    earlier = batch.groupby(["replica", "instance"])[["end", "batch_size"]].shift(1)
    size = earlier["batch_size"].fillna(1).astype(int).to_numpy()
    idle_s = np.maximum((batch["start"] - earlier["end"]).to_numpy() - beyond_log_s[size - 1], 0.0)
    return at(np.nan_to_num(idle_s, nan=np.inf), idle.extra_s - idle.logged_s)


def mean_inter_batch_gap(inter_batch_gap_s: FloatArray) -> float | None:
    """Mean of the gaps, or None for too few. Stalls of the machine (the last 1 %) are cut: they are its noise."""
    if len(inter_batch_gap_s) < ENOUGH_BATCHES:
        return None
    return max(0.0, float(np.minimum(inter_batch_gap_s, np.quantile(inter_batch_gap_s, 0.99)).mean()))


def idleness(runs: Sequence[Evidence], max_batch_size: int) -> AfterIdle:
    """What idle instances cost, from the runs that have a log of batches."""
    logged = [run for run in runs if run.batches is not None and len(run.batches.frame)]
    if not logged:
        return NO_EFFECT
    return fit_after_idle(logged, beyond_log(logged, max_batch_size), *counts_by_size(logged, max_batch_size))


def fit_service_time(
    runs: Sequence[Evidence], max_batch_size: int, idle: AfterIdle = NO_EFFECT
) -> tuple[ServiceTime, SlowPhase, Steadiness | None]:
    """Everything about single batches, from all runs together."""
    curve = curve_by_size(runs, max_batch_size, idle)
    batches, seconds = (table.sum(axis=0) for table in counts_by_size(runs, max_batch_size))
    factors = slowness(runs, curve.mean_s, idle)
    noise, slow = fit_noise(factors)
    return (
        ServiceTime(
            batch_size=tuple(range(1, max_batch_size + 1)),
            mean_s=tuple(curve.mean_s.tolist()),
            spread_s=_spread(runs, max_batch_size),
            batches=tuple(batches.tolist()),
            noise_quantiles=tuple(noise.tolist()),
            measured_s=tuple(float(s / n) if n else None for s, n in zip(seconds, batches, strict=True)),
            steps=curve.steps,
            after_idle_s=tuple(idle.extra_s.tolist()) if idle.known else (),
            uncertainty=MeanUncertainty(
                components_s=tuple(map(tuple, curve.components_s.tolist())), own_std_s=tuple(curve.own_std_s.tolist())
            ),
        ),
        slow,
        _steadiness(factors),
    )


def _spread(runs: Sequence[Evidence], max_batch_size: int) -> tuple[float | None, ...]:
    logs = [run.batches.batches() for run in runs if run.batches is not None]
    if not logs:
        return (None,) * max_batch_size
    every = pd.concat(logs)
    groups = ((every["end_ns"] - every["start_ns"]) / 1e9).groupby(every["batch_size"])
    deviation = groups.std()[groups.count() >= ENOUGH_BATCHES]
    return tuple(float(deviation[b]) if b in deviation.index else None for b in range(1, max_batch_size + 1))


def _steadiness(factors: Sequence[tuple[FloatArray, FloatArray]]) -> Steadiness | None:
    window_s = 1.0
    means = []
    for time_s, factor in factors:
        index = ((time_s - time_s.min()) / window_s).astype(int)
        count = np.bincount(index)
        sums = np.bincount(index, weights=factor)
        means.append(sums[count >= ENOUGH_BATCHES] / count[count >= ENOUGH_BATCHES])
    if not means or len(windows := np.concatenate(means)) < 2:
        return None
    every = np.concatenate([f for _, f in factors])
    ratio = float(np.quantile(every, 0.99) / np.quantile(every, 0.5))
    return Steadiness(window_s=window_s, between_windows_cv=float(windows.std() / windows.mean()), p99_over_p50=ratio)
