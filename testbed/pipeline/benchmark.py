"""`kis benchmark`: policies tuned on the same training worlds meet on held-out worlds.

For each service, each candidate is searched as `kis tune` does, on that service's training worlds, several times with
other seeds if `searches` says so. The finalists of its front are then played on the held-out worlds, with several
seeds. As every policy has settings with few misses and with many, all are compared at the same share of misses. A run
begins with as many replicas as its first arrivals need.

Files in results/<name>/: benchmark.json (the configuration), searches/<service>/<search>/<candidate>/ (trials.csv,
front.json), searches/<service>/tuned.json (what the first search chose), rows.parquet (one row a run; until all are
there, rows/ has a file for each policy, service and search), wins.json and the report (from the rows).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from loadgen.artifact import read_json
from testbed.autoscaling.rollout import Outcome
from testbed.pipeline.benchmark_config import BenchmarkConfig
from testbed.pipeline.served_rates import served_service
from testbed.pipeline.setting_search import cheapest, front_of, search
from testbed.pipeline.tune_config import TuneConfig
from testbed.pipeline.tuning_runs import Tuning
from testbed.pipeline.worlds import Split, World, worlds
from testbed.reporting.benchmark import ROWS
from testbed.reporting.reports import write_report
from testbed.simulation.cluster.accounting import HOUR_S
from testbed.simulation.cluster.services import read_services
from testbed.study import HERE, Workers, all_done, computed, remember
from workloads.files import replacing, write_json

MAY_GROW = ("candidates", "compared", "services", "searches")
SELECTING_SEEDS = 3  # runs of each training world, of a finalist
PLAYED_SEED = 2_000_000  # from there on: of the held-out runs
PER_SERVICE = 1000  # seeds of worlds
PER_SEARCH = 10_000  # seeds of suggestions and training runs


class Task(NamedTuple):
    """One policy on one service, with the settings of its n-th search (from 1)."""

    service: str
    policy: str
    search: int


@dataclass(frozen=True)
class Played:
    """Settings that are played on the held-out worlds. chosen: those that the search has chosen."""

    settings: Mapping[str, Any]
    point: int
    chosen: bool


def benchmark(
    config: BenchmarkConfig, folder: Path, on_progress: Callable[[float], None], workers: Workers = HERE
) -> dict[str, Any]:
    """Search and play what is not there yet and write the folder; returns wins.json's content.

    An interrupted one goes on, and further candidates, services and searches may be added. The files are the same for
    any workers.
    """
    remember(config, folder / "benchmark.json", may_grow=MAY_GROW)
    tasks = tasks_of(config)
    kept = _kept(folder)
    all_done(
        computed(partial(play, config, folder), [task for task in tasks if task not in kept], workers, on_progress)
    )
    _gather(tasks, kept, folder)
    for service in config.services:
        _write_chosen(config, folder, service)
    write_report(folder)
    wins: dict[str, Any] = read_json(folder / "wins.json", "run `kis benchmark` again")
    return wins


def tasks_of(config: BenchmarkConfig) -> list[Task]:
    """All of them; what is compared as it is has nothing to search."""
    searched = [(policy, 1 + n) for n in range(config.searches) for policy in config.candidates]
    played = [*searched, *((policy, 1) for policy in config.compared)]
    return [Task(service, policy, search) for policy, search in played for service in config.services]


def play(config: BenchmarkConfig, folder: Path, task: Task) -> None:
    """Search a policy's settings on a service's training worlds, play them on its held-out ones, write the rows; a file
    that is there is kept."""
    file = _part(folder, task)
    if file.exists():
        return
    tuning, held_out = _tuning(config, task), _worlds(config, task.service, "held-out")
    rows = []
    for played in _settings_to_play(config, tuning, folder, task):
        for world in held_out:
            for seed in range(PLAYED_SEED, PLAYED_SEED + config.seeds):
                rows.append(_row(tuning, task, played, world, seed))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)


def _part(folder: Path, task: Task) -> Path:
    """A task's rows, until all are there."""
    return folder / "rows" / task.service / str(task.search) / f"{task.policy}.parquet"


def _searched(folder: Path, service: str, number: int) -> Path:
    """Where the n-th search of each of a service's candidates is."""
    return folder / "searches" / service / str(number)


def _kept(folder: Path) -> dict[Task, pd.DataFrame]:
    """Rows of tasks that were played before the benchmark grew."""
    file = folder / ROWS
    if not file.exists():
        return {}
    table = pd.read_parquet(file)
    names = table[[*Task._fields]]
    tasks = map(Task._make, names.drop_duplicates().itertuples(index=False))
    return {task: table[(names == list(task)).all(axis=1)] for task in tasks}


def _gather(tasks: Sequence[Task], kept: Mapping[Task, pd.DataFrame], folder: Path) -> None:
    """One file of all rows, a sixth as large as the parts, which go."""
    tables = [kept[task] if task in kept else pd.read_parquet(_part(folder, task)) for task in tasks]
    with replacing(folder / ROWS) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")
    shutil.rmtree(folder / "rows", ignore_errors=True)


def _write_chosen(config: BenchmarkConfig, folder: Path, service: str) -> None:
    """tuned.json of a service: the settings that each candidate's first search has chosen, for other configurations.

    Not the best of all its searches: who tunes has one, and further ones would change settings that are in use.
    """
    chosen = {}
    for name in config.candidates:
        front = front_of(_searched(folder, service, 1), name)
        place = cheapest([finalist.outcome for finalist in front], config.allowed_slo_violation_rate, config.objective)
        chosen[name] = front[place].settings
    write_json(folder / "searches" / service / "tuned.json", {"simulated": True, "policies": chosen})


def _settings_to_play(config: BenchmarkConfig, tuning: Tuning, folder: Path, task: Task) -> Sequence[Played]:
    if task.policy in config.compared:
        settings = tuning.settings(config.compared[task.policy])
        if settings["kind"] == "fixed":
            settings["replicas"] = min(settings["replicas"], tuning.service.max_replicas)
        return [Played(settings, 0, chosen=True)]
    front = search(tuning, task.policy, _searched(folder, task.service, task.search), lambda share: None)
    chosen = cheapest([finalist.outcome for finalist in front], config.allowed_slo_violation_rate, config.objective)
    return [Played(finalist.settings, place, place == chosen) for place, finalist in enumerate(front)]


def _row(tuning: Tuning, task: Task, played: Played, world: World, seed: int) -> dict[str, Any]:
    """One run. None: nothing was answered (p95_ms)."""
    schedule = world.schedule(tuning.config.model, seed)
    outcome = tuning.outcome(played.settings, schedule, seed)
    p95_s = outcome.latency_s(0.95)
    return {
        "service": task.service,
        "policy": task.policy,
        "search": task.search,
        "kind": played.settings["kind"],
        "point": played.point,
        "chosen": played.chosen,
        "world": world.name,
        "traffic": world.kind,
        "seed": seed,
        "duration_s": world.duration_s,
        "max_replicas": tuning.service.max_replicas,
        "requests": outcome.totals.arrived,
        "decided": outcome.totals.decided,
        "missed": outcome.totals.missed,
        "gpu_seconds": outcome.gpu_seconds,
        **_money(tuning, outcome, world.duration_s),
        "p95_ms": None if p95_s is None else 1e3 * p95_s,
        "changes": outcome.changes,
    }


def _money(tuning: Tuning, outcome: Outcome, duration_s: float) -> dict[str, float]:
    """What a run cost, and what all nodes would cost all the time; nothing without a price."""
    cluster = tuning.config.cluster
    if outcome.cost is None or cluster.node_hour_prices is None:
        return {}
    an_hour = sum(price * pool.most for price, pool in zip(cluster.node_hour_prices, cluster.pools, strict=True))
    return {"money": outcome.cost, "most_money": an_hour * duration_s / HOUR_S}


def _worlds(config: BenchmarkConfig, name: str, split: Split) -> list[World]:
    benchmarked = config.services[name]
    services = read_services(benchmarked.cluster)
    service = served_service(benchmarked.cluster.models[0], services, benchmarked.metrics_delay_s, benchmarked.window_s)
    count = config.training_worlds if split == "training" else config.held_out_worlds
    return worlds(config.traffic, service, split, count, PER_SERVICE * config.seed + _number(name))


def _number(name: str) -> int:
    """Of a service's worlds: its name decides, so that further services change none."""
    return sum(place * ord(letter) for place, letter in enumerate(name, start=1)) % PER_SERVICE


def _tuning(config: BenchmarkConfig, task: Task) -> Tuning:
    """A search on the training worlds."""
    benchmarked, made = config.services[task.service], _worlds(config, task.service, "training")
    model, searched = benchmarked.cluster.models[0].name, config.candidates.get(task.policy)
    tune_config = TuneConfig.model_validate(
        {
            "cluster": benchmarked.cluster,
            "traffic": {model: {"pattern": "constant"}},  # the worlds' own is played
            **({"candidates": {task.policy: searched}} if searched is not None else {}),
            "flags": benchmarked.flags,
            "window_s": benchmarked.window_s,
            "metrics_delay_s": benchmarked.metrics_delay_s,
            "allowed_slo_violation_rate": config.allowed_slo_violation_rate,
            "objective": config.objective,
            "trials": config.trials,
            "seeds": 1,
            "check_seeds": SELECTING_SEEDS,
            "seed": config.seed + PER_SEARCH * (task.search - 1),
        }
    )
    plain = Tuning.of(tune_config)
    return Tuning(
        tune_config,
        plain.services,
        plain.service,
        lambda seed, part, factor: [world.schedule(model, seed) for world in made],
        settled=True,
    )
