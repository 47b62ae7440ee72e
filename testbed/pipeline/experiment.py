"""An experiment: every traffic under every policy, on a real deployment, and in KISim; then both beside each other.

Files in results/<name>/: experiment.json (its configuration), runs/<traffic>-<policy>-real-<k>/ and -sim-<k>/ (run
folders with decisions.json beside the usual files; faults.json, if something was made to happen; adaptation.json of a
policy that is adapted, whose new profiles are in adaptation/), pairs.json, transfer.json, drift.json, and the report. A
complete run is not made again, unless it is INVALID as its requests were late: then it goes to invalid/.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubernetes import client

from loadgen.job import start_of
from loadgen.validity import only_late
from testbed.adaptation.journal import JOURNAL, read_journal
from testbed.autoscaling.simulated import Step
from testbed.config import build
from testbed.errors import ClusterError, ConfigError
from testbed.localcluster import binaries
from testbed.machine import Machine
from testbed.measurement.machine import look as look_at_machine
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_twin import (
    on_traffic_clock,
    policy_of,
    real_folder,
    simulate_pair,
    write_adaptation,
    write_steps,
)
from testbed.pipeline.fault_injection import injecting
from testbed.pipeline.looked import Look, look_first
from testbed.pipeline.made_runs import Narrator
from testbed.pipeline.real_run import run_real
from testbed.pipeline.restore import restore_real
from testbed.pipeline.scalers import change_reasons, remove_leftovers, scaled_by
from testbed.pipeline.target import pods_of
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir
from testbed.serving.kubernetes import KubernetesService
from testbed.serving.slowness import Slowness
from testbed.simulation.cluster.services import read_services
from workloads.catalog import ServiceConfig
from workloads.files import write_json

REASON_S = 3.0  # a scaler's words and the change that we saw are at most so far apart


def run_experiment(
    config: ExperimentConfig,
    folder: Path,
    api: client.ApiClient,
    kubeconfig: Path | None,
    narrator: Narrator,
    look: Look | None = look_at_machine,
) -> Path:
    """Run what is not there yet, simulate, and write the report; returns its path.

    look: at the machine of the load generator, before the first run; None: none.
    """
    for cluster in (config.cluster, *config.clusters.values()):
        read_services(cluster)  # a profile that is not there is said before the runs
    _refuse_what_cannot_run(config)
    _begin(config, folder)
    restore_real(folder, narrator)
    machine = look_first(narrator, look, config.client)
    remove_leftovers(api, config.real.namespace)
    if config.real.kustomization is not None:
        apply(config.real.kustomization, config.real.namespace, kubeconfig)
    Slowness(api, config.real.namespace, config.real.deployment).reset()  # of an experiment that was killed
    for traffic in config.traffic:
        for policy in config.policies:
            for repeat in range(1, config.repeats + 1):
                _real_once(config, folder, (traffic, policy, repeat), api, kubeconfig, narrator, machine)
                narrator.phase(f"simulate {traffic} under {policy}, {repeat} of {config.repeats}")
                simulate_pair(config, folder, (traffic, policy, repeat))
    return write_report(folder)


def _refuse_what_cannot_run(config: ExperimentConfig) -> None:
    """ConfigError before the runs, not after some of them."""
    for policy in config.policies:
        policy_of(config, policy)
    for traffic, faults in config.faults.items():
        duration_s = make_schedule(config.traffic[traffic], config.model).duration_s
        late = [one.at_s for one in faults if one.at_s >= duration_s]
        if late:
            raise ConfigError(f"faults of '{traffic}': at_s is {late[0]:g}, the traffic ends at {duration_s:g} s")


def _begin(config: ExperimentConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file, told = folder / "experiment.json", config.model_dump(mode="json")
    if file.exists():
        before = build(ExperimentConfig, json.loads(file.read_text()), str(file)).model_dump(mode="json")
        if any(told["traffic"].get(name) != one for name, one in before["traffic"].items()) or (
            _lasting(before) != _lasting(told)
        ):
            raise ConfigError(f"{file} is of another experiment: choose another folder, or give that configuration")
    write_json(file, told)


def _lasting(told: dict[str, Any]) -> dict[str, Any]:
    """What stays when an experiment goes on, but for its traffic: there may be more runs, simulated otherwise."""
    for name in ("repeats", "attempts", "simulated_runs", "traffic"):
        told = {**told, name: None}
    if told["adapted"]:  # the real controllers rest on both, too
        return told
    models = [{**one, "pod": None, "profiles": None} for one in told["cluster"]["models"]]
    return {**told, "cluster": {**told["cluster"], "models": models, "scrape_jitter_s": None}}


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


def _real_once(
    config: ExperimentConfig,
    folder: Path,
    which: tuple[str, str, int],
    api: client.ApiClient,
    kubeconfig: Path | None,
    narrator: Narrator,
    machine: Machine | None,
) -> None:
    """One real run, unless it is there; what an interrupted one left is removed. Late runs are made again."""
    path = real_folder(folder, which)
    while not _is_kept(path, config.attempts, folder / "invalid", narrator):
        _make_real(config, which, path, api, kubeconfig, narrator, machine)


def _is_kept(path: Path, attempts: int, invalid: Path, narrator: Narrator) -> bool:
    """Is there a run that counts, or the last one that is tried? A late one before that is moved to invalid/."""
    if not (path / "decisions.json").exists():
        return False
    verdict = RunDir(path).manifest.verdict
    if verdict is None or verdict.valid or not only_late(verdict):
        return True
    attempt = 1 + len(list(invalid.glob(f"{path.name}-attempt*")))
    if attempt >= attempts:
        return True
    narrator.phase(f"{path.name} was late ({verdict.reasons[0]}): it is made again")
    invalid.mkdir(exist_ok=True)
    path.rename(invalid / f"{path.name}-attempt{attempt}")
    return False


def _make_real(
    config: ExperimentConfig,
    which: tuple[str, str, int],
    path: Path,
    api: client.ApiClient,
    kubeconfig: Path | None,
    narrator: Narrator,
    machine: Machine | None,
) -> None:
    traffic, policy, repeat = which
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
        slowness = Slowness(api, real.namespace, real.deployment)
        with (
            injecting(config.faults.get(traffic, ()), slowness, lambda: start_of(path / "raw")) as faults,
            scaled_by(config, policy, api, kubeconfig, path),
        ):
            run = run_real(
                target,
                schedule,
                path,
                identity,
                config.client,
                config.sample_period_s,
                narrator.progress,
                machine=machine,
            )
            faults.end()  # with the traffic
            reasons = change_reasons(config, api, path)
    refuse_without_faults(run, faults.missed())
    start_s = (run.manifest.start_unix_ns or 0) / 1e9
    steps = decisions_of(MetricLog.read(run.metrics), config.model, start, start_s, reasons)
    faults.write(path)
    if policy in config.adapted:
        write_adaptation(path, on_traffic_clock(read_journal(path / "adaptation" / JOURNAL), start_s))
    write_steps(path, steps)


def refuse_without_faults(run: RunDir, missed: tuple[str, ...]) -> None:
    """The run is INVALID, with what was not made as the reason; it is kept, and shows what the service did without."""
    verdict = run.manifest.verdict
    if missed and verdict is not None:
        told = verdict.model_copy(update={"valid": False, "reasons": (*verdict.reasons, *missed)})
        run.write_manifest(run.manifest.model_copy(update={"verdict": told}))


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
