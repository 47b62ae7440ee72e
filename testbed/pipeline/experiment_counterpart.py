"""The simulated half of an experiment: the same arrivals, policy, clock and faults as a real run had, in KISim."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadgen.artifact import ArtifactError, read_json, read_json_lines
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.adaptation.adaptive import Adaptive, make_adaptive
from testbed.adaptation.journal import plain
from testbed.adaptation.judge import Inline
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.simulated import Step
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import Observed
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.counterpart import counterpart_manifest, counterpart_seeds, middle_of
from testbed.pipeline.experiment_config import ExperimentConfig, Which, real_run_id
from testbed.pipeline.fault_injection import read_faults
from testbed.pipeline.scalers import SCALER
from testbed.reporting.experiment import cost_of
from testbed.run_dir import RunDir
from testbed.simulation.cluster.records import batch_log, request_log
from testbed.simulation.cluster.services import SimulatedService, other_runs, read_services
from workloads.files import write_json

BEFORE_S = 30.0
CLOCKS = ["scheduled_ns", "sent_ns", "completed_ns", "start_ns", "end_ns", "time_ns"]  # columns on a run's clock
SEEN_LATE_S = 0.3  # an HPA's change, as sampled: at most so long after it
AGAIN = "restore it, or make the run again"
ADAPTATION = "adaptation.json"  # of a run whose policy is adapted: its steps, on the clock of the traffic
TIMES = ("change_s", "since_s", "until_s")  # in a step's figures


class ScalerClock(NamedTuple):
    """When a scaler decides, on the clock of its traffic: first at first_s (before 0), then each period."""

    first_s: float
    own_scrapes: bool  # made when it decides, and none before its first decision


class Simulated(NamedTuple):
    """What one simulated run leaves, on the clock of its traffic."""

    requests: RequestLog
    batches: BatchLog
    metrics: MetricLog
    steps: list[Step]
    adaptation: list[dict[str, Any]] | None  # None: the policy is not adapted


def real_folder(folder: Path, which: Which) -> Path:
    """Of one real run: traffic, policy, repeat from 1."""
    return folder / "runs" / real_run_id(which)


def counterpart_folder(folder: Path, which: Which) -> Path:
    """Of the simulated run of the same."""
    return folder / "runs" / "{}-{}-sim-{}".format(*which)


def policy_of(config: ExperimentConfig, policy: str, answer_after: int = 1) -> Policy:
    """For KISim. answer_after: how often an adaptation asks its bench until that has thought."""
    built = build_policy(config.policies[policy], config.cluster.models[0].max_replicas, None)
    how = config.adapted.get(policy)
    return built if how is None else make_adaptive(built, config.cluster, how, None, Inline(answer_after), "KISim")


def simulate_pair(config: ExperimentConfig, folder: Path, which: Which) -> None:
    """Simulate the arrivals of a real run with its scaler's clock; the run with the middle P95 is written.

    draws.json: as many runs of the service as it is on average, whose means are what is predicted; and as many of other
    runs of it (another_run), whose range is an interval for the next real run.
    """
    traffic, policy, _ = which
    cluster = config.cluster_of(traffic)
    services = read_services(cluster)
    real = RunDir(real_folder(folder, which))
    schedule = Schedule.read(real.schedule)
    start = real.manifest.service.replicas
    pair = config.simulated(traffic, policy, start, schedule.duration_s, read_faults(real.path))
    period_s, target_s = policy_of(config, policy).period_s, cluster.models[0].latency_target_s
    answer_after = max(1, round(deliberation_s(real.path, schedule.duration_s) / period_s))
    clock = scaler_clock(real.path, period_s, config.sample_period_s)
    seeds = counterpart_seeds(config.seed, 2 * config.simulated_runs)
    runs, costs = [], []
    for number, seed in enumerate(seeds):
        another = number >= config.simulated_runs
        drawn = other_runs(services, np.random.default_rng(np.random.SeedSequence((seed, 1)))) if another else services
        decides = policy_of(config, policy, answer_after)  # it remembers what it did
        simulated = _simulate(pair, drawn, schedule, seed, decides, clock)
        cost = cost_of(simulated.requests, simulated.metrics, schedule.duration_s, len(simulated.steps), target_s)
        costs.append(cost._asdict() | {"seed": seed, "another_run": another})
        runs += [] if another else [simulated]
    shown = runs[middle_of([run.requests for run in runs])]
    path = counterpart_folder(folder, which)
    if path.exists():
        shutil.rmtree(path)  # simulated anew, by the code and the profile of today
    made = RunDir(path).create()
    schedule.write(made.schedule)
    shown.requests.write(made.requests)
    shown.batches.write(made.batches)
    shown.metrics.write(made.metrics)
    write_steps(path, shown.steps)
    if shown.adaptation is not None:
        write_adaptation(path, shown.adaptation)
    write_json(path / "draws.json", costs)
    profile = next(iter(cluster.models[0].profiles.values()))
    provenance = (
        "at any time before the traffic" if clock is None else f"{clock.first_s:+.2f} s from it, as in the real run"
    )
    manifest = counterpart_manifest(real.manifest, path.name, config.simulated_runs)
    notes = (*manifest.notes, f"the policy decides first {provenance}")
    made.write_manifest(manifest.model_copy(update={"profile": str(profile), "notes": notes}))


def scaler_clock(path: Path, period_s: float, sample_period_s: float) -> ScalerClock | None:
    """Of a real run, from its scaler's lines, or else from when it was first seen and its changes; None: not known.

    A change of an HPA is seen up to a sample late: the earliest within the period is nearest to its clock, and after it
    by the mean of the least delay of so many.
    """
    log, scaler = path / "controller.jsonl", path / SCALER
    start_s = (RunDir(path).manifest.start_unix_ns or 0) / 1e9
    if log.exists():
        turns = read_json_lines(log, AGAIN)
        return ScalerClock(_number(turns[0], "time_s", log) - start_s, own_scrapes=True) if turns else None
    if not scaler.exists():
        return None
    first_s = _number(read_json(scaler, AGAIN), "first_seen_unix_s", scaler) - start_s
    decisions = path / "decisions.json"
    times = np.array([_number(step, "time_s", decisions) for step in read_json(decisions, AGAIN)])
    if len(times):
        middle = np.angle(np.exp(2j * np.pi * times / period_s).mean()) / (2 * np.pi)  # on the period's circle
        phase = middle + np.min(np.mod(times / period_s - middle + 0.5, 1.0) - 0.5)
        phase -= sample_period_s / (len(times) + 1) / period_s
        latest_s = first_s + SEEN_LATE_S
        first_s = latest_s - period_s * np.mod(latest_s / period_s - phase, 1.0)
    return ScalerClock(float(first_s), own_scrapes=False)


def _number(given: Any, name: str, file: Path) -> float:
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, int | float):
        raise ArtifactError(f"{file}: {name} is no number: {AGAIN}")
    return float(value)


def _simulate(
    pair: ClusterRunConfig,
    services: Sequence[SimulatedService],
    schedule: Schedule,
    seed: int,
    policy: Policy,
    clock: ScalerClock | None,
) -> Simulated:
    """One run with a seed of its own, until every request has ended. clock: of the policy; None: any.

    Pods and scaler were there before the traffic: the simulation begins idle, about BEFORE_S earlier, and its clock is
    put right afterwards. Not exactly BEFORE_S: scrapes are at no particular time of the traffic, unless the scaler
    makes them when it decides.
    """
    rng, period_s = np.random.default_rng(seed), policy.period_s
    clock = clock or ScalerClock(-float(rng.uniform(0.0, period_s)), own_scrapes=False)
    scrape_s = pair.cluster.scrape_period_s
    before_s = max(BEFORE_S, -clock.first_s + scrape_s)
    before_s += float(np.mod(-before_s - clock.first_s, scrape_s) if clock.own_scrapes else rng.uniform(0.0, scrape_s))
    before_ns = round(before_s * 1e9)
    first_s = before_s + clock.first_s
    since_s = first_s - scrape_s / 2 if clock.own_scrapes else 0.0
    late = Schedule(schedule.scheduled_ns + before_ns, schedule.model, schedule.duration_s + before_s)
    faults = tuple(fault.model_copy(update={"at_s": fault.at_s + before_s}) for fault in pair.faults)
    pair = pair.model_copy(update={"duration_s": pair.duration_s + before_s, "faults": faults})
    run = prepare(
        pair,
        services,
        seed,
        keep_rows=True,
        schedule=late,
        phase=first_s / period_s,
        since_s=since_s,
        policies={pair.cluster.models[0].name: policy},
    )
    observed = Observed(run.sim)
    advance(pair, run, observed.note, lambda share: None)
    run.sim.advance(pair.duration_s + pair.cluster.models[0].client.timeout_s)
    provenance: dict[str, Any] = {"simulated": True, "seed": seed}
    requests, batches, metrics = (
        request_log(run.sim, provenance),
        batch_log(run.sim, provenance),
        observed.metrics(provenance),
    )
    for frame in (requests.frame, batches.frame, metrics.frame):
        for column in frame.columns.intersection(CLOCKS):
            frame[column] -= before_ns
    steps = [step._replace(time_s=step.time_s - before_s) for step in run.steps]
    adaptation = None
    if isinstance(policy, Adaptive):
        adaptation = on_traffic_clock([entry._asdict() for entry in policy.journal.entries], before_s)
    return Simulated(requests, batches, metrics, steps, adaptation)


def deliberation_s(real: Path, end_s: float) -> float:
    """Seconds that a real run's bench thought over the first candidates, or until end_s, if it did not come to an
    answer; 0: there were none."""
    file = real / ADAPTATION
    steps = read_json(file, AGAIN) if file.exists() else []
    begun_s = next((step["time_s"] for step in steps if step["state"] == "RECALIBRATING"), None)
    if begun_s is None:
        return 0.0
    later = (step["time_s"] for step in steps if step["time_s"] >= begun_s and step["state"] in ("SHADOW", "KEPT"))
    return float(next(later, end_s) - begun_s)


def on_traffic_clock(steps: Iterable[Mapping[str, Any]], start_s: float) -> list[dict[str, Any]]:
    """Steps of an adaptation with every time on the traffic's clock; start_s: its start on the clock of the steps."""
    return [moved(step, start_s, ("time_s",)) for step in steps]


def moved(provenance: Mapping[str, Any], by_s: float, names: Sequence[str] = TIMES) -> dict[str, Any]:
    """The same with these times earlier by by_s, and TIMES in what is nested."""
    return {
        name: value - by_s
        if name in names and value is not None
        else (moved(value, by_s) if isinstance(value, Mapping) else value)
        for name, value in provenance.items()
    }


def write_adaptation(path: Path, steps: Sequence[Mapping[str, Any]]) -> None:
    """ADAPTATION of a run."""
    write_json(path / ADAPTATION, plain(list(steps)))


def write_steps(path: Path, steps: Sequence[Step]) -> None:
    """decisions.json of a run."""
    write_json(path / "decisions.json", [step._asdict() for step in steps])
