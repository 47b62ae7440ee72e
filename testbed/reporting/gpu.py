"""What the real runs did to their GPU, and where the time of a batch on it went; from the run folders alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np

from testbed.calibration.device_use import batches_of, network_share, power_w
from testbed.calibration.evidence import CAPACITY, LENGTH
from testbed.calibration.profile import DeviceUse, ServiceProfile
from testbed.measurement.device_times import BatchTimes, DeviceTimes
from testbed.measurement.gpu_readings import mean_power_w, mean_reading, readings
from testbed.reporting.labels import NOT_MEASURED, number
from testbed.reporting.loading import LoadedRun, load_run, utilisation
from testbed.run_dir import RunDir

NO_RATE = (CAPACITY, LENGTH, "lone", "largest", "bursts")  # patterns of runs that measure single batches
# NVML's nvmlClocksThrottleReasons: why the clock is below what was asked for. An idle GPU's is no fault.
THROTTLED = {
    0x4: "power cap",
    0x8: "hardware slow-down",
    0x20: "too hot (driver)",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True)
class GpuLoad:
    """One real run. None: not measured. Shares are of the run's time, of one GPU."""

    run_id: str
    model: str
    configuration: str
    pattern: str
    valid: bool | None
    rate_rps: float
    instances: float | None  # busy share of the instances, by Triton
    network: float | None  # share in which a network ran, by CUDA events
    simulated_network: float | None  # None too: the run has no simulated counterpart
    nvml: float | None  # NVML's utilisation
    power_w: float | None
    simulated_power_w: float | None
    joules_per_request: float | None
    memory_bytes: float | None
    sm_clock_hz: float | None
    throttled: str | None
    p50_ms: float | None
    p95_ms: float | None
    simulated_p50_ms: float | None
    simulated_p95_ms: float | None

    @property
    def memory_mib(self) -> float | None:
        """Memory used of the GPU."""
        return None if self.memory_bytes is None else self.memory_bytes / 2**20

    @property
    def sm_clock_mhz(self) -> float | None:
        """Mean clock of the multiprocessors."""
        return None if self.sm_clock_hz is None else self.sm_clock_hz / 1e6

    @property
    def simulated_joules_per_request(self) -> float | None:
        """Of the run's simulated counterpart."""
        return None if self.simulated_power_w is None else self.simulated_power_w / self.rate_rps


@dataclass(frozen=True)
class GpuCurves:
    """What one figure shows: the loads of one service, by rate, and its model's profile, if there is one."""

    stem: str
    title: str
    loads: tuple[GpuLoad, ...]
    profile: ServiceProfile | None


@dataclass(frozen=True)
class BatchParts:
    """Mean seconds of a batch of one size, over all real runs. around: what Triton adds to the backend's time."""

    times: BatchTimes
    triton_s: float | None

    @property
    def around_s(self) -> float | None:
        """To hand the requests to the backend's process and to take the answers back."""
        return None if self.triton_s is None else self.triton_s - self.times.backend_s


@dataclass(frozen=True)
class TextTable:
    """As both reports show it: the first column is text."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class GpuView:
    """Of one results folder."""

    loads: tuple[GpuLoad, ...]
    parts: tuple[BatchParts, ...]
    profiles: tuple[ServiceProfile, ...] = ()

    @property
    def curves(self) -> list[GpuCurves]:
        """A figure for each service that had traffic; what came in heaps or alone has no rate to speak of."""
        of_service: dict[tuple[str, str], list[GpuLoad]] = {}
        for load in self.loads:
            if load.pattern not in NO_RATE:
                of_service.setdefault((load.model, load.configuration), []).append(load)
        profiles = {profile.model: profile for profile in self.profiles}
        return [
            GpuCurves(f"gpu-{number}", f"{model} {configuration}", tuple(loads), profiles.get(model))
            for number, ((model, configuration), loads) in enumerate(sorted(of_service.items()), start=1)
        ]

    @property
    def load_table(self) -> TextTable:
        """A row a run, by rate."""
        headings = "real run; rate, 1/s; instances busy; a network ran; simulated; NVML utilisation; power, W; "
        headings += "simulated, W; J a request; memory, MiB; SM clock, MHz; clock lowered by"
        return TextTable(tuple(headings.split("; ")), tuple(map(_load_row, self.loads)))

    @property
    def parts_table(self) -> TextTable:
        """A row a batch size, milliseconds."""
        headings = "batch size; batches; Triton, in all; around the backend; Python and processor; copy to the GPU; "
        headings += "network; copy back"
        return TextTable(tuple(headings.split("; ")), tuple(map(_parts_row, self.parts)))


def gpu_view(runs: Sequence[RunDir], profiles: Iterable[ServiceProfile] = ()) -> GpuView | None:
    """None: no real run was on a GPU. profiles: that simulated runs were made with; the last of a model counts."""
    loaded = [load_run(run.path) for run in runs if _on_gpu(run)]
    if not loaded:
        return None
    known = tuple(profiles)
    use = {profile.model: profile.device_use for profile in known}
    counterparts = {run.manifest.simulates: run for run in runs if run.manifest.kind == "simulated"}
    with_times = [(run, times) for run in loaded if (times := DeviceTimes.read(run.path)) is not None]
    made = (_load(run, counterparts.get(run.manifest.run_id), use.get(run.manifest.model)) for run in loaded)
    loads = sorted(made, key=lambda load: (load.rate_rps, load.run_id))
    return GpuView(tuple(loads), tuple(_parts(with_times)), known)


def _load_row(load: GpuLoad) -> tuple[str, ...]:
    return (
        load.run_id if load.valid else f"{load.run_id} ({'NOT JUDGED' if load.valid is None else 'INVALID'})",
        number(load.rate_rps, 1),
        number(load.instances, 3),
        number(load.network, 3),
        _beside(load.simulated_network, load.network, 3),
        number(load.nvml, 3),
        number(load.power_w, 1),
        _beside(load.simulated_power_w, load.power_w, 1),
        number(load.joules_per_request, 3),
        number(load.memory_mib, 0),
        number(load.sm_clock_mhz, 0),
        NOT_MEASURED if load.throttled is None else load.throttled or "nothing",
    )


def _beside(simulated: float | None, real: float | None, digits: int) -> str:
    """The simulated value and its error; a dash without one."""
    if simulated is None:
        return "-"
    if not real:
        return number(simulated, digits)
    return f"{number(simulated, digits)} ({number(100 * (simulated / real - 1), 1, '%', signed=True)})"


def _parts_row(part: BatchParts) -> tuple[str, ...]:
    def ms(seconds: float | None, digits: int = 2) -> str:
        return number(None if seconds is None else 1e3 * seconds, digits)

    times = part.times
    return (
        str(times.batch_size),
        str(times.batches),
        ms(part.triton_s),
        ms(part.around_s),
        f"{ms(times.rest_s)} ± {ms(times.rest_std_s)}",
        ms(times.copy_in_s, 3),
        f"{ms(times.network_s, 3)} ± {ms(times.network_std_s, 3)}",
        ms(times.copy_out_s, 3),
    )


def _on_gpu(run: RunDir) -> bool:
    manifest = run.manifest
    return manifest.kind == "real" and manifest.state == "complete" and manifest.device.kind == "gpu"


def _load(run: LoadedRun, simulated_run: RunDir | None, use: DeviceUse | None) -> GpuLoad:
    manifest, metrics, times = run.manifest, run.metrics, DeviceTimes.read(run.path)
    uuids, end_s, rate = manifest.gpu_uuids, manifest.duration_s, run.schedule.rate_rps
    gpus = max(1, len(uuids))
    network_s = None if times is None else sum(size.batches * size.network_s for size in times.sizes)
    # Several take turns on a GPU: their networks' times are not one's. Of shorter requests nobody knows the use.
    alone = manifest.service.replicas == 1 and not manifest.service.length_buckets
    counterpart = None if simulated_run is None else load_run(simulated_run.path)
    simulated = batches_of(counterpart.batches, end_s) if counterpart is not None and alone else {}
    p50_ms, p95_ms = _latency_ms(run)
    simulated_p50_ms, simulated_p95_ms = _latency_ms(counterpart)
    power = None if metrics is None else mean_power_w(metrics, uuids, 0, end_s)
    memory = None if metrics is None else mean_reading(metrics, "memory_used", uuids, 0, end_s)
    clock = None if metrics is None else mean_reading(metrics, "sm_clock", uuids, 0, end_s)
    return GpuLoad(
        run_id=manifest.run_id,
        model=manifest.model,
        configuration=manifest.service.label,
        pattern=manifest.pattern,
        valid=None if manifest.verdict is None else manifest.verdict.valid,
        rate_rps=rate,
        instances=utilisation(run)[0],
        network=None if network_s is None else network_s / (gpus * end_s),
        simulated_network=network_share(use, simulated, gpus * end_s) if use and simulated else None,
        nvml=None if metrics is None else mean_reading(metrics, "utilisation", uuids, 0, end_s),
        power_w=power,
        simulated_power_w=power_w(use, simulated, end_s) if use and simulated else None,
        joules_per_request=None if power is None else power / rate,
        memory_bytes=memory,
        sm_clock_hz=clock,
        throttled=_throttled(run),
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        simulated_p50_ms=simulated_p50_ms,
        simulated_p95_ms=simulated_p95_ms,
    )


def _latency_ms(run: LoadedRun | None) -> tuple[float | None, float | None]:
    """P50 and P95; None: nothing was answered."""
    if run is None or not run.requests.ok.any():
        return None, None
    p50_s, p95_s = np.quantile(run.requests.latency_s[run.requests.ok], (0.5, 0.95)).tolist()
    return 1e3 * p50_s, 1e3 * p95_s


def _throttled(run: LoadedRun) -> str | None:
    """Names of what slowed the GPU's clock in the run; empty: nothing did; None: it does not tell."""
    rows = None if run.metrics is None else readings(run.metrics, "throttle_reasons", run.manifest.gpu_uuids)
    if rows is None or rows.empty:
        return None
    bits = reduce(or_, rows["value"].astype(int), 0)
    return ", ".join(name for bit, name in THROTTLED.items() if bits & bit)


def _parts(runs: list[tuple[LoadedRun, DeviceTimes]]) -> Iterable[BatchParts]:
    batches, seconds = _by_triton([run for run, _ in runs])
    of_size: dict[int, list[BatchTimes]] = {}
    for _, times in runs:
        for of_batch in times.sizes:
            of_size.setdefault(of_batch.batch_size, []).append(of_batch)
    for size, several in sorted(of_size.items()):
        triton_s = seconds[size] / batches[size] if batches.get(size) else None
        yield BatchParts(_pooled(several), triton_s)


def _by_triton(runs: list[LoadedRun]) -> tuple[dict[int, float], dict[int, float]]:
    """Batches by size, and the seconds that they took by Triton's own statistics."""
    counts: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for run in runs:
        for by_size, name in ((counts, "batch_executions"), (seconds, "batch_compute_seconds")):
            if run.metrics is not None:
                for size, more in run.metrics.increase_by_batch_size(name, run.manifest.model).items():
                    by_size[size] = by_size.get(size, 0.0) + more
    return counts, seconds


def _pooled(several: list[BatchTimes]) -> BatchTimes:
    """Of all runs together; deviations are within runs."""
    total = sum(times.batches for times in several)

    def mean(name: str) -> float:
        return float(sum(times.batches * getattr(times, name) for times in several) / total)

    def deviation(name: str) -> float:
        return float((sum(times.batches * getattr(times, name) ** 2 for times in several) / total) ** 0.5)

    return BatchTimes(
        batch_size=several[0].batch_size,
        batches=total,
        **{f"{part}_s": mean(f"{part}_s") for part in ("backend", "copy_in", "network", "copy_out", "rest")},
        **{f"{part}_std_s": deviation(f"{part}_std_s") for part in ("network", "rest")},
    )
