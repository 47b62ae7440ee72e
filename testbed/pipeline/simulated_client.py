"""A simulated client that is as patient as the real one: it gives up, and drops what would be too much.

`simulation.simulator` answers every request, however late: its servers know nothing of the client. Giving up changes
nothing for the server, so it is said afterwards; where the client would have dropped requests, the server would have
had fewer, and KISim, whose clients are in the loop, simulates the run instead.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadgen.client_limits import ClientLimits
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.sharing import shares_a_device
from testbed.pipeline.cluster_records import Observed, batch_log, request_log
from testbed.simulation.cluster.config import ClientBehaviour, ClusterConfig, GpuKind, NodePool, ServedModel
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import ScheduledTraffic
from testbed.simulation.simulator import SimulatedRun, simulate
from workloads.catalog import ServiceConfig

DEVICE = "device"
TAIL_S = 600.0  # after the last arrival: longer than any queue


def simulate_with_client(
    schedule: Schedule,
    profile: ServiceProfile,
    profile_file: Path,
    service: ServiceConfig,
    seed: int,
    client: ClientLimits | None,
) -> SimulatedRun:
    """One service under this traffic. client: None: it waits for ever, and drops nothing.

    Replicas that slow each other, on the one device that a calibration's replicas share, are simulated by KISim too.
    """
    if not shares_a_device(profile, service.replicas):
        run = simulate(schedule, profile, service, seed)
        if client is None:
            return run
        requests = given_up(run.requests, client.timeout_s)
        if most_in_flight(requests) <= client.max_in_flight:
            return replace(run, requests=requests)
    return _in_kisim(schedule, profile, profile_file, service, seed, client)


def given_up(requests: RequestLog, timeout_s: float) -> RequestLog:
    """The log as a client has it that waits timeout_s: later answers are timeouts at that moment."""
    late = requests.latency_s > timeout_s
    if not late.any():
        return requests
    frame = requests.frame.copy()
    given_up_ns = frame["scheduled_ns"].to_numpy() + round(timeout_s * 1e9)
    frame.loc[late, "completed_ns"] = pd.array(given_up_ns[late], dtype="Int64")
    frame.loc[late, "status"] = "timeout"
    return RequestLog(frame, requests.provenance)


def most_in_flight(requests: RequestLog) -> int:
    """Largest number of requests under way at any moment, the one that is being sent included."""
    sent_s: npt.NDArray[np.float64] = np.sort(requests.seconds("sent_ns"))
    sent_s = sent_s[np.isfinite(sent_s)]
    ends_s = np.sort(requests.seconds("completed_ns"))  # who has none is last, and under way for ever
    if not len(sent_s):
        return 0
    return int((np.arange(1, len(sent_s) + 1) - np.searchsorted(ends_s, sent_s, side="right")).max())


def _in_kisim(
    schedule: Schedule,
    profile: ServiceProfile,
    profile_file: Path,
    service: ServiceConfig,
    seed: int,
    client: ClientLimits | None,
) -> SimulatedRun:
    """On one node: all replicas on one device, with the interference that was measured, or each on one of its own."""
    shared = shares_a_device(profile, service.replicas)
    served = ServedModel(
        name=profile.model,
        profiles={DEVICE: profile_file},
        replicas=service.replicas,
        max_replicas=service.replicas,
        instances=service.instances,
        max_batch_size=service.max_batch_size,
        dynamic_batching=service.dynamic_batching,
        length_buckets=service.length_buckets,
        balancer=service.balancer,
        latency_target_s=1.0,  # nobody asks
        client=ClientBehaviour() if client is None else ClientBehaviour(**client.model_dump()),
    )
    config = ClusterConfig(
        gpu_kinds={DEVICE: GpuKind(sharing="mps", shares=service.replicas) if shared else GpuKind()},
        pools=(NodePool(gpus=1 if shared else service.replicas, gpu_kind=DEVICE),),
        models=(served,),
    )
    services = (make_service(0, served, DEVICE, profile),)
    sim = KISim(
        config, services, ScheduledTraffic(schedule, [profile.model], service.length_buckets), seed=seed, keep_rows=True
    )
    observed = Observed(sim)
    sim.advance(schedule.duration_s)
    observed.note()
    sim.advance(schedule.duration_s + TAIL_S)
    told = {"simulated": True, "seed": seed}
    return SimulatedRun(request_log(sim, told), observed.metrics(told), batch_log(sim, told))
