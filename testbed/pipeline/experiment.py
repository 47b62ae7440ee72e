"""An experiment: every traffic under every policy, on a real deployment, and in KISim; then both beside each other.

Files in results/<name>/: experiment.json (its configuration), runs/<traffic>-<policy>-real-<k>/ and -sim-<k>/ (run
folders with decisions.json beside the usual files; faults.json, if something was made to happen; adaptation.json of a
policy that is adapted, whose new profiles are in adaptation/), pairs.json, transfer.json, drift.json, and the report. A
complete run is not made again, unless it is INVALID as its requests were late: then it goes to invalid/.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kubernetes import client

from loadgen.job import start_of
from loadgen.schedule import Schedule
from loadgen.validity import only_late
from testbed.adaptation.journal import JOURNAL, read_journal
from testbed.autoscaling.policies import Fixed
from testbed.autoscaling.search import ServedService
from testbed.autoscaling.simulated import Step
from testbed.errors import ClusterError, ConfigError
from testbed.localcluster import binaries
from testbed.measurement.machine import look as look_at_machine
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.experiment_config import ExperimentConfig, Which
from testbed.pipeline.experiment_counterpart import (
    on_traffic_clock,
    policy_of,
    real_folder,
    simulate_pair,
    write_adaptation,
    write_steps,
)
from testbed.pipeline.fault_injection import injecting
from testbed.pipeline.looked import Look, look_first
from testbed.pipeline.made_runs import MadeRuns, Reporter
from testbed.pipeline.restore import restore_real
from testbed.pipeline.scalers import change_reasons, remove_leftovers, scaled_by, stock_spec
from testbed.pipeline.served_rates import needed_at_first, served_service
from testbed.pipeline.target import pods_of
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir
from testbed.serving.kubernetes import KubernetesService
from testbed.serving.slowness import PodSlowness
from testbed.simulation.cluster.services import read_services
from testbed.study import remember
from workloads.catalog import ServiceConfig

MAY_GROW = ("traffic", "policies", "clusters")  # when an experiment goes on
REASON_S = 3.0  # a scaler's words and the change that we saw are at most so far apart


def run_experiment(
    config: ExperimentConfig,
    folder: Path,
    api: client.ApiClient,
    kubeconfig: Path | None,
    reporter: Reporter,
    look: Look | None = look_at_machine,
) -> Path:
    """Run what is not there yet, simulate, and write the report; returns its path.

    look: at the machine of the load generator, before the first run; None: none.
    """
    for cluster in (config.cluster, *config.clusters.values()):
        read_services(cluster)  # a profile that is not there is said before the runs
    settled = settled_service(config)
    refuse_what_cannot_run(config)
    remember(config, folder / "experiment.json", may_change=may_change(config), may_grow=MAY_GROW)
    restore_real(folder, reporter)
    machine = look_first(reporter, look, config.client)
    runs = MadeRuns(folder, config.client, config.sample_period_s, reporter, machine=machine, again_if=only_late)
    remove_leftovers(api, config.real.namespace)
    if config.real.kustomization is not None:
        apply(config.real.kustomization, config.real.namespace, kubeconfig)
    PodSlowness(api, config.real.namespace, config.real.deployment).reset()  # of an experiment that was killed
    for which in config.runs:
        make_real(config, runs, which, api, kubeconfig, settled)
        traffic, policy, repeat = which
        reporter.phase(f"simulate {traffic} under {policy}, {repeat} of {config.repeats}")
        simulate_pair(config, folder, which)
    return write_report(folder)


def refuse_what_cannot_run(config: ExperimentConfig) -> None:
    """ConfigError before the runs, not after some of them."""
    for policy in config.policies:
        built = policy_of(config, policy)
        if policy not in config.real.by_controller:
            stock_spec(built)
    for traffic, faults in config.faults.items():
        duration_s = make_schedule(config.traffic[traffic], config.model).duration_s
        late = [fault.at_s for fault in faults if fault.at_s >= duration_s]
        if late:
            raise ConfigError(f"faults of '{traffic}': at_s is {late[0]:g}, the traffic ends at {duration_s:g} s")


def may_change(config: ExperimentConfig) -> tuple[str, ...]:
    """When an experiment goes on: there may be more runs, simulated otherwise."""
    runs = ("repeats", "attempts", "simulated_runs")
    if config.adapted:  # the real controllers rest on what KISim is told, too
        return runs
    return (*runs, "cluster.models.*.pod", "cluster.models.*.profiles", "cluster.scrape_jitter_s")


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


def make_real(
    config: ExperimentConfig,
    runs: MadeRuns,
    which: Which,
    api: client.ApiClient,
    kubeconfig: Path | None,
    settled: ServedService | None = None,
) -> RunDir:
    """One real run, unless it is there. settled: see settled_service."""
    run_id = real_folder(runs.folder, which).name
    kept = runs.kept(run_id, attempts=config.attempts, files=("decisions.json",))
    return kept or runs.made(
        run_id,
        lambda folder, notes: _attempt(config, runs, which, folder, notes, api, kubeconfig, settled),
        config.attempts,
    )


def _attempt(
    config: ExperimentConfig,
    runs: MadeRuns,
    which: Which,
    path: Path,
    notes: tuple[str, ...],
    api: client.ApiClient,
    kubeconfig: Path | None,
    settled: ServedService | None,
) -> RunDir:
    traffic, policy, repeat = which
    schedule = make_schedule(config.traffic[traffic], config.model)
    start, real = start_pods(config, policy, schedule, settled), config.real
    runs.reporter.phase(f"{path.name}: start with {start} pods")
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
        slowness = PodSlowness(api, real.namespace, real.deployment)
        with (
            injecting(config.faults.get(traffic, ()), slowness, lambda: start_of(path / "raw")) as faults,
            scaled_by(config, policy, api, kubeconfig, path),
        ):
            run = runs.replay(target, schedule, path, identity, notes)
            faults.end()  # with the traffic
            reasons = change_reasons(config, api, path)
    refuse_without_faults(run, faults.missed())
    start_s = (run.manifest.start_unix_ns or 0) / 1e9
    steps = decisions_of(MetricLog.read(run.metrics), config.model, start, start_s, reasons)
    faults.write(path)
    if policy in config.adapted:
        write_adaptation(path, on_traffic_clock(read_journal(path / "adaptation" / JOURNAL), start_s))
    write_steps(path, steps)
    return run


def settled_service(config: ExperimentConfig) -> ServedService | None:
    """What tells how many pods first arrivals need; None: the runs begin with the number of the configuration."""
    served = config.cluster.models[0]
    return served_service(served, read_services(config.cluster), 0.0, 0.0) if config.settled else None


def start_pods(config: ExperimentConfig, policy: str, schedule: Schedule, settled: ServedService | None) -> int:
    """At a run's beginning. An HPA brings them to its fewest at its first look, before it has seen any traffic."""
    built = policy_of(config, policy)
    if settled is None or isinstance(built, Fixed):
        return config.start_replicas(policy)
    return max(needed_at_first(schedule, settled), getattr(built, "min_replicas", 1))


def refuse_without_faults(run: RunDir, missed: tuple[str, ...]) -> None:
    """The run is INVALID, with what was not made as the reason; it is kept, and shows what the service did without."""
    verdict = run.manifest.verdict
    if missed and verdict is not None:
        expected = verdict.model_copy(update={"valid": False, "reasons": (*verdict.reasons, *missed)})
        run.write_manifest(run.manifest.model_copy(update={"verdict": expected}))


def refuse_other_service(config: ExperimentConfig, reported: ServiceConfig) -> None:
    """ConfigError if the pods serve otherwise than KISim is told."""
    served = config.cluster.models[0]
    for name in ("instances", "max_batch_size", "dynamic_batching"):
        expected, real = getattr(served, name), getattr(reported, name)
        if expected != real:
            raise ConfigError(f"cluster.models: {name} is {expected}, the pods say {real}: make them agree")


def decisions_of(
    metrics: MetricLog, model: str, start: int, start_unix_s: float, reasons: Sequence[tuple[float, str]]
) -> list[Step]:
    """Changes of the number of replicas that was asked for, as sampled, each with the words nearest to it in time."""
    rows = metrics.select("deployment", "spec_replicas", model=model).sort_values("time_s")
    steps, before = [], start
    for time_s, value in zip(rows["time_s"], rows["value"], strict=True):
        if int(value) != before:
            near = [(abs(at - start_unix_s - time_s), text) for at, text in reasons]
            near = [decision for decision in near if decision[0] <= REASON_S]
            steps.append(Step(float(time_s), model, before, int(value), min(near)[1] if near else ""))
            before = int(value)
    return steps
