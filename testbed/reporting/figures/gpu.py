"""A GPU against load: what was measured, what the simulator expects with its interval, and simulated runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from testbed.calibration.profile import Band, CurvePoint, ServiceProfile
from testbed.calibration.service_curve import drawn_means
from testbed.reporting.drawing import INVALID, LOOK, REAL, SIMULATED, WIDTH, log_axis
from testbed.reporting.gpu import GpuCurves, GpuLoad

DRAWS, SEED = 2000, 20250707  # of the service times, for the interval of the throughput; any seed does
SHARES = {"instances": "instances busy", "network": "a network ran", "nvml": "NVML utilisation"}


@rc_context(LOOK)
def gpu_figure(shown: GpuCurves) -> Figure:
    """Of one service. Without a profile, or with one whose curve is of another service, there are no curves."""
    loads, profile = shown.loads, shown.profile
    curve = None if profile is None else profile.load_curve
    points = curve.points if curve is not None and curve.configuration == loads[0].configuration else ()
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    latency, busy, watts, joules, memory, clock, throughput, legend = figure.subplots(2, 4).ravel()
    for name, shade in (("p95", 1.0), ("p50", 0.45)):
        _curve(latency, [(point.rate_rps, getattr(point, f"{name}_s")) for point in points], 1e3, shade)
        _marks(latency, loads, f"{name}_ms", "o", shade)
        _marks(latency, loads, f"simulated_{name}_ms", "D", shade)
    latency.set(title="P95 and P50 (pale), ms")
    log_axis(latency, "y")
    _curve(busy, [(point.rate_rps, point.busy) for point in points])
    _curve(busy, [(point.rate_rps, point.network) for point in points])
    _marks(busy, loads, "simulated_network", "D")
    for symbol, name in (("o", "instances"), ("s", "network"), ("x", "nvml")):
        _marks(busy, loads, name, symbol)
        busy.plot([], [], symbol, color=REAL, fillstyle="none", label=SHARES[name])
    busy.set(title="share of the time", ylim=(0, 1.4))
    busy.legend(loc="upper left")
    _curve(watts, [(point.rate_rps, point.power_w) for point in points])
    _marks(watts, loads, "power_w", "o")
    _marks(watts, loads, "simulated_power_w", "D")
    watts.set(title="power, W", ylim=(0, None))
    _curve(joules, [(point.rate_rps, _joules(point)) for point in points])
    _marks(joules, loads, "joules_per_request", "o")
    _marks(joules, loads, "simulated_joules_per_request", "D")
    joules.set(title="energy of a request, J", ylim=(0, None))
    _marks(memory, loads, "memory_mib", "o")
    memory.set(title="memory used, MiB", ylim=(0, None))
    _marks(clock, loads, "sm_clock_mhz", "o")
    _marks(clock, [load for load in loads if load.throttled], "sm_clock_mhz", "x")
    clock.set(title="SM clock, MHz (crossed: lowered)", ylim=(0, None))
    for axes in (latency, busy, watts, joules, memory, clock):
        axes.set(xlabel="rate, 1/s", xlim=(0, None))
    _throughput(throughput, profile)
    _legend(legend, all_valid=all(load.valid for load in loads))
    return figure


def _curve(axes: Axes, bands: Sequence[tuple[float, Band | None]], scale: float = 1, shade: float = 1) -> None:
    known = [(rate, scale * band.low, scale * band.middle, scale * band.high) for rate, band in bands if band]
    if known:
        rates, low, middle, high = (list(column) for column in zip(*known, strict=True))
        axes.fill_between(rates, low, high, color=SIMULATED, alpha=0.2 * shade, linewidth=0)
        axes.plot(rates, middle, color=SIMULATED, linewidth=1.2, alpha=shade)


def _marks(axes: Axes, loads: Sequence[GpuLoad], name: str, symbol: str, shade: float = 1) -> None:
    """One field of the loads. Diamonds are simulated; real runs are blue, or red where they are not valid."""
    for valid in (True, False):
        points = [(load.rate_rps, getattr(load, name)) for load in loads if bool(load.valid) is valid]
        known = [(rate, value) for rate, value in points if value is not None]
        colour = SIMULATED if symbol == "D" else REAL if valid else INVALID
        if known:
            axes.plot(*zip(*known, strict=True), symbol, color=colour, markersize=5, fillstyle="none", alpha=shade)


def _joules(point: CurvePoint) -> Band | None:
    band, rate = point.power_w, point.rate_rps
    return None if band is None else Band(low=band.low / rate, middle=band.middle / rate, high=band.high / rate)


def _throughput(axes: Axes, profile: ServiceProfile | None) -> None:
    """Of one instance that never waits for work, by batch size."""
    axes.set(title="throughput of an instance, 1/s", xlabel="batch size")
    axes.locator_params(axis="x", nbins=8, integer=True)
    if profile is None:
        return
    times = profile.service_time
    sizes = np.array(times.batch_size)
    drawn = sizes / drawn_means(times, np.random.default_rng(SEED), DRAWS)
    axes.fill_between(sizes, *np.quantile(drawn, [0.05, 0.95], axis=0), color=SIMULATED, alpha=0.2, linewidth=0)
    axes.plot(sizes, sizes / np.array(times.mean_s), color=SIMULATED, linewidth=1.2)
    measured = [(size, size / seconds) for size, seconds in zip(sizes, times.measured_s, strict=False) if seconds]
    if measured:
        axes.plot(*zip(*measured, strict=True), "o", color=REAL, markersize=5, fillstyle="none")
    axes.set(ylim=(0, None))


def _legend(axes: Axes, all_valid: bool) -> None:
    axes.axis("off")
    mark: Any = {"linestyle": "none", "fillstyle": "none", "markersize": 5}
    handles = [
        Line2D([], [], marker="o", color=REAL, label="real run, measured", **mark),
        Line2D([], [], marker="o", color=INVALID, label="real run, not valid", **mark),
        Line2D([], [], marker="D", color=SIMULATED, label="its simulated counterpart", **mark),
        Line2D([], [], color=SIMULATED, label="expected at constant load"),
        Patch(color=SIMULATED, alpha=0.2, label="90 % of runs to come"),
    ]
    if all_valid:
        del handles[1]
    axes.legend(handles=handles, loc="center")
