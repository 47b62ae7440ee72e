"""`kis tune-hpa`: the HPA of some traffic, found in the simulator, beside the one that it is measured against.

Files in results/<name>/: tune.json (the configuration), trials.csv (each that was tried), hpa.yaml (the better one of
both), tuned.json (both, on traffic with other seeds than the search had, beside the fewest fixed replicas that hold the
allowed share, and what is to be said against them), logs/<traffic>/<policy>.parquet (ScalingLog: a run of each on such
traffic). With families, each has a folder with these.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml

from loadgen.artifact import read_json
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.metrics import METRICS, ReplicaCapacity
from testbed.autoscaling.policies import Hpa
from testbed.autoscaling.rollout import Outcome, outcome_of
from testbed.config import TrafficConfig
from testbed.errors import ConfigError
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline.cluster_run import advance, prepare, scaling_run
from testbed.pipeline.traffic import louder_schedule, own_length_s
from testbed.pipeline.tune_hpa_config import TuneConfig
from testbed.reporting.evaluation import log_name
from testbed.reporting.tuning import AS_GOOD
from testbed.simulation.cluster.services import SimulatedService, read_services
from testbed.simulation.load_curve import rate_within
from testbed.study import remember
from workloads.files import replacing, write_json, write_text_atomically

CHECK_SEED = 1_000_000  # from here on: traffic that the search has not seen
CHECKED = 4  # policies at the end: both HPAs, fixed replicas, the better HPA under more traffic
LOUDER = 1.2  # times the rate: what an HPA that is to be trusted still holds
STEEP = 50.0  # each share missed beyond the allowed one costs so many times the GPU-seconds


@dataclass(frozen=True)
class MeanOutcome:
    """Means over runs, and the P95 of all their requests together; None: none was answered."""

    slo_violation_rate: float
    gpu_seconds: float
    p95_ms: float | None
    changes: float

    def holds(self, allowed_slo_violation_rate: float) -> bool:
        """Does it keep to the allowed share?"""
        return self.slo_violation_rate <= allowed_slo_violation_rate

    def cost(self, allowed_slo_violation_rate: float) -> float:
        """GPU-seconds, and more for what is missed beyond the allowed share: what the search makes small."""
        return self.gpu_seconds * (1.0 + STEEP * max(0.0, self.slo_violation_rate - allowed_slo_violation_rate))


class Trials:
    """trials.csv: what each trial suggested and cost. The same seed suggests the same, so a search that goes on asks
    for the costs of before instead of simulating again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        if file.exists():
            with file.open(newline="") as rows:
                self._rows = list(csv.DictReader(rows))

    def kept_cost(self, number: int, parameters: Mapping[str, Any]) -> float | None:
        """Of the number-th trial (from 0); None: there is none with these parameters."""
        if number >= len(self._rows):
            return None
        row = self._rows[number]
        same = all(row.get(name) == str(value) for name, value in parameters.items())
        return float(row["cost"]) if same else None

    def keep(self, number: int, row: dict[str, Any]) -> None:
        """Write the number-th trial; what was there of later ones is of another search, and goes."""
        self._rows = [*self._rows[:number], {name: "" if value is None else str(value) for name, value in row.items()}]
        names = list(dict.fromkeys(name for each in self._rows for name, value in each.items() if value != ""))
        with replacing(self._file) as temporary, temporary.open("w", newline="") as rows:
            writer = csv.DictWriter(rows, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows)


def tune_families(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, dict[str, Any]]:
    """tune_hpa for each family, in folders of their names; results by family."""
    remember(config, folder / "tune.json", may_grow=("families",))
    results = {}
    for done, name in enumerate(config.families):
        results[name] = tune_hpa(
            config.of_family(name),
            folder / name,
            lambda share, done=done: on_progress((done + share) / len(config.families)),  # type: ignore[misc]
        )
    return results


def tune_hpa(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Search, check on other traffic, write the folder; returns tuned.json's content.

    What a folder has of the same search is kept: its result, or the trials before an interrupt.
    """
    remember(config, folder / "tune.json")
    if (folder / "tuned.json").exists():
        on_progress(1.0)
        return dict(read_json(folder / "tuned.json", "remove it to search again"))
    services = read_services(config.cluster)
    served = config.cluster.models[0]
    given = config.policies.get(served.name)  # it runs on the same cluster: with its flags, unless it names some
    untuned = _by_default(config) if given is None else {"flags": config.flags.model_dump(), **given}
    if untuned.get("kind") != "hpa":
        raise ConfigError(
            f"policies: {served.name} has kind {untuned.get('kind')!r}; give the HPA to improve on, or none"
        )
    most_rps = rate_within(services[0].profile, services[0].config, served.latency_target_s)
    trials = Trials(folder / "trials.csv")
    runs = config.trials * config.seeds + CHECKED * config.check_seeds

    def objective(trial: optuna.Trial) -> float:
        settings = _suggested(config, services[0], most_rps, trial)
        cost = trials.kept_cost(trial.number, trial.params)
        if cost is None:
            outcome = mean_outcome(config, services, settings, [config.seed + k for k in range(config.seeds)])
            cost = outcome.cost(config.allowed_slo_violation_rate)
            trials.keep(trial.number, {**trial.params, **outcome.__dict__, "cost": cost})
        on_progress((trial.number + 1) * config.seeds / runs)
        return cost

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of a trial that ctrl-c ended, with a traceback
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=max(5, config.trials // 4))
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=config.trials)
    tuned = _suggested(config, services[0], most_rps, optuna.trial.FixedTrial(study.best_params))
    seeds = [CHECK_SEED + config.seed + k for k in range(config.check_seeds)]
    policies = {"untuned": untuned, "tuned": tuned}
    checked = {}
    for name, policy in policies.items():
        checked[name] = mean_outcome(config, services, policy, seeds)
        on_progress((config.trials * config.seeds + len(checked) * config.check_seeds) / runs)
    chosen = better(checked, config.allowed_slo_violation_rate)
    fixed = _fewest_fixed(config, services, seeds)
    on_progress(1 - config.check_seeds / runs)
    louder = mean_outcome(config, services, policies[chosen], seeds, LOUDER)
    on_progress(1.0)
    hpa = build_policy(policies[chosen], served.max_replicas, None)
    assert isinstance(hpa, Hpa)
    body = hpa_object(hpa.spec, config.deployment, config.namespace, config.deployment)
    notes = _notes(config, checked, chosen, fixed, louder)
    header = _header(config, checked, notes)
    write_text_atomically(folder / "hpa.yaml", header + yaml.safe_dump(body, sort_keys=False))
    result = {
        "simulated": True,
        "allowed_slo_violation_rate": config.allowed_slo_violation_rate,
        "trials": config.trials,
        "check_seeds": seeds,
        "policies": policies,
        "outcomes": {name: outcome.__dict__ for name, outcome in checked.items()},
        "chosen": chosen,
        "holds": checked[chosen].holds(config.allowed_slo_violation_rate),
        "fixed": None if fixed is None else {"replicas": fixed[0], **fixed[1].__dict__},
        "louder": {"factor": LOUDER, **louder.__dict__},
        "notes": notes,
    }
    shown = policies if fixed is None else {**policies, f"fixed-{fixed[0]}": {"kind": "fixed", "replicas": fixed[0]}}
    _log_runs(config, services, shown, seeds[0], folder)
    write_json(folder / "tuned.json", result)
    return result


def _log_runs(
    config: TuneConfig,
    services: Sequence[SimulatedService],
    policies: Mapping[str, Mapping[str, Any]],
    seed: int,
    folder: Path,
) -> None:
    """A log of one run of each policy on each traffic."""
    for number, traffic in enumerate(all_traffic(config), start=1):
        for name, settings in policies.items():
            frame = scaling_run(_run_of(config, settings, traffic, seed), services)
            file = folder / log_name(f"traffic-{number}", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            ScalingLog(frame, {"simulated": True, "policy": dict(settings)}).write(file)


def all_traffic(config: TuneConfig) -> tuple[TrafficConfig, ...]:
    """What a trial plays."""
    return (config.traffic[config.cluster.models[0].name], *config.variants)


def _run_of(config: TuneConfig, settings: Mapping[str, Any], traffic: TrafficConfig, seed: int) -> TuneConfig:
    """One run of a trial."""
    name = config.cluster.models[0].name
    duration_s = own_length_s(traffic) or config.duration_s
    change = {"policies": {name: dict(settings)}, "traffic": {name: traffic}, "duration_s": duration_s, "seed": seed}
    return config.model_copy(update=change)


def mean_outcome(
    config: TuneConfig,
    services: Sequence[SimulatedService],
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    factor: float = 1.0,
) -> MeanOutcome:
    """The traffic, each of its variants, under one policy, once for each seed. factor: on its rate."""
    name = config.cluster.models[0].name
    outcomes: list[Outcome] = []
    for traffic in all_traffic(config):
        for seed in seeds:
            changed = _run_of(config, settings, traffic, seed)
            schedule = None if factor == 1.0 else louder_schedule(traffic, factor, changed.duration_s, seed, name)
            run = prepare(changed, services, seed, keep_rows=False, schedule=schedule)
            advance(changed, run, lambda: None, lambda share: None)
            outcomes.append(outcome_of(run, name))
    histogram = np.sum([outcome.histogram for outcome in outcomes], axis=0)
    return MeanOutcome(
        # None: nothing was sent, so nothing missed.
        slo_violation_rate=float(np.mean([outcome.slo_violation_rate or 0.0 for outcome in outcomes])),
        gpu_seconds=float(np.mean([outcome.gpu_seconds for outcome in outcomes])),
        p95_ms=1e3 * quantile_of(histogram, 0.95) if histogram.any() else None,
        changes=float(np.mean([outcome.changes for outcome in outcomes])),
    )


def better(checked: Mapping[str, MeanOutcome], allowed_slo_violation_rate: float) -> str:
    """The cheapest of those that hold the allowed share; if none does, the one that misses least."""
    holding = [name for name, outcome in checked.items() if outcome.holds(allowed_slo_violation_rate)]
    if holding:
        return min(holding, key=lambda name: checked[name].gpu_seconds)
    return min(checked, key=lambda name: checked[name].slo_violation_rate)


def _fewest_fixed(
    config: TuneConfig, services: Sequence[SimulatedService], seeds: Sequence[int]
) -> tuple[int, MeanOutcome] | None:
    """The fewest replicas that hold the allowed share all the time, by halving; None: all of them do not."""

    def outcome(replicas: int) -> MeanOutcome:
        return mean_outcome(config, services, {"kind": "fixed", "replicas": replicas}, seeds)

    low, high = 1, config.cluster.models[0].max_replicas
    best = outcome(high)
    if not best.holds(config.allowed_slo_violation_rate):
        return None
    while low < high:
        middle = (low + high) // 2
        tried = outcome(middle)
        if tried.holds(config.allowed_slo_violation_rate):
            high, best = middle, tried
        else:
            low = middle + 1
    return high, best


def _notes(
    config: TuneConfig,
    checked: Mapping[str, MeanOutcome],
    chosen: str,
    fixed: tuple[int, MeanOutcome] | None,
    louder: MeanOutcome,
) -> list[str]:
    """What a user must know before using the HPA; the first is why it is not to be used, if it does not hold."""
    best, allowed = checked[chosen], f"{config.allowed_slo_violation_rate:.2%}"
    target = f"{1e3 * config.cluster.models[0].latency_target_s:g} ms"
    most = config.cluster.models[0].max_replicas
    notes = []
    if not best.holds(config.allowed_slo_violation_rate):
        notes.append(
            f"It does not hold: {best.slo_violation_rate:.2%} of the requests miss {target}, {allowed} are allowed"
        )
        notes.append(
            f"{fixed[0]} replicas all the time hold that share: give more trials"
            if fixed is not None
            else f"Not even {most} replicas all the time hold that share: raise max_replicas or the target"
        )
    if chosen == "untuned":
        notes.append("The search found nothing better than the given HPA: that one is written")
    if (
        fixed is not None
        and best.holds(config.allowed_slo_violation_rate)
        and best.gpu_seconds >= AS_GOOD * fixed[1].gpu_seconds
    ):
        notes.append(
            f"It saves nothing on this traffic: {fixed[0]} replicas all the time miss "
            f"{fixed[1].slo_violation_rate:.2%} ({allowed} allowed) with {fixed[1].gpu_seconds:,.0f} GPU-seconds, "
            f"this HPA takes {best.gpu_seconds:,.0f}"
        )
    if best.changes == 0:
        notes.append("It never changes the number of replicas on this traffic")
    if best.holds(config.allowed_slo_violation_rate) and not louder.holds(config.allowed_slo_violation_rate):
        notes.append(
            f"At {LOUDER:g} times the rate {louder.slo_violation_rate:.2%} miss {target}, {allowed} are allowed"
        )
    return notes


def _by_default(config: TuneConfig) -> dict[str, Any]:
    """What people begin with: one full batch in flight for each instance, and everything else as Kubernetes has it."""
    served = config.cluster.models[0]
    return _settings(config, "in_flight_requests", float(served.max_batch_size * served.instances), 1, None)


def _settings(
    config: TuneConfig, metric: str, target: float, min_replicas: int, behavior: dict[str, Any] | None
) -> dict[str, Any]:
    """A policy's configuration."""
    return {
        "kind": "hpa",
        "metric": metric,
        "target": target,
        "min_replicas": min_replicas,
        "max_replicas": config.cluster.models[0].max_replicas,
        "flags": config.flags.model_dump(),
        "window_s": config.window_s,
        "metrics_delay_s": config.metrics_delay_s,
        **({} if behavior is None else {"behavior": behavior}),
    }


def _suggested(config: TuneConfig, service: SimulatedService, most_rps: float, trial: Any) -> dict[str, Any]:
    """A trial's HPA. Targets are searched around what one replica can do; most_rps: within the latency target."""
    served = config.cluster.models[0]
    batch = served.max_batch_size if served.dynamic_batching is not None else 1
    full_rps = served.instances * batch / service.profile.service_time.mean_s[batch - 1]
    replica = ReplicaCapacity(served.instances, batch, full_rps, most_rps, served.latency_target_s)
    metric = trial.suggest_categorical("metric", list(config.metrics))
    target = trial.suggest_float(f"target_{metric}", *METRICS.find(metric).targets(replica), log=True)
    least = trial.suggest_int("min_replicas", 1, max(1, served.max_replicas // 2))
    period_s = config.flags.sync_period_s
    up = trial.suggest_int("up_pods", 1, max(1, served.max_replicas))
    down = trial.suggest_int("down_pods", 1, max(1, served.max_replicas))
    behavior = {
        "scale_up": {
            "stabilization_window_s": 0,
            "policies": [{"type": "Pods", "value": up, "period_s": period_s}],
        },
        "scale_down": {
            "stabilization_window_s": period_s * trial.suggest_int("down_window_periods", 0, 40),
            "policies": [{"type": "Pods", "value": down, "period_s": period_s}],
        },
    }
    return _settings(config, metric, target, least, behavior)


def _header(config: TuneConfig, checked: Mapping[str, MeanOutcome], notes: Sequence[str]) -> str:
    lines = [
        f"# Found by `kis tune-hpa` in the simulator ({config.trials} trials). Predicted on {config.check_seeds} runs",
        f"# that the search did not see, for a target of {1e3 * config.cluster.models[0].latency_target_s:g} ms:",
    ]
    for name, outcome in checked.items():
        p95 = "-" if outcome.p95_ms is None else f"{outcome.p95_ms:.1f} ms"
        lines.append(
            f"#   {name}: P95 {p95}, {100 * outcome.slo_violation_rate:.2f} % over the target, "
            f"{outcome.gpu_seconds:.0f} GPU-seconds"
        )
    return "\n".join([*lines, *(f"# NOTE: {note}" for note in notes)]) + "\n"
