"""One service in KISim, its replicas ready from the start: Schedule + ServiceProfile + ServiceConfig + seed -> the logs
of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadgen.client_limits import ClientLimits
from loadgen.request_log import RequestLog
from loadgen.request_rows import refuse_too_many
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.sharing import shares_a_device
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.simulation.cluster.config import ClientBehaviour, ClusterConfig, GpuKind, NodePool
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.records import batch_log, request_log
from testbed.simulation.cluster.services import make_service, served_by
from testbed.simulation.cluster.traffic import ScheduledTraffic
from workloads.catalog import ServiceConfig
from workloads.errors import KisError

SAMPLE_S = 1.0  # spacing of simulated metric samples, as the real sampler's default
STEPS = 50  # of a run, after each of which it is told how far it is
DEVICE = "device"  # the one kind of it
AT_ONCE_S = 10.0  # of simulated time, after the traffic's end, until it is asked again whether something still waits

MetricRow = tuple[int, str, str, dict[str, str], float, str]


@dataclass(frozen=True)
class SimulatedRun:
    """The same three artefacts that a real run leaves."""

    requests: RequestLog
    metrics: MetricLog
    batches: BatchLog


def simulate(
    schedule: Schedule,
    profile: ServiceProfile,
    service: ServiceConfig,
    seed: int,
    client: ClientLimits | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> SimulatedRun:
    """Simulate one service from start to the last answer. The same arguments give the same bytes.

    All replicas are on one node, each with a device of its own; on one device together, if the profile's were and
    slowed each other. client: None: it waits for ever, and drops nothing. on_progress: share of the traffic's time.

    KisError if the service asks for larger batches than the profile knows, or for lengths that the schedule has not.
    """
    if service.length_buckets and schedule.tokens is None:
        raise KisError("the service pads to length_buckets, the traffic has no lengths: give `lengths`")
    refuse_too_many(schedule, profile.model, service.max_batch_size)
    refuse_too_many(schedule, profile.model, len(profile.service_time.mean_s), "the largest batch of its profile")
    shared = shares_a_device(profile, service.replicas)
    served = served_by(
        profile,
        DEVICE,
        service,
        replicas=service.replicas,
        max_replicas=service.replicas,
        balancer=service.balancer,
        latency_target_s=1.0,  # nobody asks
        client=ClientBehaviour() if client is None else ClientBehaviour(**client.model_dump()),
    )
    config = ClusterConfig(
        gpu_kinds={DEVICE: GpuKind(sharing="mps", shares=service.replicas) if shared else GpuKind()},
        pools=(NodePool(gpus=1 if shared else service.replicas, gpu_kind=DEVICE),),
        models=(served,),
        scrape_period_s=3600.0,  # nobody decides
    )
    traffic = ScheduledTraffic(schedule, [profile.model], service.length_buckets)
    sim = KISim(config, [make_service(0, served, DEVICE, profile)], traffic, seed=seed, keep_rows=True)
    for step in range(1, STEPS + 1):
        sim.advance(schedule.duration_s * step / STEPS)
        on_progress(step / STEPS)
    while sim.totals(profile.model).waiting:
        sim.advance(sim.now_s + AT_ONCE_S)
    provenance = {"simulated": True, "seed": seed, "profile_runs": list(profile.runs)}
    batches = batch_log(sim, provenance)
    return SimulatedRun(
        requests=request_log(sim, provenance),
        metrics=MetricLog.from_rows(_metric_rows(sim, batches, profile.model, service.max_batch_size), provenance),
        batches=batches,
    )


def _metric_rows(sim: KISim, log: BatchLog, model: str, largest: int) -> list[MetricRow]:
    """Counters of batches once a second, as Triton's statistics have them, and the replicas' states."""
    rows: list[MetricRow] = [
        (time_ns, "replica", "state", {"replica": f"pod-{pod}", "model": model, "state": state}, 1.0, "state")
        for time_ns, pod, state in sim.states
    ]
    batches = log.batches()
    grid_ns = np.arange(0, int(batches["end_ns"].max() if len(batches) else 0) + 2e9 * SAMPLE_S, 1e9 * SAMPLE_S)
    for pod in sim.pods:
        of_pod = batches[batches["replica"] == pod.number].sort_values("end_ns", kind="stable")
        size, end_ns = of_pod["batch_size"].to_numpy(), of_pod["end_ns"].to_numpy()
        took_s = (end_ns - of_pod["start_ns"].to_numpy()) / 1e9
        labels = {"model": model, "endpoint": f"pod-{pod.number}"}

        def add(
            name: str,
            labels: dict[str, str],
            weights: npt.NDArray[np.float64],
            unit: str,
            end_ns: npt.NDArray[np.int64] = end_ns,
        ) -> None:
            total = np.concatenate([[0.0], np.cumsum(weights)])[np.searchsorted(end_ns, grid_ns, side="right")]
            rows.extend((int(t), "triton", name, labels, float(v), unit) for t, v in zip(grid_ns, total, strict=True))

        add("nv_inference_count", labels, size.astype(float), "count")
        add("nv_inference_exec_count", labels, np.ones(len(size)), "count")
        for b in range(1, largest + 1):
            by_size = {**labels, "batch_size": str(b)}
            add("batch_executions", by_size, (size == b).astype(float), "count")
            add("batch_compute_seconds", by_size, np.where(size == b, took_s, 0.0), "s")
    return rows
