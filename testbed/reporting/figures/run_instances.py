"""What the instances of one run did, at the end of its report: how busy they were, and in which batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from testbed.measurement.batch_log import BatchLog
from testbed.reporting.added import added_to
from testbed.reporting.drawing import LOOK, REAL, SIMULATED, WIDTH, FloatArray
from testbed.reporting.series import middles
from testbed.run_dir import RunDir, RunManifest

INTERVALS = 240  # of a run


@added_to(
    "run",
    f"In each of {INTERVALS} equal intervals of the run: the share of their time that the instances were inside "
    "batches, and the mean size of the batches that began",
    needs="batches.parquet",
)
@rc_context(LOOK)
def instances(folder: Path) -> Figure:
    """Busy share and mean batch size over time."""
    run = RunDir(folder)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    busy, size = figure.subplots(2, 1, sharex=True)
    busy.set(title="busy share of the instances' time", ylim=(0, 1.02))
    busy.yaxis.set_major_formatter(PercentFormatter(1))
    size.set(title="mean batch size", xlabel="seconds of the run", xlim=(0, run.manifest.duration_s))
    edges, shares, sizes = instances_over_time(BatchLog.read(run.batches), run.manifest)
    colour = SIMULATED if run.manifest.kind == "simulated" else REAL
    busy.step(middles(edges), shares, where="mid", color=colour, linewidth=1.2)
    size.plot(middles(edges), sizes, ".-", color=colour, markersize=2.5, linewidth=1.0)
    size.set_ylim(bottom=0)
    return figure


def instances_over_time(log: BatchLog, manifest: RunManifest) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Edges of the intervals in seconds, the busy share of each, and its mean batch size (NaN: none began in it)."""
    edges = np.linspace(0, manifest.duration_s, INTERVALS + 1)
    batches = log.batches()
    start, end = (np.sort(batches[name].to_numpy(dtype=float)) / 1e9 for name in ("start_ns", "end_ns"))
    # Seconds inside batches up to an edge, summed over instances: of those that have ended, and of those under way.
    begun, ended = (np.searchsorted(times, edges) for times in (start, end))
    start_sum, end_sum = (np.concatenate([[0.0], np.cumsum(times)]) for times in (start, end))
    busy_s = end_sum[ended] - start_sum[begun] + (begun - ended) * edges
    instances = manifest.service.replicas * manifest.service.instances
    at = batches["start_ns"].to_numpy(dtype=float) / 1e9
    counts = np.histogram(at, edges)[0].astype(float)
    sums = np.histogram(at, edges, weights=batches["batch_size"].to_numpy(dtype=float))[0]
    mean = np.divide(sums, counts, out=np.full(INTERVALS, np.nan), where=counts > 0)
    return edges, np.diff(busy_s) / (np.diff(edges) * instances), mean
