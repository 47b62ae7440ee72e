"""KISim for one service: Schedule + ServiceProfile + ServiceConfig + seed -> the artefacts of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.evidence import local_rate_rps
from testbed.calibration.profile import ServiceProfile
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.simulation.cluster.traffic import buckets_of
from testbed.simulation.kernel import KernelResult, simulate_batches
from testbed.simulation.noise import from_quantiles, overhead_draws, slow_factor
from testbed.simulation.rules import BatchingRules
from workloads.catalog import ServiceConfig
from workloads.errors import KisError

SAMPLE_S = 1.0  # spacing of simulated metric samples, as the real sampler's default
_REFUSALS = {1: "simulated: timed out in queue", 2: "simulated: queue full"}


@dataclass(frozen=True)
class SimulatedRun:
    """The same three artefacts that a real run leaves."""

    requests: RequestLog
    metrics: MetricLog
    batches: BatchLog


def simulate(schedule: Schedule, profile: ServiceProfile, service: ServiceConfig, seed: int) -> SimulatedRun:
    """Simulate one service from start to the last answer. The same arguments give the same bytes.

    KisError if the service asks for larger batches than the profile knows.
    """
    largest = service.max_batch_size if service.dynamic_batching is not None else 1
    known = len(profile.service_time.mean_s)
    if largest > known:
        raise KisError(
            f"max_batch_size {largest} is beyond the profile of {profile.model} (1..{known}): "
            "calibrate with that batch size, or simulate a smaller one"
        )
    overhead_rng, noise_rng, slow_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    rate_rps = local_rate_rps(schedule.scheduled_ns, profile.overhead.window_s)
    levels = profile.overhead.levels_for(service.replicas, service.instances)
    draws = overhead_draws(levels, profile.turnaround_s, rate_rps, overhead_rng)
    arrival_ns = schedule.scheduled_ns + np.rint(draws.inflow_s * 1e9).astype(np.int64)
    result = _run_kernel(schedule, profile, service, arrival_ns, draws.turnaround_s, rate_rps, noise_rng, slow_rng)
    after_s = (
        draws.outflow_s
        + profile.overhead.per_position_s * result.position
        + profile.overhead.per_batch_size_s * (result.batch_size - 1)
    )
    completed_ns = result.end_ns + np.maximum(np.rint(after_s * 1e9), 0).astype(np.int64)
    provenance = {"simulated": True, "seed": seed, "profile_runs": list(profile.runs)}
    return SimulatedRun(
        requests=RequestLog(_request_frame(schedule, result, completed_ns), provenance),
        metrics=MetricLog.from_rows(_metric_rows(profile.model, service, result, arrival_ns), provenance),
        batches=BatchLog(_batch_frame(result), provenance),
    )


def _run_kernel(
    schedule: Schedule,
    profile: ServiceProfile,
    service: ServiceConfig,
    arrival_ns: np.ndarray,
    turnaround_s: np.ndarray,
    rate_rps: np.ndarray,
    noise_rng: np.random.Generator,
    slow_rng: np.random.Generator,
) -> KernelResult:
    """The kernel wants arrivals in order; inflow may have swapped some, so sort, run, and sort back."""
    order = np.argsort(arrival_ns, kind="stable")
    assigned = None
    if service.balancer == "round_robin":  # decided when the client sends, in the schedule's order
        assigned = (np.arange(len(schedule)) % service.replicas)[order]
    span_s = 2 * schedule.duration_s + 60  # a queue may outlast the schedule
    slow, slow_step_s = slow_factor(profile.slow_phase, span_s, slow_rng)
    times = profile.service_time
    if service.length_buckets:
        rows, bucket = np.array(times.padded_mean_s(service.length_buckets)), _buckets(schedule, service)[order]
    else:
        rows, bucket = np.array([times.mean_s]), np.zeros(1, dtype=np.int64)
    # A service without batching may name a size that was never measured; no batch of it is run.
    missing = max(0, service.max_batch_size - rows.shape[1])
    service_s = np.pad(rows, ((0, 0), (1, missing)), mode="edge")[:, : service.max_batch_size + 1]
    contention = profile.contention
    measured_rps = np.clip(rate_rps, *profile.ranges.get("rate_rps", (0.0, np.inf)))  # no guess beyond what was seen
    extra_s = contention.seconds_per_rps * (measured_rps - contention.base_rps)
    result = simulate_batches(
        arrival_ns[order],
        service_s * 1e9,
        from_quantiles(times.noise_quantiles, noise_rng.random(len(schedule))),
        BatchingRules.of(service, turnaround_ns=0, timer_slack_ns=round((profile.timer_slack_s or 0.0) * 1e9)),
        replicas=service.replicas,
        balancer=service.balancer,
        assigned=assigned,
        slow=slow,
        slow_step_ns=round(slow_step_s * 1e9),
        extra_ns=extra_s[order] * 1e9,
        pause_ns=turnaround_s[order] * 1e9,  # the turnaround, drawn for each batch
        after_idle_ns=np.array(times.after_idle_s or (0.0,)) * 1e9,
        bucket=bucket,
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return KernelResult(**{name: getattr(result, name)[back] for name in KernelResult._fields})


def _buckets(schedule: Schedule, service: ServiceConfig) -> np.ndarray:
    bucket = buckets_of(schedule, service.length_buckets)
    if bucket is None:
        raise KisError("the service pads to length_buckets, the traffic has no lengths: give `lengths`")
    return bucket


def _request_frame(schedule: Schedule, result: KernelResult, completed_ns: np.ndarray) -> pd.DataFrame:
    served = result.status == 0
    return pd.DataFrame(
        {
            "request_id": np.arange(len(schedule)),
            "model": schedule.model,
            "endpoint": [f"replica-{k}" for k in result.replica],
            "scheduled_ns": schedule.scheduled_ns,
            "sent_ns": schedule.scheduled_ns,
            "completed_ns": pd.array(completed_ns, dtype="Int64"),
            "status": np.where(served, "ok", "error"),
            "detail": pd.array([_REFUSALS.get(int(code)) for code in result.status], dtype="str"),
        }
    )


def _batch_frame(result: KernelResult) -> pd.DataFrame:
    served = np.flatnonzero(result.status == 0)
    frame = pd.DataFrame(
        {
            "request_id": served,
            "replica": result.replica[served],
            "instance": result.instance[served],
            "start_ns": result.start_ns[served],
            "end_ns": result.end_ns[served],
            "batch_size": result.batch_size[served],
            "position": result.position[served],
        }
    ).astype("int64")
    return frame.sort_values(["start_ns", "replica", "instance", "position"], kind="stable", ignore_index=True)


def _metric_rows(
    model: str, service: ServiceConfig, result: KernelResult, arrival_ns: np.ndarray
) -> list[tuple[int, str, str, dict[str, str], float, str]]:
    """Cumulative counters once a second, under the names and units that Triton exports."""
    rows: list[tuple[int, str, str, dict[str, str], float, str]] = []
    served = result.status == 0
    last_ns = int(result.end_ns.max(initial=0))
    grid_ns = np.arange(0, last_ns + 2 * int(SAMPLE_S * 1e9), int(SAMPLE_S * 1e9))
    for replica in range(service.replicas):
        mine = served & (result.replica == replica)
        labels = {"model": model, "endpoint": f"replica-{replica}"}
        order = np.argsort(result.end_ns[mine], kind="stable")
        end, start = result.end_ns[mine][order], result.start_ns[mine][order]
        size, queued = result.batch_size[mine][order], start - arrival_ns[mine][order]
        head = result.position[mine][order] == 0
        done = np.searchsorted(end, grid_ns, side="right")
        for name, weight, unit in (
            ("nv_inference_request_success", np.ones(len(end)), "count"),
            ("nv_inference_count", np.ones(len(end)), "count"),
            ("nv_inference_exec_count", head.astype(float), "count"),
            ("nv_inference_queue_duration_us", queued / 1e3, "us"),
            ("nv_inference_compute_infer_duration_us", (end - start) / 1e3, "us"),
        ):
            total = np.concatenate([[0.0], np.cumsum(weight)])[done]
            rows += [(int(t), "triton", name, labels, float(v), unit) for t, v in zip(grid_ns, total, strict=True)]
        for b in range(1, service.max_batch_size + 1):
            of_size = head & (size == b)
            by_size = {**labels, "batch_size": str(b)}
            for name, weight, unit in (
                ("batch_executions", of_size.astype(float), "count"),
                ("batch_compute_seconds", np.where(of_size, (end - start) / 1e9, 0.0), "s"),
            ):
                total = np.concatenate([[0.0], np.cumsum(weight)])[done]
                rows += [(int(t), "triton", name, by_size, float(v), unit) for t, v in zip(grid_ns, total, strict=True)]
        rows.append((0, "replica", "state", {"replica": f"replica-{replica}", "state": "ready"}, 1.0, "state"))
    return rows
