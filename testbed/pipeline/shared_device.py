"""Replicas that slow each other, on the one device that a calibration's replicas share: simulated by KISim.

`simulation.simulator` has replicas that do nothing to each other, which is what most calibrations find.
"""

from __future__ import annotations

from pathlib import Path

from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.pipeline.cluster_records import Observed, batch_log, request_log
from testbed.simulation.cluster.config import ClusterConfig, GpuKind, NodePool, ServedModel
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import ScheduledTraffic
from testbed.simulation.simulator import SimulatedRun
from workloads.catalog import ServiceConfig

DEVICE = "device"
TAIL_S = 600.0  # after the last arrival: longer than any queue


def simulate_shared(
    schedule: Schedule, profile: ServiceProfile, profile_file: Path, service: ServiceConfig, seed: int
) -> SimulatedRun:
    """All replicas on one device, with the interference that the profile measured. As `simulate` otherwise."""
    served = ServedModel(
        name=profile.model,
        profiles={DEVICE: profile_file},
        replicas=service.replicas,
        max_replicas=service.replicas,
        instances=service.instances,
        max_batch_size=service.max_batch_size,
        dynamic_batching=service.dynamic_batching,
        balancer=service.balancer,
        latency_target_s=1.0,  # nobody asks
    )
    config = ClusterConfig(
        gpu_kinds={DEVICE: GpuKind(sharing="mps", shares=service.replicas)},
        pools=(NodePool(gpus=1, gpu_kind=DEVICE),),
        models=(served,),
    )
    services = (make_service(0, served, DEVICE, profile),)
    sim = KISim(config, services, ScheduledTraffic(schedule, [profile.model]), seed=seed, keep_rows=True)
    observed = Observed(sim)
    sim.advance(schedule.duration_s)
    observed.note()
    sim.advance(schedule.duration_s + TAIL_S)
    told = {"simulated": True, "seed": seed}
    return SimulatedRun(request_log(sim, told), observed.metrics(told), batch_log(sim, told))
