"""An experiment: every traffic under every policy, on a real deployment, and in KISim; then both beside each other.

Files in results/<name>/: experiment.json (its configuration), runs/<traffic>-<policy>-real-<k>/ and -sim-<k>/ (run
folders with decisions.json beside the usual files), pairs.json, and the report. A complete run is not made again.
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
from testbed.config import build
from testbed.errors import ClusterError, ConfigError
from testbed.localcluster import binaries
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import Observed, batch_log, request_log
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.made_runs import Narrator
from testbed.pipeline.real_run import run_real
from testbed.pipeline.scalers import SCALER, change_reasons, remove_leftovers, scaled_by
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
SEEN_LATE_S = 0.3  # an HPA's change, as sampled: at most so long after it
REASON_S = 3.0  # a scaler's words and the change that we saw are at most so far apart


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
                narrator.phase(f"simulate {traffic} under {policy}, {repeat} of {config.repeats}")
                simulate_pair(config, services, folder, (traffic, policy, repeat))
    return write_experiment_report(folder)


def _begin(config: ExperimentConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file, told = folder / "experiment.json", config.model_dump(mode="json")
    if file.exists():
        before = build(ExperimentConfig, json.loads(file.read_text()), str(file)).model_dump(mode="json")
        if _lasting(before) != _lasting(told):
            raise ConfigError(f"{file} is of another experiment: choose another folder, or give that configuration")
    file.write_text(json.dumps(told, indent=2) + "\n")


def _lasting(told: dict[str, Any]) -> dict[str, Any]:
    """What stays when an experiment goes on: there may be more runs of it, and they may be simulated otherwise."""
    for name in ("repeats", "simulated_runs"):
        told = {**told, name: None}
    models = [{**one, "pod": None, "profiles": None} for one in told["cluster"]["models"]]
    return {**told, "cluster": {**told["cluster"], "models": models}}


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


def real_folder(folder: Path, which: tuple[str, str, int]) -> Path:
    """Of one real run: traffic, policy, repeat from 1."""
    return folder / "runs" / "{}-{}-real-{}".format(*which)


def twin_folder(folder: Path, which: tuple[str, str, int]) -> Path:
    """Of the simulated run of the same."""
    return folder / "runs" / "{}-{}-sim-{}".format(*which)


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
    path = real_folder(folder, which)
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
    config: ExperimentConfig, services: Sequence[Service], folder: Path, which: tuple[str, str, int]
) -> None:
    """Simulate the arrivals of a real run with its scaler's clock; the run with the middle P95 is written."""
    traffic, policy, _ = which
    real = RunDir(real_folder(folder, which))
    schedule = Schedule.read(real.schedule)
    pair = config.simulated(traffic, policy, schedule.duration_s)
    built = build_policy(config.policies[policy], config.cluster.models[0].max_replicas, None)
    clock = scaler_clock(real.path, built.period_s)
    seeds = twin_seeds(config.seed, config.simulated_runs)
    runs = [_simulate(pair, services, schedule, seed, built.period_s, clock) for seed in seeds]
    shown = runs[middle_of([one.requests for one in runs])]
    path = twin_folder(folder, which)
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
    told = "at any time before the traffic" if clock is None else f"{clock.first_s:+.2f} s from it, as in the real run"
    manifest = twin_manifest(real.manifest, path.name, config.simulated_runs)
    notes = (*manifest.notes, f"the policy decides first {told}")
    made.write_manifest(manifest.model_copy(update={"profile": str(profile), "notes": notes}))


def scaler_clock(path: Path, period_s: float) -> ScalerClock | None:
    """Of a real run, from its scaler's lines, or else from when it was first seen and its changes; None: not known.

    A change of an HPA is seen up to a sample late: the earliest within the period is nearest to its clock.
    """
    log, seen = path / "controller.jsonl", path / SCALER
    start_s = (RunDir(path).manifest.start_unix_ns or 0) / 1e9
    if log.exists():
        turns = [json.loads(line)["time_s"] for line in log.read_text().splitlines() if line.endswith("}")]
        return ScalerClock(turns[0] - start_s, own_scrapes=True) if turns else None
    if not seen.exists():
        return None
    first_s = json.loads(seen.read_text())["first_seen_unix_s"] - start_s
    times = np.array([step["time_s"] for step in json.loads((path / "decisions.json").read_text())])
    if len(times):
        middle = np.angle(np.exp(2j * np.pi * times / period_s).mean()) / (2 * np.pi)  # on the period's circle
        phase = middle + np.min(np.mod(times / period_s - middle + 0.5, 1.0) - 0.5)
        latest_s = first_s + SEEN_LATE_S
        first_s = latest_s - period_s * np.mod(latest_s / period_s - phase, 1.0)
    return ScalerClock(float(first_s), own_scrapes=False)


def _simulate(
    pair: ClusterRunConfig,
    services: Sequence[Service],
    schedule: Schedule,
    seed: int,
    period_s: float,
    clock: ScalerClock | None,
) -> Simulated:
    """One run with its own luck, until every request has ended. clock: of the policy; None: any.

    Pods and scaler were there before the traffic: the simulation begins idle, about BEFORE_S earlier, and its clock is
    put right afterwards. Not exactly BEFORE_S: scrapes are at no particular time of the traffic, unless the scaler
    makes them when it decides.
    """
    rng = np.random.default_rng(seed)
    clock = clock or ScalerClock(-float(rng.uniform(0.0, period_s)), own_scrapes=False)
    scrape_s = pair.cluster.scrape_period_s
    before_s = max(BEFORE_S, -clock.first_s + scrape_s)
    before_s += float(np.mod(-before_s - clock.first_s, scrape_s) if clock.own_scrapes else rng.uniform(0.0, scrape_s))
    before_ns = round(before_s * 1e9)
    first_s = before_s + clock.first_s
    since_s = first_s - scrape_s / 2 if clock.own_scrapes else 0.0
    late = Schedule(schedule.scheduled_ns + before_ns, schedule.model, schedule.duration_s + before_s)
    pair = pair.model_copy(update={"duration_s": pair.duration_s + before_s})
    run = prepare(pair, services, seed, keep_rows=True, schedule=late, phase=first_s / period_s, since_s=since_s)
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
