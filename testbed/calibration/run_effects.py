"""How much the same service differs from one run to the next: what no average over runs can take away.

Each run of the calibration gives a mean of its own: of its batches' slowness, ingress delay, egress delay, gap between
batches. What of their differences the load does not explain (a straight line in the rate's logarithm, for each kind of
service) is the run's own effect, and a run to come will have another one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from testbed.calibration.profile import RunEffect, RunEffects

# Few runs tell little of how they differ. What is known before: runs of one service on one machine differ by some 1 %
# in their batches' times, as sure as four runs would be.
USUAL_SERVICE, USUAL_DEGREES_OF_FREEDOM = 0.01, 4
TRIMMED = 0.99  # a run's mean is taken below this quantile: single stalls are not its run effect


def run_means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a run: replicas, instances, log_rate, the trimmed mean of the column (runs without any: left out), and
    the run's weight, if rows have one.

    rows has run, replicas, instances, rate and the column, in any order; missing values do not count.
    """
    known = rows.dropna(subset=column)
    if known.empty:
        return pd.DataFrame({"replicas": [], "instances": [], "log_rate": [], "mean": [], "weight": []})
    grouped = known.groupby("run")
    limit = grouped[column].transform(lambda values: values.quantile(TRIMMED))
    means = known[known[column] <= limit].groupby("run")[column].mean()
    head = grouped[["replicas", "instances"]].first()
    weight = grouped["weight"].sum() if "weight" in known else 1.0
    return head.assign(log_rate=np.log(grouped["rate"].mean()), mean=means, weight=weight)


def unexplained(means: pd.DataFrame) -> RunEffect | None:
    """Deviation of the runs' means from a line in the logarithm of the rate; None: too few runs of any kind.

    A run counts by its weight beside the others of its kind.
    """
    squares, degrees_of_freedom = 0.0, 0
    for _, kind in means.groupby(["replicas", "instances"]):
        if len(kind) < 3:
            continue
        x, y = kind["log_rate"].to_numpy(), kind["mean"].to_numpy()
        weight = (kind["weight"] / kind["weight"].mean()).to_numpy()
        line = np.polyfit(x, y, 1, w=np.sqrt(weight))
        squares += float((weight * np.square(y - np.polyval(line, x))).sum())
        degrees_of_freedom += len(kind) - 2
    if not degrees_of_freedom:
        return None
    return RunEffect(std=float(np.sqrt(squares / degrees_of_freedom)), degrees_of_freedom=degrees_of_freedom)


def fit_run_effects(rows: pd.DataFrame, gaps: pd.DataFrame, factors: pd.DataFrame) -> RunEffects:
    """How runs differ; each table has run, replicas, instances and rate.

    rows: one a request (ingress_delay, egress_delay). gaps: one a batch (inter_batch_gap). factors: one a run (service:
    the logarithm of the mean factor on its batches' times; weight: how long they took together, as it is under load
    that their time decides).
    """
    service = unexplained(run_means(factors, "service"))
    return RunEffects(
        service=None if service is None else _with_the_usual(service),
        ingress_delay_s=unexplained(run_means(rows, "ingress_delay")),
        egress_delay_s=unexplained(run_means(rows, "egress_delay")),
        inter_batch_gap_s=unexplained(run_means(gaps, "inter_batch_gap")),
    )


def _with_the_usual(effect: RunEffect) -> RunEffect:
    """What the runs say and what was known before, each by how much it is worth (a scaled inverse chi-square prior)."""
    degrees_of_freedom = effect.degrees_of_freedom + USUAL_DEGREES_OF_FREEDOM
    squares = effect.degrees_of_freedom * effect.std**2 + USUAL_DEGREES_OF_FREEDOM * USUAL_SERVICE**2
    return RunEffect(std=float(np.sqrt(squares / degrees_of_freedom)), degrees_of_freedom=degrees_of_freedom)
