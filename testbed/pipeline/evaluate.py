"""`kis evaluate`: policies on the same simulated traffic, seed by seed, each beside one that is to be beaten.

Files in results/<name>/: evaluate.json (the configuration), logs/<traffic>/<policy>.parquet (ScalingLog: what every row
is computed from), evaluation.json (a row a run, and what they say), and the report. A seed means the same arrivals and
the same luck for every policy, so differences are paired. A run that is in its log is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from testbed.autoscaling.build import build_policy, resolved
from testbed.config import build
from testbed.errors import ConfigError
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import ScalingRecord
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.served_rates import with_served_rate
from testbed.reporting.evaluation import log_name
from testbed.reporting.loading import read_json
from testbed.reporting.reports import write_report
from testbed.simulation.cluster.services import Service, read_services
from workloads.files import write_json

MAY_CHANGE = ("seeds", "baseline", "challenger")  # of an evaluation that goes on


class Pair(NamedTuple):
    """A policy on one traffic: where its log is, and what the log says that it was made with."""

    traffic: str
    settings: dict[str, Any]
    file: Path
    provenance: dict[str, Any]


def evaluate(
    config: EvaluateConfig, folder: Path, on_progress: Callable[[float], None], workers: int = 1
) -> dict[str, Any]:
    """Run what is not there yet and write the folder; returns evaluation.json's content.

    workers: processes; the files are the same for any number.
    """
    services = read_services(config.cluster)
    pairs = [
        _pair(config, services, folder, traffic, policy) for traffic in config.traffic for policy in config.policies
    ]
    _begin(config, folder)
    seeds = config.run_seeds
    kept = {pair.file: _kept(pair, seeds) for pair in pairs}
    tasks = [(pair, seed) for pair in pairs for seed in seeds[len(kept[pair.file]) :]]
    total = len(pairs) * config.seeds
    runs = [config.run_of(pair.traffic, pair.settings, seed) for pair, seed in tasks]
    for done, ((pair, _), frame) in enumerate(zip(tasks, _played(runs, services, workers), strict=True), start=1):
        kept[pair.file].append(frame)
        ScalingLog(pd.concat(kept[pair.file], ignore_index=True), pair.provenance).write(pair.file)
        on_progress((total - len(tasks) + done) / total)
    write_report(folder)
    found: dict[str, Any] = read_json(folder / "evaluation.json", "run `kis evaluate` again")
    return found


def play(told: ClusterRunConfig, services: Sequence[Service]) -> pd.DataFrame:
    """One run; the rows of its ScalingLog."""
    run = prepare(told, services, told.seed, keep_rows=False)
    record = ScalingRecord(run, told.cluster.models[0].name)
    advance(told, run, record.note, lambda share: None)
    return record.frame(told.seed)


def _played(runs: Sequence[ClusterRunConfig], services: Sequence[Service], workers: int) -> Iterator[pd.DataFrame]:
    """Each run in its order, some of them at the same time."""
    one = partial(play, services=services)
    if min(workers, len(runs)) <= 1:
        yield from map(one, runs)
        return
    with ProcessPoolExecutor(min(workers, len(runs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, runs)


def _pair(config: EvaluateConfig, services: Sequence[Service], folder: Path, traffic: str, policy: str) -> Pair:
    """ConfigError if the policy cannot be built."""
    settings = _resolved(policy, config.settings_of(policy, traffic))
    settings = with_served_rate(settings, config.cluster.models[0], services)
    build_policy(settings, config.cluster.models[0].max_replicas, lambda time_s: 0.0)  # wrong: told before the runs
    files = [*config.cluster.models[0].profiles.values()]
    one = config.traffic[traffic]
    files += [one.trace] if one.trace is not None else []
    files += [Path(settings["file"]), Path(settings["file"]).with_suffix(".json")] if "file" in settings else []
    provenance = {
        "simulated": True,
        "traffic": one.model_dump(mode="json"),
        "policy": settings,
        "sha256": {str(file): _sha256(file) for file in files},
    }
    plain = json.loads(json.dumps(provenance, default=str))
    return Pair(traffic, settings, folder / log_name(traffic, policy), plain)


def _resolved(policy: str, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        return resolved(settings)
    except ConfigError as error:
        raise ConfigError(f"policies: {policy}: {error}") from None


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: give a file that exists and can be read") from None


def _begin(config: EvaluateConfig, folder: Path) -> None:
    """Write evaluate.json; ConfigError if the folder is of another evaluation."""
    file = folder / "evaluate.json"
    told = config.model_copy(update={"challenger": config.headline}).model_dump(mode="json")
    if file.exists():
        known = build(EvaluateConfig, read_json(file, "choose another folder"), str(file))
        before = known.model_dump(mode="json")
        if _lasting(told, before) != _lasting(before, before):
            raise ConfigError(f"{file} is of another evaluation: choose another folder, or give that configuration")
        if before["seeds"] > told["seeds"]:
            raise ConfigError(f"{file} has {before['seeds']} seeds: give as many or more, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, told)


def _lasting(told: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What stays when an evaluation goes on: more runs, traffic and policies may come, and another headline."""
    same = {name: value for name, value in told.items() if name not in MAY_CHANGE}
    traffic = {name: told["traffic"].get(name) for name in before["traffic"]}
    policies = {name: _of_before(told["policies"].get(name), before["traffic"]) for name in before["policies"]}
    return {**same, "traffic": traffic, "policies": policies}


def _of_before(settings: dict[str, Any] | None, traffic: dict[str, Any]) -> dict[str, Any] | None:
    """A policy's settings for the traffic that was there before."""
    if settings is None or "per_traffic" not in settings:
        return settings
    return {name: settings["per_traffic"].get(name) for name in traffic}


def _kept(pair: Pair, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """The runs that a log has already, the first of the seeds; ConfigError if it was made with something else."""
    pair.file.parent.mkdir(parents=True, exist_ok=True)
    if not pair.file.exists():
        return []
    log = ScalingLog.read(pair.file)
    changed = [name for name, value in pair.provenance.items() if log.provenance.get(name) != value]
    changed += [] if log.seeds == seeds[: len(log.seeds)] else ["seed"]
    if changed:
        raise ConfigError(f"{pair.file} was made with another {changed[0]}: choose another folder, or remove that file")
    return [log.run(seed) for seed in log.seeds]
