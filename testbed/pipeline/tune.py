"""`kis tune`: the settings of policies for some traffic, found in the simulator.

Each candidate is searched with Optuna for fewer misses and fewer GPU-seconds at once. Of its front, some settings near
the allowed share are played on further runs, and the cheapest that holds there is the candidate's. Last, all of them,
the policy of today and the fewest fixed replicas are checked on runs that nothing was chosen on; of a recorded trace,
on a part of it that no search has seen. The traffic of every run varies (varied.py).

Files in results/<name>/: tune.json (the configuration), tuned.json (what came out), <candidate>/trials.csv and
<candidate>/front.json, <candidate>.yaml (what to apply; of those that hold), logs/<traffic>/<policy>.parquet
(ScalingLog: one run of each that was checked). With families, each has a folder with these.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import yaml

from loadgen.artifact import read_json
from loadgen.schedule import Schedule
from testbed.autoscaling.build import resolved
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.rollout import Outcome, outcome_of, rollout
from testbed.autoscaling.search import ServedService
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import ScalingRecord
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.manifests import manifest_of
from testbed.pipeline.served_rates import completed, served_service
from testbed.pipeline.tune_config import WHOLE, TuneConfig
from testbed.pipeline.varied import varied_schedule
from testbed.reporting.evaluation import log_name
from testbed.reporting.tuning import AS_GOOD
from testbed.simulation.cluster.services import SimulatedService, read_services
from testbed.statistics import mean_interval
from testbed.study import remember
from workloads.files import replacing, write_json, write_text_atomically

SELECT_SEED, CHECK_SEED = 500_000, 1_000_000  # from there on: runs that the search, and the choice, have not seen
NEAR = (0.1, 0.3, 0.6, 1.0, 2.0)  # allowed shares: near each, one setting of a candidate's front is played further
LOUDER = 1.2  # times the rate: what a policy that is to be trusted still holds
WORTHLESS = 4.0  # allowed shares: trials that miss more do not guide the search
LEAST_SHARE = 0.1  # of the allowed one: fewer misses are no better


@dataclass(frozen=True)
class MeanOutcome:
    """Means over runs, each with its 90 % interval over what the seeds draw, None of fewer than three seeds; and the
    P95 of all their requests together, None: none was answered. slo_violation_rate_error: the standard error of that
    mean, None: of a single seed."""

    slo_violation_rate: float
    gpu_seconds: float
    p95_ms: float | None
    changes: float
    slo_violation_rate_interval: tuple[float, float] | None = None
    gpu_seconds_interval: tuple[float, float] | None = None
    slo_violation_rate_error: float | None = None

    def holds(self, allowed_slo_violation_rate: float) -> bool:
        """Does it keep to the allowed share?"""
        return self.slo_violation_rate <= allowed_slo_violation_rate

    def surely_holds(self, allowed_slo_violation_rate: float) -> bool:
        """With a standard error to spare: the best of many is better here than it is."""
        return self.slo_violation_rate + (self.slo_violation_rate_error or 0.0) <= allowed_slo_violation_rate


class Stage(NamedTuple):
    """Runs that something is decided on: their seeds, and the part of a recorded trace that they may show."""

    seeds: Sequence[int]
    part: tuple[float, float]


class Finalist(NamedTuple):
    """Settings of a candidate's front, and what came of them in the runs that choose."""

    settings: dict[str, Any]
    outcome: MeanOutcome


@dataclass(frozen=True)
class Tuning:
    """A configuration with what was read for it. schedules: the traffic of one seed's runs, of a part of a trace.

    settled: a run begins with as many replicas as its first arrivals need, as if it had been going on; else with those
    of the configuration.
    """

    config: TuneConfig
    services: tuple[SimulatedService, ...]
    service: ServedService
    schedules: Callable[[int, tuple[float, float], float], Sequence[Schedule]]
    settled: bool = False

    @classmethod
    def of(cls, config: TuneConfig) -> Tuning:
        """Of its traffic as it varies. ArtifactError or ConfigError if a profile cannot be read or serves nothing
        within the target."""
        services = read_services(config.cluster)
        service = served_service(config.cluster.models[0], services, config.metrics_delay_s, config.window_s)
        return cls(config, services, service, partial(varied_schedules, config))

    @property
    def searched(self) -> Stage:
        """The trials'."""
        return Stage(range(self.config.seed, self.config.seed + self.config.seeds), self.config.searched_part)

    @property
    def selected(self) -> Stage:
        """Of what the trials found."""
        return self._later(SELECT_SEED, self.config.searched_part)

    @property
    def checked(self) -> Stage:
        """Of what was chosen."""
        return self._later(CHECK_SEED, self.config.checked_part)

    def _later(self, first: int, part: tuple[float, float]) -> Stage:
        first += self.config.seed
        return Stage(range(first, first + self.config.check_seeds), part)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A policy's, with the clocks of this cluster and what its service says, where it takes them and has none."""
        given = resolved(dict(given))
        fields = find_policy(given.get("kind")).__dataclass_fields__
        flags = {"flags": self.config.flags.model_dump()} if "flags" in fields else {}
        return completed({**flags, **given}, self.service)

    def suggested(self, trial: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial; what is given stays."""
        base = self.settings(given)
        return {**base, **find_policy(base["kind"]).suggested(trial, self.service, {**base, **given}), **given}

    def played(self, settings: Mapping[str, Any], stage: Stage, factor: float = 1.0) -> MeanOutcome:
        """Each of the traffic under one policy, once for each seed. factor: on its rate."""
        by_seed = [
            [self.outcome(settings, schedule, seed) for schedule in self.schedules(seed, stage.part, factor)]
            for seed in stage.seeds
        ]
        return mean_outcome(by_seed)

    def _run_config(self, settings: Mapping[str, Any], schedule: Schedule, seed: int) -> ClusterRunConfig:
        changed = {"policies": {self.config.model: dict(settings)}, "duration_s": schedule.duration_s, "seed": seed}
        if self.settled:
            served = self.config.cluster.models[0].model_copy(update={"replicas": self._needed_at_first(schedule)})
            changed["cluster"] = self.config.cluster.model_copy(update={"models": (served,)})
        return self.config.model_copy(update=changed)

    def _needed_at_first(self, schedule: Schedule) -> int:
        """Replicas for the arrivals of the first start-up time."""
        seconds = min(self.service.provisioning_delay_s, schedule.duration_s)
        arrived = int(np.searchsorted(schedule.scheduled_s, seconds))
        needed = int(np.ceil(arrived / seconds / self.service.replica.target_rps))
        return min(max(needed, 1), self.service.max_replicas)

    def outcome(self, settings: Mapping[str, Any], schedule: Schedule, seed: int) -> Outcome:
        """Of one run."""
        run_config = self._run_config(settings, schedule, seed)
        run = prepare(run_config, self.services, seed, keep_rows=False, schedule=schedule)
        if not run_config.faults:
            return rollout(run, self.config.model, schedule.duration_s)
        advance(run_config, run, lambda: None, lambda share: None)
        return outcome_of(run, self.config.model)

    def log_runs(self, policies: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
        """A log of the first checked run of each policy on each traffic."""
        seed, part = self.checked.seeds[0], self.checked.part
        for number, schedule in enumerate(self.schedules(seed, part, 1.0), start=1):
            for name, settings in policies.items():
                run_config = self._run_config(settings, schedule, seed)
                run = prepare(run_config, self.services, seed, keep_rows=False, schedule=schedule)
                record = ScalingRecord(run, self.config.model)
                advance(run_config, run, record.note, lambda share: None)
                file = folder / log_name(f"traffic-{number}", name)
                file.parent.mkdir(parents=True, exist_ok=True)
                ScalingLog(record.frame(seed), {"simulated": True, "policy": dict(settings)}).write(file)


def varied_schedules(config: TuneConfig, seed: int, part: tuple[float, float], factor: float = 1.0) -> list[Schedule]:
    """Of each of the configured traffic."""
    return [
        varied_schedule(traffic, config.model, config.duration_s, seed, config.variation, factor=factor, part=part)
        for traffic in config.all_traffic
    ]


def mean_outcome(by_seed: Sequence[Sequence[Outcome]]) -> MeanOutcome:
    """Of runs: those of one seed together are one draw."""
    outcomes = [outcome for runs in by_seed for outcome in runs]
    histogram = np.sum([outcome.histogram for outcome in outcomes], axis=0)
    # None: nothing was sent, so nothing missed.
    missed = [float(np.mean([outcome.slo_violation_rate or 0.0 for outcome in runs])) for runs in by_seed]
    gpu_seconds = [float(np.mean([outcome.gpu_seconds for outcome in runs])) for runs in by_seed]
    intervals = [mean_interval(missed), mean_interval(gpu_seconds)]
    return MeanOutcome(
        slo_violation_rate=float(np.mean(missed)),
        gpu_seconds=float(np.mean(gpu_seconds)),
        p95_ms=1e3 * quantile_of(histogram, 0.95) if histogram.any() else None,
        changes=float(np.mean([outcome.changes for outcome in outcomes])),
        slo_violation_rate_interval=None if intervals[0] is None else (max(0.0, intervals[0].low), intervals[0].high),
        gpu_seconds_interval=None if intervals[1] is None else (max(0.0, intervals[1].low), intervals[1].high),
        slo_violation_rate_error=float(np.std(missed, ddof=1) / np.sqrt(len(missed))) if len(missed) > 1 else None,
    )


class Trials:
    """trials.csv: what each trial suggested and what came of it. The same seed suggests the same, so a search that goes
    on asks for the outcomes of before instead of simulating again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            with file.open(newline="") as rows:
                self.rows = list(csv.DictReader(rows))

    def kept(self, number: int, parameters: Mapping[str, Any]) -> tuple[float, float] | None:
        """Share missed and GPU-seconds of the number-th trial (from 0); None: there is none with these parameters."""
        if number >= len(self.rows):
            return None
        row = self.rows[number]
        same = all(row.get(name) == str(value) for name, value in parameters.items())
        return (float(row["slo_violation_rate"]), float(row["gpu_seconds"])) if same else None

    def keep(self, number: int, row: dict[str, Any]) -> None:
        """Write the number-th trial; what was there of later ones is of another search, and goes."""
        self.rows = [*self.rows[:number], {name: "" if value is None else str(value) for name, value in row.items()}]
        names = list(dict.fromkeys(name for each in self.rows for name, value in each.items() if value != ""))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._file) as temporary, temporary.open("w", newline="") as rows:
            writer = csv.DictWriter(rows, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)


def search(tuning: Tuning, name: str, folder: Path, on_progress: Callable[[float], None]) -> list[Finalist]:
    """A candidate's front near the allowed share, from few misses to many; trials.csv and front.json are written.

    What the folder has of the same search is kept.
    """
    config, given = tuning.config, tuning.config.candidates[name]
    allowed, trials = config.allowed_slo_violation_rate, Trials(folder / name / "trials.csv")
    file = folder / name / "front.json"
    if file.exists():
        on_progress(1.0)
        return front_of(folder, name)
    runs = config.trials * config.seeds + len(NEAR) * config.check_seeds

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        settings = tuning.suggested(trial, given)
        kept = trials.kept(trial.number, trial.params)
        if kept is None:
            outcome = tuning.played(settings, tuning.searched)
            kept = outcome.slo_violation_rate, outcome.gpu_seconds
            shown = {key: value for key, value in outcome.__dict__.items() if not key.endswith(("_interval", "_error"))}
            trials.keep(trial.number, {**trial.params, **shown})
        on_progress((trial.number + 1) * config.seeds / runs)
        trial.set_constraint("missed", kept[0] - WORTHLESS * allowed)
        return float(np.log(kept[0] + LEAST_SHARE * allowed)), float(np.log(max(kept[1], 1e-9)))

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of a trial that ctrl-c ended, with a traceback
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=max(5, config.trials // 4))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    cls = find_policy(tuning.settings(given)["kind"])
    for parameters in cls.first_tried(tuning.service) if hasattr(cls, "first_tried") else ():
        study.enqueue_trial(parameters, skip_if_exists=True)
    study.optimize(objective, n_trials=config.trials)
    front = []
    for number in finalists([trials.kept(trial.number, trial.params) for trial in study.trials], allowed):
        settings = tuning.suggested(optuna.trial.FixedTrial(study.trials[number].params), given)
        front.append(Finalist(settings, tuning.played(settings, tuning.selected)))
        on_progress((config.trials * config.seeds + len(front) * config.check_seeds) / runs)
    front.sort(key=lambda finalist: finalist.outcome.slo_violation_rate)
    rows = [{"settings": finalist.settings, "outcome": finalist.outcome.__dict__} for finalist in front]
    write_json(file, {"simulated": True, "seeds": [*tuning.selected.seeds], "front": rows})
    on_progress(1.0)
    return front


def front_of(folder: Path, name: str) -> list[Finalist]:
    """As a search has left it."""
    front = read_json(folder / name / "front.json", "search again")["front"]
    return [_finalist(row) for row in front]


def _finalist(row: Mapping[str, Any]) -> Finalist:
    return Finalist(dict(row["settings"]), MeanOutcome(**row["outcome"]))


def finalists(outcomes: Sequence[tuple[float, float] | None], allowed: float) -> list[int]:
    """Numbers of at most len(NEAR) trials of the front of (share missed, GPU-seconds): the nearest to each of these
    shares, on a logarithmic scale. What misses the allowed share here may miss more of other runs, or less."""
    known = {number: outcome for number, outcome in enumerate(outcomes) if outcome is not None}
    best, front = np.inf, []
    for number in sorted(known, key=lambda number: known[number]):
        if known[number][1] < best:
            best = known[number][1]
            front.append(number)
    least, found = LEAST_SHARE * allowed, []
    for near in NEAR:
        left = [number for number in front if number not in found]
        distances = [abs(np.log((known[number][0] + least) / (near * allowed + least))) for number in left]
        found += [left[int(np.argmin(distances))]] if left else []
    return sorted(found)


def tune_families(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, dict[str, Any]]:
    """`tune` for each family, in folders of their names; results by family."""
    remember(config, folder / "tune.json", may_grow=("families", "candidates"))
    results = {}
    for done, name in enumerate(config.families):
        results[name] = tune(
            config.of_family(name),
            folder / name,
            lambda share, done=done: on_progress((done + share) / len(config.families)),  # type: ignore[misc]
        )
    return results


def tune(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Search, choose, check on other traffic, write the folder; returns tuned.json's content.

    What a folder has of the same search is kept: its result, or the trials before an interrupt.
    """
    remember(config, folder / "tune.json", may_grow=("candidates",))
    names = list(config.candidates)
    if (folder / "tuned.json").exists():
        before = dict(read_json(folder / "tuned.json", "remove it to search again"))
        if set(names) <= before["policies"].keys():
            on_progress(1.0)
            return before
    tuning, allowed = Tuning.of(config), config.allowed_slo_violation_rate
    chosen_of: dict[str, Finalist] = {}
    if config.model in config.policies:
        given = tuning.settings(config.policies[config.model])
        chosen_of["given"] = Finalist(given, tuning.played(given, tuning.selected))
    fixed = _fewest_fixed(tuning)
    if fixed is not None:
        chosen_of["fixed"] = fixed
    for done, name in enumerate(names):
        front = search(
            tuning,
            name,
            folder,
            lambda share, done=done: on_progress(0.95 * (done + share) / len(names)),  # type: ignore[misc]
        )
        chosen_of[name] = front[cheapest([finalist.outcome for finalist in front], allowed)]
    order = list(chosen_of)
    chosen = order[cheapest([chosen_of[name].outcome for name in order], allowed)]
    checked = {name: tuning.played(chosen_of[name].settings, tuning.checked) for name in order}
    louder = tuning.played(chosen_of[chosen].settings, tuning.checked, LOUDER)
    policies = {name: finalist.settings for name, finalist in chosen_of.items()}
    result = {
        "simulated": True,
        "allowed_slo_violation_rate": allowed,
        "trials": config.trials,
        "check_seeds": [*tuning.checked.seeds],
        "checked_part": [*tuning.checked.part],
        "policies": policies,
        "selected": {name: finalist.outcome.__dict__ for name, finalist in chosen_of.items()},
        "outcomes": {name: outcome.__dict__ for name, outcome in checked.items()},
        "chosen": chosen,
        "holds": checked[chosen].holds(allowed),
        "fixed": None if fixed is None else {**fixed.settings, **checked["fixed"].__dict__},
        "louder": {"factor": LOUDER, **louder.__dict__},
        "notes": _notes(config, checked, chosen, policies, louder),
    }
    _write_manifests(tuning, checked, policies, result, folder)
    tuning.log_runs(policies, folder)
    write_json(folder / "tuned.json", result)
    on_progress(1.0)
    return dict(read_json(folder / "tuned.json", "search again"))


def cheapest(outcomes: Sequence[MeanOutcome], allowed: float) -> int:
    """Of those that surely hold the allowed share, or else of those that hold it, the one with the fewest GPU-seconds,
    or an earlier one that is as good; if none holds it, the one that misses least."""
    places = range(len(outcomes))
    holding = [place for place in places if outcomes[place].surely_holds(allowed)]
    holding = holding or [place for place in places if outcomes[place].holds(allowed)]
    if not holding:
        return min(places, key=lambda place: outcomes[place].slo_violation_rate)
    fewest = min(outcomes[place].gpu_seconds for place in holding)
    return next(place for place in holding if AS_GOOD * outcomes[place].gpu_seconds <= fewest)


def _fewest_fixed(tuning: Tuning) -> Finalist | None:
    """The fewest replicas that surely hold the allowed share all the time, by halving; None: all of them do not."""

    def fixed(replicas: int) -> Finalist:
        settings = {"kind": "fixed", "replicas": replicas}
        return Finalist(settings, tuning.played(settings, tuning.selected))

    allowed = tuning.config.allowed_slo_violation_rate
    low, high = 1, tuning.service.max_replicas
    best = fixed(high)
    if not best.outcome.surely_holds(allowed):
        return None
    while low < high:
        middle = (low + high) // 2
        tried = fixed(middle)
        if tried.outcome.surely_holds(allowed):
            high, best = middle, tried
        else:
            low = middle + 1
    return best


def _notes(
    config: TuneConfig,
    checked: Mapping[str, MeanOutcome],
    chosen: str,
    policies: Mapping[str, Mapping[str, Any]],
    louder: MeanOutcome,
) -> list[str]:
    """What a user must know before using what was found."""
    best, allowed = checked[chosen], f"{config.allowed_slo_violation_rate:.2%}"
    target, most = f"{1e3 * config.cluster.models[0].latency_target_s:g} ms", config.cluster.models[0].max_replicas
    holds = best.holds(config.allowed_slo_violation_rate)
    notes = []
    if not holds:
        notes.append(
            f"{chosen} does not hold the target on traffic that it has not seen: {best.slo_violation_rate:.2%} of the "
            f"requests miss {target}, {allowed} are allowed. It is not written"
        )
        notes.append(
            f"{policies['fixed']['replicas']} replicas all the time hold that share"
            if "fixed" in checked and checked["fixed"].holds(config.allowed_slo_violation_rate)
            else f"Not even {most} replicas all the time hold that share: raise max_replicas or the target"
        )
    if chosen == "given":
        notes.append("No candidate is better than the policy of today")
    if chosen == "fixed":
        notes.append("No candidate saves a hundredth of the GPU-seconds of a fixed number of replicas on this traffic")
    elif best.changes == 0:
        notes.append(f"{chosen} never changes the number of replicas on this traffic")
    if holds and not louder.holds(config.allowed_slo_violation_rate):
        notes.append(
            f"At {LOUDER:g} times the rate {louder.slo_violation_rate:.2%} miss {target}, {allowed} are allowed"
        )
    return notes


def _write_manifests(
    tuning: Tuning,
    checked: Mapping[str, MeanOutcome],
    policies: Mapping[str, Mapping[str, Any]],
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """<name>.yaml for each policy that holds; what an earlier search has left of others goes."""
    config = tuning.config
    for name in policies:
        file = folder / f"{name}.yaml"
        file.unlink(missing_ok=True)
        if name == "fixed" or not checked[name].holds(config.allowed_slo_violation_rate):
            continue
        how, body = manifest_of(policies[name], tuning.service, config)
        lines = [f"# {how}", *_header(tuning, name, checked[name])]
        if name == result["chosen"]:
            lines += [f"# NOTE: {note}." for note in result["notes"]]
        write_text_atomically(file, "\n".join(lines) + "\n" + yaml.safe_dump(body, sort_keys=False))


def _header(tuning: Tuning, name: str, outcome: MeanOutcome) -> list[str]:
    config = tuning.config
    low, high = outcome.slo_violation_rate_interval or (np.nan, np.nan)
    gpu_low, gpu_high = outcome.gpu_seconds_interval or (np.nan, np.nan)
    p95 = "-" if outcome.p95_ms is None else f"{outcome.p95_ms:.1f} ms"
    part = "" if tuning.checked.part == WHOLE else f"the last {config.held_out:.0%} of a trace, "
    return [
        f"# Found by `kis tune` in the simulator ({config.trials} trials). Predicted for a target of "
        f"{1e3 * config.cluster.models[0].latency_target_s:g} ms, on",
        f"# {len(tuning.checked.seeds)} runs that the search has not seen ({part}other arrivals, rates up to "
        f"{config.variation.rate:.0%} off), with 90 % intervals:",
        f"#   P95 {p95}; {outcome.slo_violation_rate:.2%} over the target ({low:.2%} to {high:.2%}); "
        f"{outcome.gpu_seconds:,.0f} GPU-seconds ({gpu_low:,.0f} to {gpu_high:,.0f})",
    ]
