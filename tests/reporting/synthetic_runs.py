"""Makes a small results folder as `kis calibrate` would leave it, from a toy batching server. No server, seconds.

python tests/reporting/synthetic_runs.py /tmp/results-demo && kis report /tmp/results-demo
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import Verdict
from testbed.calibration.profile import (
    FitResidual,
    LoadPoint,
    Overhead,
    OverheadLevel,
    ServiceProfile,
    ServiceTime,
    SlowPhase,
    Steadiness,
)
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import Device, RunDir, RunManifest
from workloads.catalog import DynamicBatching, ServiceConfig

CPU = Device(kind="cpu", name="Example CPU, 2 cores")
EMULATED = Device(kind="emulated", name="emulated T4")
VALID = Verdict(valid=True, figures={"lag_p99_ms": 0.4, "delivered_share": 1.0})


@dataclass(frozen=True)
class Service:
    """The toy: batches up to max_batch_size on `servers` instances, service time base_s + per_request_s * size."""

    model: str
    device: Device
    base_s: float
    per_request_s: float
    weights: str = "random, seed 0: timing only"


RESNET = Service("resnet50", CPU, 0.030, 0.020)
ACCELERATOR = Service("emulated", EMULATED, 0.003, 0.0005, weights="none: waits a profile's time")


def arrivals(pattern: str, rate_rps: float, duration_s: float, seed: int) -> np.ndarray:
    """Poisson arrivals in ns with a rate that follows the pattern's shape."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, duration_s, rng.poisson(rate_rps * 2 * duration_s)))
    shape = {
        "ramp": 0.2 + 1.6 * np.minimum(t / duration_s / 0.7, 1) * 0.625,
        "periodic": 1 + 0.6 * np.sin(2 * np.pi * t / duration_s * 3),
        "bursty": np.where((t / duration_s * 4) % 1 < 0.2, 1.9, 0.6),
        "constant": np.ones_like(t),
    }[pattern]
    kept = t[rng.uniform(0, 2, len(t)) < shape]
    return (kept * 1e9).astype(np.int64)


def serve(
    scheduled_s: np.ndarray, service: Service, config: ServiceConfig, seed: int, slowdown: float
) -> tuple[np.ndarray, pd.DataFrame]:
    """completed_s of each request and the rows of the batch log."""
    rng = np.random.default_rng(seed)
    free = np.zeros(config.replicas * config.instances)
    completed, rows, first = np.empty(len(scheduled_s)), [], 0
    while first < len(scheduled_s):
        server = int(free.argmin())
        start = max(free[server], scheduled_s[first] + 0.0002)
        last = first
        while last < len(scheduled_s) and scheduled_s[last] <= start and last - first < config.max_batch_size:
            last += 1
        size = max(last - first, 1)
        took = (service.base_s + service.per_request_s * size) * slowdown * rng.lognormal(0, 0.05)
        free[server] = start + took
        for position in range(size):
            completed[first + position] = start + took + 0.0003 * rng.exponential()
            rows.append((first + position, server // config.instances, server % config.instances,
                         int(start * 1e9), int((start + took) * 1e9), size, position))  # fmt: skip
        first += size
    return completed, pd.DataFrame(
        rows, columns=["request_id", "replica", "instance", "start_ns", "end_ns", "batch_size", "position"]
    ).astype("int64")


def write_run(
    runs: Path,
    run_id: str,
    scheduled_ns: np.ndarray,
    completed_s: np.ndarray,
    *,
    kind: Literal["real", "simulated"] = "real",
    batches: pd.DataFrame | None = None,
    metrics: MetricLog | None = None,
    status: list[str] | None = None,
    **manifest: Any,
) -> RunManifest:
    """Write one run folder through the real artefact classes. completed_s NaN: not answered."""
    run = RunDir(runs / run_id).create()
    fields: dict[str, Any] = {
        "model": "resnet50",
        "weights": "random, seed 0: timing only",
        "device": CPU,
        "service": ServiceConfig(),
        "pattern": "constant",
        "seed": 1,
        "held_out": True,
        "duration_s": 10.0,
        "state": "complete",
        "verdict": VALID if kind == "real" else None,
        "versions": {"tritonserver": "2.50.0", "kis-testbed": "0.1.0"},
        **manifest,
    }
    written = RunManifest(run_id=run_id, kind=kind, **fields)
    n = len(scheduled_ns)
    answered = np.isfinite(completed_s)
    completed_ns = pd.array(np.where(answered, np.nan_to_num(completed_s) * 1e9, 0).round().astype("int64"), "Int64")
    completed_ns[~answered] = pd.NA
    frame = pd.DataFrame(
        {
            "request_id": pd.array(np.arange(n), "Int64"),
            "model": written.model,
            "endpoint": "127.0.0.1:8001",
            "scheduled_ns": pd.array(scheduled_ns, "Int64"),
            "sent_ns": pd.array(scheduled_ns + 20_000, "Int64"),
            "completed_ns": completed_ns,
            "status": status or np.where(answered, "ok", "error").tolist(),
            "detail": pd.Series([None] * n, dtype=object),
        }
    )
    RequestLog(frame).write(run.requests)
    Schedule(scheduled_ns, np.full(n, written.model, dtype=object), written.duration_s).write(run.schedule)
    if batches is not None:
        BatchLog(batches).write(run.batches)
    if metrics is not None:
        metrics.write(run.metrics)
    run.write_manifest(written)
    return written


def write_pair(
    runs: Path,
    service: Service,
    config: ServiceConfig,
    pattern: str,
    rate_rps: float,
    *,
    duration_s: float = 60.0,
    seed: int = 11,
    repeats: int = 3,
    **manifest: Any,
) -> str:
    """A real run, its repeats and its simulated counterpart; returns the real run's id."""
    scheduled_ns = arrivals(pattern, rate_rps, duration_s, seed)
    run_id = f"{service.model}-{pattern}-{config.label}-s{seed}"
    shared = {
        "model": service.model,
        "device": service.device,
        "weights": service.weights,
        "service": config,
        "pattern": pattern,
        "pattern_parameters": {"rate_rps": rate_rps},
        "seed": seed,
        "duration_s": duration_s,
    }
    for repeat in range(repeats):
        completed_s, batches = serve(scheduled_ns / 1e9, service, config, seed + repeat, 1 + 0.004 * repeat)
        name = run_id if repeat == 0 else f"{run_id}-k{repeat}"
        write_run(
            runs, name, scheduled_ns, completed_s, batches=batches, repeat=repeat, start_unix_ns=1_750_000_000 * 10**9,
            **{**shared, **manifest},
        )  # fmt: skip
    completed_s, batches = serve(scheduled_ns / 1e9, service, config, seed + 100, 1.002)
    counterpart = {**shared, "simulates": run_id, "profile": f"profile-{service.model}.json"}
    counterpart.update({key: value for key, value in manifest.items() if key == "held_out"})
    write_run(runs, f"{run_id}-sim", scheduled_ns, completed_s, kind="simulated", batches=batches, **counterpart)
    return run_id


def profile_of(service: Service, rates_rps: tuple[float, ...], runs: tuple[str, ...]) -> ServiceProfile:
    """The toy's true parameters in the form that calibration would write."""
    sizes = tuple(range(1, 9))
    noise = np.exp(0.05 * np.array([-3.0, -1.3, -0.67, 0, 0.67, 1.3, 3.0]))
    quantiles = np.linspace(0, 1, 21)
    return ServiceProfile(
        model=service.model,
        weights=service.weights,
        device=service.device,
        service_time=ServiceTime(
            batch_size=sizes,
            mean_s=tuple(service.base_s + service.per_request_s * size for size in sizes),
            spread_s=tuple(
                None if size in (5, 7) else 0.05 * (service.base_s + service.per_request_s * size) for size in sizes
            ),
            batches=(40, 40, 31, 28, 0, 22, 0, 60),
            noise_quantiles=tuple(noise / noise.mean()),
        ),
        slow_phase=SlowPhase(sigma=0.031, timescale_s=14.0),
        inter_batch_gap_s=0.00012,
        overhead=Overhead(
            levels=tuple(
                OverheadLevel(
                    replicas=1,
                    instances=1,
                    rate_rps=rate,
                    ingress_delay_quantiles_s=tuple(0.0002 - 0.0001 * np.log1p(-0.97 * quantiles)),
                    egress_delay_quantiles_s=tuple(
                        0.0003 * (1 + rate / rates_rps[-1]) - 0.0004 * np.log1p(-0.97 * quantiles)
                    ),
                    requests=800,
                )
                for rate in rates_rps
            ),
            window_s=1.0,
            per_position_s=2e-5,
        ),
        steadiness=Steadiness(window_s=5.0, between_windows_cv=0.034, p99_over_p50=1.21),
        cold_start_s=(3.1, 3.4, 3.2),
        load=tuple(LoadPoint(rate_rps=rate, utilisation=0.9 * rate / rates_rps[-1]) for rate in rates_rps),
        residuals=tuple(
            FitResidual(run_id=run, valid=True, p50_error_pct=0.6, p95_error_pct=-1.1, ks=0.021) for run in runs
        ),
        ranges={"rate_rps": (rates_rps[0], rates_rps[-1]), "batch_size": (1, 8)},
        runs=runs,
    )


def write_demo(folder: Path) -> Path:
    """Six pairs of two models, one of them invalid, one fitting run, two profiles."""
    runs = folder / "runs"
    one, two = ServiceConfig(), ServiceConfig(instances=2, dynamic_batching=DynamicBatching(max_queue_delay_s=0.002))
    four = ServiceConfig(replicas=4)
    write_pair(runs, ACCELERATOR, one, "ramp", 560, duration_s=20)
    write_pair(runs, ACCELERATOR, two, "periodic", 900, duration_s=20)
    write_pair(runs, ACCELERATOR, four, "bursty", 1500, duration_s=12)
    write_pair(runs, RESNET, one, "ramp", 14)
    write_pair(runs, RESNET, one, "periodic", 16, repeats=2)
    late = Verdict(
        valid=False,
        reasons=("lag P99 is 14.2 ms, more than 1 ms: the client was late",),
        figures={"lag_p99_ms": 14.2, "delivered_share": 0.993},
    )
    write_pair(runs, RESNET, one, "bursty", 13, repeats=1, verdict=late)
    fitted = arrivals("constant", 10, 20, 3)
    completed_s, batches = serve(fitted / 1e9, RESNET, one, 3, 1.0)
    write_run(runs, "resnet50-fit-constant", fitted, completed_s, batches=batches, held_out=False, duration_s=20.0)
    profile_of(RESNET, (4, 10, 18), ("resnet50-fit-constant",)).write(folder / "profile-resnet50.json")
    profile_of(ACCELERATOR, (100, 400, 900, 1500), ()).write(folder / "profile-emulated.json")
    return folder


if __name__ == "__main__":
    print(write_demo(Path(sys.argv[1])))
