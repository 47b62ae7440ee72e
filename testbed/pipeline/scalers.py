"""Who scales a real deployment during a run of an experiment: nobody, an HPA of the cluster's, or `kis controller`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from loadgen.artifact import ArtifactError, read_json_lines
from testbed.adaptation.settings import AdaptConfig, AdaptSettings
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.hpa.spec import HpaSpec
from testbed.autoscaling.policies import Fixed, Hpa
from testbed.autoscaling.policies.keda import FORECAST, Keda
from testbed.autoscaling.policy import Policy
from testbed.controller.config import ControllerConfig
from testbed.controller.guard import Limits
from testbed.errors import ClusterError, ConfigError
from testbed.pipeline.experiment_config import ExperimentConfig
from workloads.files import finite, write_json

READY_S = 60.0  # a controller decides, and an HPA has its metrics, within that time
POLL_S = 0.25
SCALER = "scaler.json"  # of an HPA: when it was seen to have looked for the first time
HPA_NAME = "kis-experiment"


@contextmanager
def scaled_by(
    config: ExperimentConfig, policy: str, api: client.ApiClient, kubeconfig: Path | None, folder: Path
) -> Iterator[None]:
    """The policy scales the deployment for the length of the block. ClusterError if it does not start.

    kind fixed: nobody is. kinds hpa and keda: a HorizontalPodAutoscaler, which needs an adapter for its metrics. Any
    other, and those of real.by_controller: `kis controller` as a process of its own; its lines are in
    folder/controller.jsonl, and what an adaptation did is in folder/adaptation/.
    """
    settings = config.policies[policy]
    built = build_policy(settings, config.cluster.models[0].max_replicas, None)
    spec = None if policy in config.real.by_controller else stock_spec(built)
    if isinstance(built, Fixed):
        yield
    elif spec is not None:
        with _stock_hpa(config, spec, api, folder):
            yield
    else:
        with _controller(config, settings, config.adapted.get(policy), kubeconfig, folder):
            yield


def stock_spec(policy: Policy) -> HpaSpec | None:
    """Of the HPA that does on a cluster what the policy does; None: no HPA does. ConfigError: one would do only a part.

    Of KEDA's ScaledObject that is the HPA which KEDA makes of it, on the adapter's metrics in place of KEDA's own.
    """
    if isinstance(policy, Hpa):
        return policy.spec
    if not isinstance(policy, Keda):
        return None
    if policy.min_replicas < 1 or policy.idle_replicas is not None:
        raise ConfigError("policy keda: no HPA scales to 0: give min_replicas of 1 or more and no idle_replicas")
    if any(trigger.metric == FORECAST for trigger in policy.triggers):
        raise ConfigError(f"policy keda: `kis adapter` has no {FORECAST}: name the policy in real.by_controller")
    for key, what in (("scaling_modifiers", "`kis adapter` has no formulas"), ("fallback", "no HPA falls back")):
        if getattr(policy, key) is not None:
            raise ConfigError(f"policy keda: {key}: {what}: name the policy in real.by_controller")
    return policy.spec


def remove_leftovers(api: client.ApiClient, namespace: str) -> None:
    """Of an experiment that was killed: its HPA would go on scaling."""
    _remove_hpa(client.AutoscalingV2Api(api), namespace)


def change_reasons(config: ExperimentConfig, api: client.ApiClient, folder: Path) -> list[tuple[float, str]]:
    """What the scaler said of its changes: seconds since 1970 and text, in order of time."""
    log = folder / "controller.jsonl"
    if log.exists():
        turns = read_json_lines(log, "restore it, or make the run again")
        try:
            acted = [turn for turn in turns if turn["acted"] and turn["replicas"] is not None]
            return [(finite(turn["time_s"]), str(turn["reason"])) for turn in acted]
        except (KeyError, TypeError, ValueError) as error:
            what = f"a turn without what a controller tells ({type(error).__name__}: {error})"
            raise ArtifactError(f"{log}: {what}: restore it, or make the run again") from None
    core: Any = client.CoreV1Api(api)
    try:
        events = core.list_namespaced_event(
            config.real.namespace,
            field_selector=f"involvedObject.name={HPA_NAME},reason=SuccessfulRescale",
            _request_timeout=10,
        ).items
    except (ApiException, HTTPError, OSError):
        return []  # a reason is a courtesy
    stamped = [(event.last_timestamp or event.event_time, event.message) for event in events]
    return sorted((stamp.timestamp(), message) for stamp, message in stamped if stamp is not None)


@contextmanager
def _stock_hpa(config: ExperimentConfig, spec: HpaSpec, api: client.ApiClient, folder: Path) -> Iterator[None]:
    real = config.real
    autoscaling: Any = client.AutoscalingV2Api(api)
    body = hpa_object(spec, HPA_NAME, real.namespace, real.deployment)
    try:
        autoscaling.create_namespaced_horizontal_pod_autoscaler(real.namespace, body, _request_timeout=10)
        write_json(folder / SCALER, {"first_seen_unix_s": _first_look(autoscaling, real.namespace)})
        yield
    except ApiException as error:
        raise ClusterError(f"HPA of {real.deployment}: the API answers {error.status} {error.reason}") from None
    finally:
        _remove_hpa(autoscaling, real.namespace)


def _first_look(autoscaling: Any, namespace: str) -> float:
    """When the HPA was seen to have looked, in seconds since 1970; returns when it has read its metrics, too. It looks
    without them where there are fewer pods than it wants at least, or more than at most."""
    deadline, why = time.monotonic() + READY_S, "it did not look"
    looked: float | None = None
    while time.monotonic() < deadline:
        current = autoscaling.read_namespaced_horizontal_pod_autoscaler(HPA_NAME, namespace, _request_timeout=10)
        active = next(
            (condition for condition in current.status.conditions or () if condition.type == "ScalingActive"), None
        )
        if looked is None and current.status.conditions:
            looked = time.time()
        if looked is not None and active is not None and active.status == "True":
            return looked
        why = why if active is None else f"{active.reason}: {active.message}"
        time.sleep(POLL_S)
    raise ClusterError(
        f"the HPA has no metrics after {READY_S:g} s ({why}): is the adapter applied (manifests/adapter)?"
    )


def _remove_hpa(autoscaling: Any, namespace: str) -> None:
    with contextlib.suppress(ApiException, HTTPError, OSError):  # there is none
        autoscaling.delete_namespaced_horizontal_pod_autoscaler(HPA_NAME, namespace, _request_timeout=10)


@contextmanager
def _controller(
    config: ExperimentConfig,
    settings: dict[str, Any],
    adapted: AdaptSettings | None,
    kubeconfig: Path | None,
    folder: Path,
) -> Iterator[None]:
    real = config.real
    file, log = folder / "controller.json", folder / "controller.jsonl"
    body = ControllerConfig(
        namespace=real.namespace,
        deployment=real.deployment,
        model=config.model,
        policy=settings,
        limits=real.limits or Limits(max_replicas=config.cluster.models[0].max_replicas),
        scrape_period_s=real.scrape_period_s,
    )
    write_json(file, body)
    command = [sys.executable, "-m", "testbed.cli", "controller", str(file)]
    command += [] if kubeconfig is None else ["--kubeconfig", str(kubeconfig)]
    if adapted is not None:
        how = AdaptConfig(cluster=config.cluster, adaptation=adapted, folder=folder / "adaptation")
        write_json(folder / "adapt.json", how)
        command += ["--adapt", str(folder / "adapt.json")]
    with log.open("w") as out, log.with_suffix(".err").open("w") as errors:
        # A group of its own: a bench that thinks over candidates ends with its controller.
        process = subprocess.Popen(
            command, stdout=out, stderr=errors, env={**os.environ, "COLUMNS": "200"}, start_new_session=True
        )
        try:
            _wait_for_decision(process, log)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_decision(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not log.read_text():
        if process.poll() is not None:
            raise ClusterError(f"kis controller ended at once: {log.with_suffix('.err').read_text().strip()}")
        if time.monotonic() > deadline:
            raise ClusterError(f"kis controller decided nothing within {READY_S:g} s: see {log.with_suffix('.err')}")
        time.sleep(0.1)
