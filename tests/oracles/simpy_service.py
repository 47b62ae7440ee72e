"""A service as SimPy processes that leaves the artefacts of a real run: a truth that is not our own simulator.

Its batches take what `Physics` says, which need not be anything that a ServiceProfile can say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.validity import Verdict
from testbed.calibration.evidence import Evidence
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.plan import burst_schedule
from testbed.run_dir import Device, RunManifest
from testbed.simulation.rules import BatchingRules
from tests.oracles.simpy_triton import ARRIVAL, Clock, Costs, Process, Replica, Request
from workloads.catalog import ServiceConfig

MODEL = "emulated"
SERVICE = ServiceConfig()
LARGEST = SERVICE.max_batch_size
SIGMA = 0.06
INTER_BATCH_GAP_S, INGRESS_DELAY_S, EGRESS_DELAY_S, PER_POSITION_S = 0.00015, 0.0002, 0.0004, 0.00005

MEAN_S = tuple(0.004 + 0.001 * size for size in range(1, LARGEST + 1))


class Physics(Costs):
    """Batches of 4 ms + 1 ms a request, lognormal with deviation .06: what a ServiceProfile can say exactly."""

    def __init__(self, seed: int) -> None:
        super().__init__([0.0, *(1e9 * one for one in MEAN_S)], [1.0], [1.0], 1, [0.0], [1e9 * INTER_BATCH_GAP_S])
        self.rng, self.batches = np.random.default_rng(seed), 0

    def duration_ns(self, batch: list[Request], now: int) -> int:
        self.batches += 1
        noise = math.exp(SIGMA * self.rng.standard_normal() - SIGMA**2 / 2)
        return round(self.service_ns[len(batch)] * noise * self.factor(len(batch)) + self.extra_ns_at(now))

    def factor(self, size: int) -> float:
        """On the time of this batch."""
        return 1.0

    def extra_ns_at(self, now: int) -> float:
        """What this batch takes more if it begins now."""
        return 0.0


class TwoModes(Physics):
    """Every twentieth batch takes three times as long."""

    def factor(self, size: int) -> float:
        return 3.0 if self.batches % 20 == 0 else 1.0


class Pauses(Physics):
    """The server stands still for 100 ms every 3 s on average, as for a garbage collection: a batch that begins then,
    or up to 5 ms before, goes on when it is over."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.pauses_ns = np.cumsum(self.rng.exponential(3e9, 1000) + 100e6)

    def extra_ns_at(self, now: int) -> float:
        first = int(np.searchsorted(self.pauses_ns, now - 100e6))
        return max(0.0, float(self.pauses_ns[first] + 100e6 - now)) if self.pauses_ns[first] <= now + 5e6 else 0.0


class Memory(Physics):
    """A batch of another size than the one before it takes 60 % longer."""

    last = 0

    def factor(self, size: int) -> float:
        changed, self.last = size != self.last, size
        return 1.6 if changed else 1.0


def run_of(physics: Physics, schedule: Schedule, run_id: str, *, held_out: bool = False, seed: int = 1) -> Evidence:
    """One replica under that traffic, from the first request to the last answer."""
    rng = np.random.default_rng((seed, len(schedule)))
    n = len(schedule)
    ingress_delay_ns = np.rint(1e9 * rng.gamma(4, INGRESS_DELAY_S / 4, n)).astype(np.int64)
    egress_delay_ns = 1e9 * rng.gamma(4, EGRESS_DELAY_S / 4, n)
    clock = Clock()
    left, done = n, clock.event()

    def answered(batch: list[Request]) -> None:
        nonlocal left
        left -= len(batch)
        if not left:
            done.succeed()

    replica = Replica(clock, 0, BatchingRules(max_batch_size=LARGEST), physics, answered)
    requests = [Request(i, 0) for i in range(n)]

    def deliver(request: Request) -> None:
        request.arrival_ns = clock.now
        replica.enqueue(request)

    def client() -> Process:
        for request, time in zip(requests, schedule.scheduled_ns.tolist(), strict=True):
            yield clock.after(time - clock.now, ARRIVAL)
            event = clock.after(int(ingress_delay_ns[request.number]), ARRIVAL)
            event.callbacks.append(lambda _, request=request: deliver(request))

    clock.process(client())
    clock.run(until=done)
    rows = pd.DataFrame(
        {
            "request_id": np.arange(n),
            "replica": 0,
            **{name: [getattr(one, name) for one in requests] for name in ("instance", "start_ns", "end_ns")},
            **{name: [getattr(one, name) for one in requests] for name in ("batch_size", "position")},
        }
    ).astype("int64")
    back_ns = egress_delay_ns + 1e9 * PER_POSITION_S * rows["position"].to_numpy()
    completed_ns = rows["end_ns"].to_numpy() + np.rint(back_ns).astype(np.int64)
    batches = rows.sort_values(["start_ns", "instance", "position"], ignore_index=True)
    manifest = RunManifest(
        run_id=run_id,
        kind="real",
        state="complete",
        model=MODEL,
        weights="none",
        device=Device(kind="emulated", name="SimPy"),
        service=SERVICE,
        pattern=str(schedule.provenance["pattern"]),
        seed=seed,
        duration_s=schedule.duration_s,
        held_out=held_out,
        verdict=Verdict(valid=True, figures={}),
    )
    return Evidence(manifest, schedule, _requests(schedule, completed_ns), _metrics(rows), BatchLog(batches))


def _requests(schedule: Schedule, completed_ns: np.ndarray) -> RequestLog:
    frame = pd.DataFrame(
        {
            "request_id": np.arange(len(schedule)),
            "model": MODEL,
            "endpoint": "one",
            "scheduled_ns": schedule.scheduled_ns,
            "sent_ns": pd.array(schedule.scheduled_ns, "Int64"),
            "completed_ns": pd.array(completed_ns, "Int64"),
            "status": "ok",
            "detail": pd.array([None] * len(schedule), dtype="str"),
        }
    )
    return RequestLog(frame)


def _metrics(rows: pd.DataFrame) -> MetricLog:
    """Triton's counters by batch size, before the first batch and after the last one."""
    batches = rows[rows["position"] == 0]
    took_s = (batches["end_ns"] - batches["start_ns"]) / 1e9
    end_ns = int(rows["end_ns"].max()) + 1
    samples = []
    for size in range(1, LARGEST + 1):
        labels = {"model": MODEL, "endpoint": "one", "batch_size": str(size)}
        of_size = batches["batch_size"] == size
        for name, total, unit in (
            ("batch_executions", float(of_size.sum()), "count"),
            ("batch_compute_seconds", float(took_s[of_size].sum()), "s"),
        ):
            samples += [(0, "triton", name, labels, 0.0, unit), (end_ns, "triton", name, labels, total, unit)]
    return MetricLog.from_rows(samples)


@dataclass(frozen=True)
class Campaign:
    """What a calibration of such a service measures: bursts through every batch size, then constant rates."""

    physics: Callable[[int], Physics]
    duration_s: float = 30.0
    rates: tuple[float, ...] = (40.0, 250.0, 450.0, 600.0)

    def fitted(self) -> list[Evidence]:
        schedules = [burst_schedule(MODEL, SERVICE, 0.006, 40)]
        for number, rate in enumerate(self.rates):
            pattern = make_pattern("constant", rate=rate)
            schedules.append(poisson_schedule(pattern, self.duration_s, number, MODEL))
        return [
            run_of(self.physics(100 + k), schedule, f"fitted-{k}", seed=100 + k) for k, schedule in enumerate(schedules)
        ]

    def held_out(self) -> Evidence:
        """Traffic that is not fitted on."""
        pattern = make_pattern("periodic", mean=350.0, amplitude=150.0, period_s=10.0)
        schedule = poisson_schedule(pattern, self.duration_s, 77, MODEL)
        return run_of(self.physics(7), schedule, "held-out", held_out=True, seed=7)
