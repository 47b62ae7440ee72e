"""An experiment: every traffic under every policy, on a real deployment, and in KISim; then both beside each other.

Files in results/<name>/: experiment.json (its configuration), runs/<traffic>-<policy>-real-<k>/ and -sim/ (run folders
with decisions.json beside the usual files), pairs.json, and the report. A run that is complete is not made again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kubernetes import client

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.simulated import Step
from testbed.errors import ClusterError, ConfigError
from testbed.localcluster import binaries
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.calibrate import Narrator
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import Observed, batch_log, request_log
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.real_run import run_real
from testbed.pipeline.scalers import change_reasons, remove_leftovers, scaled_by
from testbed.pipeline.target import pods_of
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.pipeline.twin import middle_of, twin_manifest, twin_seeds
from testbed.reporting.experiment import cost_of
from testbed.reporting.experiment_report import write_experiment_report
from testbed.run_dir import RunDir
from testbed.serving.kubernetes import KubernetesService
from testbed.simulation.cluster.services import Service, read_services
from workloads.catalog import ServiceConfig

BEFORE_S = 30.0
CLOCKS = ["scheduled_ns", "sent_ns", "completed_ns", "start_ns", "end_ns", "time_ns"]  # columns on a run's clock
REASON_S = 3.0  # a scaler's words and the change that we saw are at most so far apart


class Simulated(NamedTuple):
    """What one simulated run leaves, on the clock of its traffic."""

    requests: RequestLog
    batches: BatchLog
    metrics: MetricLog
    steps: list[Step]


def run_experiment(
    config: ExperimentConfig, folder: Path, api: client.ApiClient, kubeconfig: Path | None, narrator: Narrator
) -> Path:
    """Run what is not there yet, simulate, and write the report; returns its path."""
    services = read_services(config.cluster)
    for settings in config.policies.values():
        build_policy(settings, config.cluster.models[0].max_replicas, None)  # what is wrong is told before the runs
    _begin(config, folder)
    remove_leftovers(api, config.real.namespace)
    if config.real.kustomization is not None:
        apply(config.real.kustomization, config.real.namespace, kubeconfig)
    for traffic in config.traffic:
        for policy in config.policies:
            for repeat in range(1, config.repeats + 1):
                _real_once(config, folder, (traffic, policy, repeat), api, kubeconfig, narrator)
            narrator.phase(f"simulate {traffic} under {policy}")
            simulate_pair(config, services, folder, traffic, policy)
    return write_experiment_report(folder)


def _begin(config: ExperimentConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file, text = folder / "experiment.json", config.model_dump_json(indent=2) + "\n"
    if file.exists() and file.read_text() != text:
        raise ConfigError(f"{file} is of another experiment: choose another folder, or give that configuration")
    file.write_text(text)


def apply(kustomization: Path, namespace: str, kubeconfig: Path | None) -> None:
    """kubectl apply -k; ClusterError with what it said."""
    ours = binaries.folder() / "kubectl"  # that the local cluster was built with
    program = shutil.which("kubectl") or (str(ours) if ours.exists() else None)
    if program is None:
        raise ClusterError(
            "no kubectl on PATH: install it, or apply the manifests yourself and leave out kustomization"
        )
    command = [program, "apply", "--namespace", namespace, "-k", str(kustomization)]
    command += [] if kubeconfig is None else [f"--kubeconfig={kubeconfig}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubectl apply -k {kustomization}: {' '.join(done.stderr.split())}")


def real_folder(folder: Path, traffic: str, policy: str, repeat: int) -> Path:
    """Of one real run."""
    return folder / "runs" / f"{traffic}-{policy}-real-{repeat}"


def _real_once(
    config: ExperimentConfig,
    folder: Path,
    which: tuple[str, str, int],
    api: client.ApiClient,
    kubeconfig: Path | None,
    narrator: Narrator,
) -> None:
    """One real run, unless it is there; what an interrupted one left is removed."""
    traffic, policy, repeat = which
    path = real_folder(folder, traffic, policy, repeat)
    if (path / "decisions.json").exists():
        return
    if path.exists():
        shutil.rmtree(path)
    schedule = make_schedule(config.traffic[traffic], config.model)
    start, real = config.start_replicas(policy), config.real
    narrator.phase(f"{path.name}: {start} pods, {len(schedule)} requests in {schedule.duration_s:g} s")
    path.mkdir(parents=True)
    with KubernetesService(api, real.namespace, real.deployment, path / "raw") as service:
        service.scale(start)
        service.wait_settled(start, real.ready_s)
        target = pods_of(service, f"{real.namespace}/{real.deployment}", config.model, start)
        refuse_other_service(config, target.service)
        balanced = target.service.model_copy(update={"balancer": config.cluster.models[0].balancer})
        target = replace(target, service=balanced)
        identity = traffic_identity(path.name, config.traffic[traffic])
        identity = replace(identity, repeat=repeat - 1, held_out=True)
        with scaled_by(config, policy, api, kubeconfig, path):
            run = run_real(target, schedule, path, identity, config.client, config.sample_period_s, narrator.progress)
            reasons = change_reasons(config, api, path)
    steps = decisions_of(
        MetricLog.read(run.metrics), config.model, start, (run.manifest.start_unix_ns or 0) / 1e9, reasons
    )
    _write_steps(path, steps)


def refuse_other_service(config: ExperimentConfig, found: ServiceConfig) -> None:
    """ConfigError if the pods serve otherwise than KISim is told."""
    served = config.cluster.models[0]
    for name in ("instances", "max_batch_size", "dynamic_batching"):
        told, real = getattr(served, name), getattr(found, name)
        if told != real:
            raise ConfigError(f"cluster.models: {name} is {told}, the pods say {real}: make them agree")


def decisions_of(
    metrics: MetricLog, model: str, start: int, start_unix_s: float, reasons: Sequence[tuple[float, str]]
) -> list[Step]:
    """Changes of the number of replicas that was asked for, as sampled, each with the words nearest to it in time."""
    rows = metrics.select("deployment", "spec_replicas", model=model).sort_values("time_s")
    steps, before = [], start
    for time_s, value in zip(rows["time_s"], rows["value"], strict=True):
        if int(value) != before:
            near = [(abs(at - start_unix_s - time_s), text) for at, text in reasons]
            near = [one for one in near if one[0] <= REASON_S]
            steps.append(Step(float(time_s), model, before, int(value), min(near)[1] if near else ""))
            before = int(value)
    return steps


def simulate_pair(
    config: ExperimentConfig, services: Sequence[Service], folder: Path, traffic: str, policy: str
) -> None:
    """Simulate the arrivals of the pair's first real run; the run with the middle P95 is written."""
    real = RunDir(real_folder(folder, traffic, policy, 1))
    schedule = Schedule.read(real.schedule)
    pair = config.simulated(traffic, policy, schedule.duration_s)
    built = build_policy(config.policies[policy], config.cluster.models[0].max_replicas, None)
    phase = clock_phase(real.path, built.period_s)
    seeds = twin_seeds(config.seed, config.simulated_runs)
    runs = [_simulate(pair, services, schedule, seed, built.period_s, phase) for seed in seeds]
    shown = runs[middle_of([one.requests for one in runs])]
    path = folder / "runs" / f"{traffic}-{policy}-sim"
    if path.exists():
        shutil.rmtree(path)  # simulated anew, by the code and the profile of today
    made = RunDir(path).create()
    schedule.write(made.schedule)
    shown.requests.write(made.requests)
    shown.batches.write(made.batches)
    shown.metrics.write(made.metrics)
    _write_steps(path, shown.steps)
    target_s = config.cluster.models[0].latency_target_s
    costs = [
        cost_of(one.requests, one.metrics, schedule.duration_s, len(one.steps), target_s)._asdict() | {"seed": seed}
        for one, seed in zip(runs, seeds, strict=True)
    ]
    (path / "draws.json").write_text(json.dumps(costs, indent=2) + "\n")
    profile = next(iter(config.cluster.models[0].profiles.values()))
    told = "at any phase" if phase is None else f"{phase * built.period_s:.2f} s after the start, as in the real run"
    manifest = twin_manifest(real.manifest, path.name, config.simulated_runs)
    notes = (*manifest.notes, f"the policy's clock: first {told}")
    made.write_manifest(manifest.model_copy(update={"profile": str(profile), "notes": notes}))


def clock_phase(path: Path, period_s: float) -> float | None:
    """The phase (see PolicyRun) of the scaler of a real run, from its lines or else its changes; None: it had none.

    A change of an HPA is seen up to a sample late: the earliest within the period is nearest to its clock.
    """
    log = path / "controller.jsonl"
    if log.exists():
        start_s = (RunDir(path).manifest.start_unix_ns or 0) / 1e9
        turns = [json.loads(line)["time_s"] for line in log.read_text().splitlines() if line.endswith("}")]
        times = np.array([at - start_s for at in turns if at >= start_s])
    else:
        times = np.array([step["time_s"] for step in json.loads((path / "decisions.json").read_text())])
    if not len(times):
        return None
    angles = np.angle(np.exp(2j * np.pi * times / period_s).mean())  # where on the period's circle they lie
    offsets = np.mod(times / period_s - angles / (2 * np.pi) + 0.5, 1.0) - 0.5
    first = np.median(offsets) if log.exists() else offsets.min()
    return float(np.mod(first + angles / (2 * np.pi), 1.0)) or 1.0


def _simulate(
    pair: ClusterRunConfig,
    services: Sequence[Service],
    schedule: Schedule,
    seed: int,
    period_s: float,
    phase: float | None,
) -> Simulated:
    """One run with its own luck, until every request has ended. phase: of the policy's clock, of period_s; None: any.

    The scaler was there before the traffic: the simulation begins idle, about BEFORE_S earlier, and its clock is put
    right afterwards. Not exactly BEFORE_S, because scrapes are at no particular time of the traffic.
    """
    rng = np.random.default_rng(seed)
    phase = float(rng.uniform(0.05, 1.0)) if phase is None else phase
    before_s = BEFORE_S + float(rng.uniform(0.0, pair.cluster.scrape_period_s))
    before_ns = round(before_s * 1e9)
    clock = (phase + before_s / period_s) % 1.0 or 1.0
    late = Schedule(schedule.scheduled_ns + before_ns, schedule.model, schedule.duration_s + before_s)
    pair = pair.model_copy(update={"duration_s": pair.duration_s + before_s})
    run = prepare(pair, services, seed, keep_rows=True, schedule=late, phase=clock)
    observed = Observed(run.sim)
    advance(pair, run, observed.note, lambda share: None)
    run.sim.advance(pair.duration_s + pair.cluster.models[0].client.timeout_s)
    told: dict[str, Any] = {"simulated": True, "seed": seed}
    requests, batches, metrics = request_log(run.sim, told), batch_log(run.sim, told), observed.metrics(told)
    for frame in (requests.frame, batches.frame, metrics.frame):
        for column in frame.columns.intersection(CLOCKS):
            frame[column] -= before_ns
    steps = [step._replace(time_s=step.time_s - before_s) for step in run.steps]
    return Simulated(requests, batches, metrics, steps)


def _write_steps(path: Path, steps: Sequence[Step]) -> None:
    (path / "decisions.json").write_text(json.dumps([step._asdict() for step in steps], indent=2) + "\n")
