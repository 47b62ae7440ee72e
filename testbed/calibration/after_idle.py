"""How much longer a batch takes on an instance that was idle before: caches are cold, and processors asleep.

Found on a GPU: the network takes the same time, but Python and the processor around it take up to .6 ms more after
50 ms without work than right after another batch. Read off the logs of batches, within runs and batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression

from testbed.calibration.evidence import Evidence, FloatArray

FIRST_KNOT_S = 0.00025
KNOTS = 10  # each twice the one before
NOTICED = 0.05  # of the time of a batch of one: less is left to the spread
ENOUGH_BATCHES = 200
CERTAIN = 4.0  # standard errors of the largest value


class AfterIdle(NamedTuple):
    """Seconds by how long the instance was idle, at knots FIRST_KNOT_S * 2**k, linear in the logarithm between them.

    extra_s: of a batch's time; logged_s: of what the log has of it. Zeros: no such effect.
    """

    extra_s: FloatArray
    logged_s: FloatArray

    @property
    def known(self) -> bool:
        """Whether there is one."""
        return bool(self.extra_s.any())


NO_EFFECT = AfterIdle(np.zeros(KNOTS), np.zeros(KNOTS))


def mean_extra_s(run: Evidence, beyond_s: FloatArray, table_s: FloatArray) -> FloatArray:
    """float64[B]: what a batch took more for idleness, by size - 1, means over the run's log; 0 where it has none."""
    extra = np.zeros(len(beyond_s))
    if run.batches is None or not table_s.any():
        return extra
    log = run.batches.batches()
    log = log.assign(extra=at(idle_before(log, beyond_s), table_s))
    means = log[log["batch_size"] <= len(beyond_s)].groupby("batch_size")["extra"].mean()
    extra[means.index.to_numpy() - 1] = means.to_numpy()
    return extra


def at(idle_s: FloatArray, table_s: FloatArray) -> FloatArray:
    """The table's values after so long."""
    place = np.log2(np.maximum(idle_s, FIRST_KNOT_S) / FIRST_KNOT_S)
    return np.asarray(np.interp(place, np.arange(len(table_s)), table_s), dtype=np.float64)


def idle_before(log: pd.DataFrame, beyond_s: FloatArray) -> FloatArray:
    """Seconds between a batch's start and the end of the one before on its instance, by row of BatchLog.batches().

    beyond_s: what a batch takes beyond its log, by size - 1. The first batch of an instance: infinite.
    """
    order = log.sort_values(["replica", "instance", "start_ns"], kind="stable")
    earlier = order.groupby(["replica", "instance"])[["end_ns", "batch_size"]].shift(1)
    known = earlier["end_ns"].notna()
    idle = pd.Series(np.inf, index=order.index)
    size = earlier["batch_size"][known].astype(int).to_numpy()
    gap_s = (order["start_ns"][known] - earlier["end_ns"][known]).to_numpy() / 1e9
    idle[known] = np.maximum(gap_s - beyond_s[np.minimum(size, len(beyond_s)) - 1], 0.0)
    return np.asarray(idle.reindex(log.index), dtype=np.float64)


def fit_after_idle(
    runs: Sequence[Evidence], beyond_s: FloatArray, batches: npt.NDArray[np.int64], seconds: FloatArray
) -> AfterIdle:
    """Least squares within runs and sizes, then never falling. NO_EFFECT where it is small or may be chance.

    batches, seconds: [R, B], Triton's own, of the same runs: what a batch takes beyond its log grows with idleness too.
    """
    tables = []
    for number, run in enumerate(runs):
        if run.batches is None:
            continue
        log = run.batches.batches()
        own_s = ((log["end_ns"] - log["start_ns"]) / 1e9).to_numpy()
        idle_s = idle_before(log, beyond_s)
        tables.append(pd.DataFrame({"run": number, "size": log["batch_size"], "own": own_s, "idle": idle_s}))
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    rows = rows[np.isfinite(rows["idle"]) & (rows["size"] <= len(beyond_s))] if len(rows) else rows
    if len(rows) < ENOUGH_BATCHES:
        return NO_EFFECT
    cell = [rows["run"], rows["size"]]
    place = np.clip(np.log2(np.maximum(rows["idle"], FIRST_KNOT_S) / FIRST_KNOT_S), 0, KNOTS - 1)
    hats = pd.DataFrame({k: np.clip(1 - np.abs(place - k), 0, 1) for k in range(KNOTS)}, index=rows.index)
    inner = (hats - hats.groupby(cell).transform("mean")).to_numpy()[:, 1:]
    own = (rows["own"] - rows.groupby(cell)["own"].transform("mean")).to_numpy()
    kept = np.abs(own) <= np.quantile(np.abs(own), 0.99)  # stalls of the machine are its noise
    weight = hats.sum().to_numpy()[1:]
    filled = weight > 5
    if not filled.any():
        return NO_EFFECT
    solved, *_ = np.linalg.lstsq(inner[kept][:, filled], own[kept], rcond=None)
    left = own[kept] - inner[kept][:, filled] @ solved
    covariance = np.linalg.pinv(inner[kept][:, filled].T @ inner[kept][:, filled]) * left.var()
    rising = isotonic_regression(solved, weights=weight[filled]).x
    table = np.zeros(KNOTS)
    table[1:] = np.interp(np.arange(1, KNOTS), np.flatnonzero(filled) + 1, np.maximum(rising, 0.0))
    error = float(np.sqrt(max(covariance[-1, -1], 0.0)))
    lone_s = float(rows["own"][rows["size"] == rows["size"].min()].mean())
    if table[-1] < NOTICED * lone_s or table[-1] < CERTAIN * error:
        return NO_EFFECT
    return AfterIdle(table * (1 + _around(rows, table, batches, seconds)), table)


def _around(rows: pd.DataFrame, table: FloatArray, batches: npt.NDArray[np.int64], seconds: FloatArray) -> float:
    """By how much more of the logged part Triton's part around the log grows: least squares over runs and sizes."""
    rows = rows.assign(extra=at(rows["idle"].to_numpy(), table))
    cells = rows.groupby(["run", "size"]).agg(own=("own", "mean"), extra=("extra", "mean"), count=("own", "size"))
    run, size = (cells.index.get_level_values(name).to_numpy() for name in ("run", "size"))
    counted = batches[run, size - 1]
    enough = (counted > 0) & (cells["count"].to_numpy() >= 5)
    if enough.sum() < 4:
        return 0.0
    beyond = seconds[run, size - 1][enough] / counted[enough] - cells["own"].to_numpy()[enough]
    columns = np.column_stack([np.ones(enough.sum()), size[enough], cells["extra"].to_numpy()[enough]])
    root = np.sqrt(counted[enough])[:, None]
    solved, *_ = np.linalg.lstsq(columns * root, beyond * root[:, 0], rcond=None)
    return max(0.0, float(solved[2]))
