"""The real runs of a calibration: a first look at a service, the runs that are fitted on, and those that are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadgen.lengths import all_of, with_lengths
from loadgen.patterns import Constant, find_pattern
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.validity import ValidityLimits, commonest_error
from testbed.calibration.evidence import CAPACITY, LENGTH, Evidence
from testbed.calibration.service_time import ENOUGH_BATCHES, counts_by_size, curve_by_size
from testbed.config import CalibrateConfig, StudyConfig
from testbed.errors import CalibrationError
from testbed.pipeline.made_runs import ATTEMPTS, MadeRuns, Reporter
from testbed.pipeline.plan import (
    EVERY_SIZE,
    burst_schedule,
    capacity_schedule,
    fit_run_id,
    held_out_run_id,
    largest_schedule,
    lone_schedule,
    seed_of,
)
from testbed.pipeline.target import Target
from testbed.pipeline.time_limit import TimeLimit
from testbed.pipeline.traffic import Identity
from testbed.run_dir import RunDir
from workloads.catalog import CATALOG, ServiceConfig

LONE_GAPS_S = (0.1, 0.5, 2.5)  # until a request has ended before the next one comes
LARGEST_REPEATS = 5
ANSWERED_LONE = 0.5  # of lone requests: a model that fails more of them fails
# Of runs for the service time alone: when their requests come does not matter.
WHENEVER = ValidityLimits(lag_p99_s=3600, late_s=3600, delivered_share=0.5, client_cpu_share=10)
MOST_CAPACITY_RUNS = 4
SHORTENED = "shortened for the campaign's time limit"  # begins the note of such a run


@dataclass(frozen=True)
class Campaign:
    """One calibration's settings, the runs in its folder, and the time that it has."""

    config: CalibrateConfig
    runs: MadeRuns
    time: TimeLimit

    @property
    def folder(self) -> Path:
        """Its results folder."""
        return self.runs.folder

    @property
    def reporter(self) -> Reporter:
        """Who tells the user."""
        return self.runs.reporter


def first_runs(campaign: Campaign, study: StudyConfig, aim: Target) -> RunDir:
    """Every batch size, a few times: what the loads of all later runs are set from. The run of bursts.

    CalibrationError if the model is too slow for this plan.
    """
    lone_s = None
    for gap_s in lone_gaps_s(aim.model, aim.device.kind):
        schedule = lone_schedule(study.model, 8, gap_s)
        identity = Identity(f"{study.model}-lone-{gap_s:g}s", "lone", {"gap_s": gap_s}, 0, percentile=None)
        run = _made(campaign, aim, schedule, identity, attempts=1)  # a first guess: too short for a verdict
        latency_s = Evidence.load(run).requests.latency_s
        if refusal := commonest_error(Evidence.load(run).requests, ANSWERED_LONE):
            raise CalibrationError(
                f"{study.model} fails lone requests: {refusal}: give data that it takes (--input, --shape); a "
                "model whose GPU has failed needs its server started again"
            )
        if np.isfinite(latency_s).sum() >= 4 and np.nanmedian(latency_s) < 0.8 * gap_s:
            lone_s = float(np.nanmedian(latency_s))
            break
    if lone_s is None:
        raise CalibrationError(
            f"a lone request to {study.model} takes over {0.8 * LONE_GAPS_S[-1]:g} s: too slow for this testbed's plan"
        )
    largest_s = _largest_batch_s(campaign, study, aim, lone_s)
    schedule = burst_schedule(study.model, aim.service, lone_s, study.fit.burst_repeats, largest_s)
    identity = Identity(bursts_id(study), "bursts", {"repeats": study.fit.burst_repeats}, 0, percentile=None)
    return _made(campaign, aim, schedule, identity)


def bursts_id(study: StudyConfig) -> str:
    """Name of the run that ends the first look."""
    return f"{study.model}-bursts"


def _largest_batch_s(campaign: Campaign, study: StudyConfig, aim: Target, lone_s: float) -> float:
    """Seconds that the largest batch takes at most; infinite where it is so small that lone requests tell enough."""
    if aim.service.max_batch_size <= EVERY_SIZE:
        return np.inf
    schedule = largest_schedule(study.model, aim.service, lone_s, LARGEST_REPEATS)
    identity = Identity(f"{study.model}-largest", "largest", {"repeats": LARGEST_REPEATS}, 0, percentile=None)
    latency_s = Evidence.load(_made(campaign, aim, schedule, identity, attempts=1)).requests.latency_s
    last_s = np.nan_to_num(latency_s, nan=np.inf).reshape(LARGEST_REPEATS, -1).max(axis=1)
    return float(np.median(last_s))  # with the request before it


def capacity_runs(campaign: Campaign, study: StudyConfig, aim: Target, bursts: RunDir) -> list[RunDir]:
    """More batches of the size that decides the capacity, until its time is known well or the plan's seconds are over.

    How well it is known is estimated anew after each run, so runs that differ from each other ask for more of them.
    """
    runs, left_s = [bursts], study.fit.capacity_s
    for number in range(1, MOST_CAPACITY_RUNS + 1):
        evidence = [Evidence.load(run) for run in runs]
        curve = curve_by_size(evidence, aim.service.max_batch_size)
        sizes = np.arange(1, _largest(aim.service) + 1)
        size = int(np.argmax(sizes / curve.mean_s[: len(sizes)])) + 1
        batch_s, known = float(curve.mean_s[size - 1]), float(curve.std_s[size - 1] / curve.mean_s[size - 1])
        if known <= study.fit.precision:
            break
        have = int(counts_by_size(evidence, size)[0][:, -1].sum())
        wanted = int(np.ceil(max(1, have) * ((known / study.fit.precision) ** 2 - 1)))  # if chance alone is to blame
        batches = min(wanted, int(left_s / (MOST_CAPACITY_RUNS + 1 - number) * aim.service.instances / batch_s))
        if batches < ENOUGH_BATCHES:
            break
        campaign.reporter.phase(f"{study.model}: a batch of {size} is known to {known:.1%}, {batches} more of them")
        run_id = f"{study.model}-{CAPACITY}-{number}"
        schedule = capacity_schedule(study.model, aim.service, size, batch_s, batches)
        parameters = {"batch_size": size, "batches": batches}
        identity = Identity(run_id, CAPACITY, parameters, 0, percentile=None, limits=WHENEVER)
        runs.append(_made(campaign, aim, schedule, identity))
        left_s -= schedule.duration_s
    return runs[1:]


def length_runs(campaign: Campaign, study: StudyConfig, aim: Target, bursts: RunDir) -> list[RunDir]:
    """The bursts once more for each shorter length bucket, all requests of that length."""
    schedule, runs = Schedule.read(bursts.schedule), []
    for tokens in aim.service.length_buckets[:-1]:
        identity = Identity(
            f"{study.model}-{LENGTH}-{tokens}", LENGTH, {"tokens": tokens}, 0, percentile=None, limits=WHENEVER
        )
        runs.append(_made(campaign, aim, all_of(schedule, tokens), identity))
    return runs


def _largest(service: ServiceConfig) -> int:
    """Batch size that the service can have."""
    return service.max_batch_size if service.dynamic_batching is not None else 1


def lone_gaps_s(model: str, device: str) -> tuple[float, ...]:
    """Gaps between lone requests, to be tried in turn; those that a CPU is not expected to keep are left out."""
    expected_s = CATALOG[model].targets.cpu_s if device == "cpu" and model in CATALOG else 0.0
    return tuple(gap_s for gap_s in LONE_GAPS_S if gap_s >= expected_s / 2)


def fit_run(
    campaign: Campaign, study: StudyConfig, aim: Target, load: float, capacity: float, most_rps: float = math.inf
) -> RunDir:
    """A run that is fitted on, at a constant rate: `load` times the capacity, at most most_rps."""
    rate = min(load * capacity, most_rps)
    run_id = fit_run_id(study.model, aim.service, load)
    seed = seed_of(campaign.config.seed, run_id)
    wanted_s = max(study.fit.duration_s, study.fit.requests / rate)
    duration_s, notes = _length(campaign, run_id, wanted_s, study.fit.duration_s)
    schedule = poisson_schedule(Constant(rate=rate), duration_s, seed, study.model)
    identity = Identity(run_id, "constant", {"rate": rate}, seed, percentile=None, notes=notes)
    return _made(campaign, aim, schedule, identity)


def held_out_runs(campaign: Campaign, study: StudyConfig, aim: Target, capacity: float, repeat: int) -> list[RunDir]:
    """One repeat of all patterns: a slow phase of the machine does not hit every repeat of one pattern."""
    plan, runs = study.held_out, []
    for name in plan.patterns:
        peak_rps = plan.peak_load * capacity
        run_id, first_id = (held_out_run_id(study.model, aim.service, name, number) for number in (repeat, 0))
        seed = seed_of(campaign.config.seed, first_id)
        wanted_s = max(plan.duration_s, 1.05 * plan.requests / _mean_rps(name, peak_rps, seed))
        # All repeats have one schedule, so they are as long as the first one.
        duration_s, notes = _length(campaign, first_id, wanted_s, plan.duration_s)
        pattern = find_pattern(name).fitted(peak_rps, duration_s, seed)
        schedule = poisson_schedule(pattern, duration_s, seed, study.model)
        if study.lengths is not None:
            schedule = with_lengths(schedule, study.lengths, seed)
        if study.batch is not None:
            schedule = with_rows(schedule, study.batch, seed)
        identity = Identity(run_id, name, pattern.parameters(), seed, repeat=repeat, held_out=True, notes=notes)
        runs.append(_made(campaign, aim, schedule, identity))
    return runs


def _mean_rps(name: str, peak_rps: float, seed: int) -> float:
    """Of a held-out pattern, whatever its length."""
    unit = find_pattern(name).fitted(peak_rps, 1.0, seed)
    return float(unit.rate_rps(np.linspace(0.0, 1.0, 2000, endpoint=False)).mean())


def _length(campaign: Campaign, run_id: str, wanted_s: float, least_s: float) -> tuple[float, tuple[str, ...]]:
    """How long a run is, and the note that says so if it is shorter than wanted. One that is there stays as it is."""
    before = RunDir(campaign.runs.run_folder(run_id))
    if before.manifest_file.exists():
        shortened = tuple(note for note in before.manifest.notes if note.startswith(SHORTENED))
        return (before.manifest.duration_s if shortened else wanted_s), shortened
    length_s = campaign.time.length_s(wanted_s, least_s)
    if length_s >= wanted_s:
        return wanted_s, ()
    note = f"{SHORTENED} ({campaign.time.limit_s:g} s): {length_s:.0f} s instead of {wanted_s:.0f} s"
    campaign.reporter.phase(f"{run_id} is {note}")
    return length_s, (note,)


def _made(campaign: Campaign, aim: Target, schedule: Schedule, identity: Identity, attempts: int = ATTEMPTS) -> RunDir:
    """The run of that name: kept if it is complete, else made; made again if it was INVALID.

    Where requests differ in length and the schedule does not say how long they are, they are as long as can be.
    """
    if aim.service.length_buckets and schedule.tokens is None:
        schedule = all_of(schedule, aim.service.length_buckets[-1])
    campaign.time.passed(identity.run_id)
    kept = campaign.runs.kept(identity.run_id, schedule, aim.service, aim, attempts=attempts)
    return kept or campaign.runs.make(aim, schedule, identity, attempts)
