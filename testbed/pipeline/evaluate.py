"""`kis evaluate`: policies on the same simulated traffic, seed by seed, each beside one that is to be beaten.

Files in results/<name>/: evaluate.json (the configuration), logs/<traffic>/<policy>.parquet (ScalingLog: what every row
is computed from), evaluation.json (a row a run, and what they say), and the report. A seed means the same arrivals and
the same random draws for every policy, so differences are paired. A run that is in its log is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from loadgen.artifact import read_json
from testbed.autoscaling.build import build_policy, resolved
from testbed.config import current_names
from testbed.errors import ConfigError
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline.cluster_run import scaling_run
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.served_rates import with_served_rate
from testbed.reporting.evaluation import log_name
from testbed.reporting.reports import write_report
from testbed.simulation.cluster.services import SimulatedService, read_services
from testbed.study import HERE, Workers, computed, remember

MAY_CHANGE = ("baseline", "challenger")  # when an evaluation goes on
MAY_GROW = ("seeds", "traffic", "policies", "policies.*.per_traffic")


class Cell(NamedTuple):
    """A policy on one traffic: where its log is, and what the log says that it was made with."""

    traffic: str
    settings: dict[str, Any]
    file: Path
    provenance: dict[str, Any]


def evaluate(
    config: EvaluateConfig, folder: Path, on_progress: Callable[[float], None], workers: Workers = HERE
) -> dict[str, Any]:
    """Run what is not there yet and write the folder; returns evaluation.json's content.

    The files are the same for any workers.
    """
    services = read_services(config.cluster)
    pairs = [
        _pair(config, services, folder, traffic, policy) for traffic in config.traffic for policy in config.policies
    ]
    headed = config.model_copy(update={"challenger": config.headline})
    remember(headed, folder / "evaluate.json", may_change=MAY_CHANGE, may_grow=MAY_GROW)
    seeds = config.run_seeds
    kept = {pair.file: _kept(pair, seeds) for pair in pairs}
    tasks = [(pair, seed) for pair in pairs for seed in seeds[len(kept[pair.file]) :]]
    share_before = 1 - len(tasks) / (len(pairs) * config.seeds)
    runs = [config.run_of(pair.traffic, pair.settings, seed) for pair, seed in tasks]
    frames = computed(
        partial(scaling_run, services=services),
        runs,
        workers,
        lambda share: on_progress(share_before + share * (1 - share_before)),
    )
    for (pair, _), frame in zip(tasks, frames, strict=True):
        kept[pair.file].append(frame)
        ScalingLog(pd.concat(kept[pair.file], ignore_index=True), pair.provenance).write(pair.file)
    write_report(folder)
    evaluation: dict[str, Any] = read_json(folder / "evaluation.json", "run `kis evaluate` again")
    return evaluation


def _pair(
    config: EvaluateConfig, services: Sequence[SimulatedService], folder: Path, traffic: str, policy: str
) -> Cell:
    """ConfigError if the policy cannot be built."""
    settings = _resolved(policy, config.settings_of(policy, traffic))
    settings = with_served_rate(settings, config.cluster.models[0], services)
    build_policy(settings, config.cluster.models[0].max_replicas, lambda time_s: 0.0)  # wrong: told before the runs
    files = [*config.cluster.models[0].profiles.values()]
    of_traffic = config.traffic[traffic]
    files += [of_traffic.trace] if of_traffic.trace is not None else []
    files += [Path(settings["file"]), Path(settings["file"]).with_suffix(".json")] if "file" in settings else []
    provenance = {
        "simulated": True,
        "traffic": of_traffic.model_dump(mode="json"),
        "policy": settings,
        "sha256": {str(file): _sha256(file) for file in files},
    }
    plain = json.loads(json.dumps(provenance, default=str))
    return Cell(traffic, settings, folder / log_name(traffic, policy), plain)


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


def _kept(pair: Cell, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """The runs that a log has already, the first of the seeds; ConfigError if it was made with something else."""
    pair.file.parent.mkdir(parents=True, exist_ok=True)
    if not pair.file.exists():
        return []
    log = ScalingLog.read(pair.file)
    changed = [
        name
        for name, value in pair.provenance.items()
        if current_names(log.provenance.get(name)) != current_names(value)
    ]
    changed += [] if log.seeds == seeds[: len(log.seeds)] else ["seed"]
    if changed:
        raise ConfigError(f"{pair.file} was made with another {changed[0]}: choose another folder, or remove that file")
    return [log.run(seed) for seed in log.seeds]
