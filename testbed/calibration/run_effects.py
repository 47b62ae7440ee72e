"""How much the same service differs from one run to the next: what no average over runs can take away.

Each run of the calibration gives a mean of its own: of its batches' slowness, its inflow, its outflow, its turnaround.
What of their differences the load does not explain (a straight line in the rate's logarithm, for each kind of service)
is the machine's own mood, and a run to come will have another one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from testbed.calibration.profile import RunEffect, RunEffects

TRIMMED = 0.99  # a run's mean is taken below this quantile: single stalls are not its mood


def run_means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a run: replicas, instances, log_rate, and the trimmed mean of the column (runs without any: left out).

    rows has run, replicas, instances, rate and the column, in any order; missing values do not count.
    """
    known = rows.dropna(subset=column)
    if known.empty:
        return pd.DataFrame({"replicas": [], "instances": [], "log_rate": [], "mean": []})
    grouped = known.groupby("run")
    limit = grouped[column].transform(lambda values: values.quantile(TRIMMED))
    means = known[known[column] <= limit].groupby("run")[column].mean()
    head = grouped[["replicas", "instances"]].first()
    return head.assign(log_rate=np.log(grouped["rate"].mean()), mean=means)


def unexplained(means: pd.DataFrame) -> RunEffect | None:
    """Deviation of the runs' means from a line in the logarithm of the rate; None: too few runs of any kind."""
    squares, freedom = 0.0, 0
    for _, kind in means.groupby(["replicas", "instances"]):
        if len(kind) < 3:
            continue
        x, y = kind["log_rate"].to_numpy(), kind["mean"].to_numpy()
        line = np.polyfit(x, y, 1)
        squares += float(np.square(y - np.polyval(line, x)).sum())
        freedom += len(kind) - 2
    return RunEffect(deviation=float(np.sqrt(squares / freedom)), freedom=freedom) if freedom else None


def fit_run_effects(rows: pd.DataFrame, gaps: pd.DataFrame, factors: pd.DataFrame) -> RunEffects:
    """How runs differ; each table has run, replicas, instances and rate.

    rows: one a request (inflow, outflow). gaps: one a batch (turnaround). factors: one a run (service: the logarithm of
    the mean factor on its batches' times).
    """
    return RunEffects(
        service=unexplained(run_means(factors, "service")),
        inflow_s=unexplained(run_means(rows, "inflow")),
        outflow_s=unexplained(run_means(rows, "outflow")),
        turnaround_s=unexplained(run_means(gaps, "turnaround")),
    )
