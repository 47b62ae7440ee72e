"""The search of one policy's settings: its trials, and those of its front that are played further.

Optuna looks for few misses and few GPU-seconds, or little money, at once. The same seed suggests the same, so that a
search which was interrupted goes on from trials.csv.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna

from loadgen.artifact import ArtifactError, read_csv_rows, read_json
from testbed.autoscaling.policies import find_policy
from testbed.pipeline.objective import Objective
from testbed.pipeline.tuning_runs import MeanOutcome, Tuning
from testbed.reporting.tuning import AS_GOOD
from workloads.files import finite, replacing, write_json

NEAR = (0.1, 0.3, 0.6, 1.0, 2.0)  # allowed shares: near each, one setting of a candidate's front is played further
WORTHLESS = 4.0  # allowed shares: trials that miss more do not guide the search
LEAST_SHARE = 0.1  # of the allowed one: fewer misses are no better


class Finalist(NamedTuple):
    """Settings of a candidate's front, and what came of them in the runs that choose."""

    settings: dict[str, Any]
    outcome: MeanOutcome


AGAIN = "remove it to search again"


class Trials:
    """trials.csv: what each trial suggested and what came of it. The same seed suggests the same, so a search that goes
    on asks for the outcomes of before instead of simulating again."""

    def __init__(self, file: Path, objective: Objective = "gpu_seconds") -> None:
        self._file, self._objective = file, objective
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            self.rows = read_csv_rows(file, dict, AGAIN)

    def kept(self, number: int, parameters: Mapping[str, Any]) -> tuple[float, float] | None:
        """Share missed and what the number-th trial (from 0) spent; None: there is none with these parameters."""
        if number >= len(self.rows):
            return None
        row = self.rows[number]
        same = all(row.get(name) == str(value) for name, value in parameters.items())
        if not same:
            return None
        try:
            return finite(row["slo_violation_rate"]), finite(row[self._objective])
        except (KeyError, ValueError, TypeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ArtifactError(f"{self._file}, row {number + 1}: not as kis writes it ({what}): {AGAIN}") from None

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
    allowed, trials = config.allowed_slo_violation_rate, Trials(folder / name / "trials.csv", config.objective)
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
            kept = outcome.slo_violation_rate, outcome.spent(config.objective)
            shown = {
                key: value for key, value in outcome.as_dict().items() if not key.endswith(("_interval", "_error"))
            }
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
    rows = [{"settings": finalist.settings, "outcome": finalist.outcome.as_dict()} for finalist in front]
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
    """Numbers of at most len(NEAR) trials of the front of (share missed, spent): the nearest to each of these
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


def cheapest(outcomes: Sequence[MeanOutcome], allowed: float, objective: Objective = "gpu_seconds") -> int:
    """Of those that surely hold the allowed share, or else of those that hold it, the one that spends least, or an
    earlier one that is as good; if none holds it, the one that misses least."""
    places = range(len(outcomes))
    holding = [place for place in places if outcomes[place].surely_holds(allowed)]
    holding = holding or [place for place in places if outcomes[place].holds(allowed)]
    if not holding:
        return min(places, key=lambda place: outcomes[place].slo_violation_rate)
    fewest = min(outcomes[place].spent(objective) for place in holding)
    return next(place for place in holding if AS_GOOD * outcomes[place].spent(objective) <= fewest)
