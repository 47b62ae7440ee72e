"""The report of an adaptation: a service that changes, and a policy that is adapted to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from loadgen.artifact import ArtifactError, read_json
from testbed.adaptation.journal import JOURNAL, read_journal
from testbed.reporting.figures import adaptation as figures
from testbed.reporting.labels import counted, number, traffic_text
from testbed.reporting.report import Content, Report

AGAIN = "run `kis adapt` again with this folder"


def gather(folder: Path) -> Content:
    """Of its logs and what they say together."""
    config, result = read_json(folder / "adapt.json", "give a folder of `kis adapt`"), _result(folder)
    steps = read_journal(folder / JOURNAL)
    runs = {name: _rows(folder / f"{name}.csv") for name in ("adapted", "plain")}
    run = config["run"]
    draw = partial(figures.over_time, runs, result["drift"]["at_s"], steps)
    values = {
        "name": folder.resolve().name,
        "result": result,
        "run": run,
        "sentence": sentence(result),
        "policy": run["policies"][result["model"]],
        "traffic": traffic_text(run["traffic"][result["model"]]),
        "steps": [_view(step) for step in steps],
        "smoothed_s": figures.SMOOTHED_S,
    }
    return Content(values, {"over-time": draw}, {"figures/over-time.png": draw})


def sentence(result: Mapping[str, Any]) -> str:
    """Was the change found and made up for?"""
    drift, over = result["drift"], result["slo_violation_rate"]
    change = f"Batches of {result['model']} take {number(drift['factor'], 2)} times as long"
    text = f"{change} from second {number(drift['at_s'], 0)} on."
    false = result["alarms_before_drift"]
    text += f" Before that there {'was' if false == 1 else 'were'} {counted(false, 'false alarm')}." if false else ""
    if result["alarm_after_s"] is None:
        return f"{text} That was not noticed: {_share(over['not_adapted'])} of the requests then miss the target."
    text += f" It was noticed {number(result['alarm_after_s'], 0, 's')} after that"
    if result["promoted_after_s"] is None:
        return f"{text}, but no policy was put in the place of the one that was there."
    text += f", and another policy put in charge after {number(result['promoted_after_s'], 0, 's')}: from then on"
    better = over["adapted"] is not None and over["not_adapted"] is not None and over["adapted"] < over["not_adapted"]
    shares = [_share(over[name]) for name in ("adapted", "not_adapted")]
    against = f"{shares[0]} of the requests miss the target, without the adaptation {shares[1]}"
    return f"{text} {against}.{'' if better else ' The adaptation did not help.'}"


def _share(rate: float | None) -> str:
    return "none that ended" if rate is None else number(100 * rate, 2, "%")


def _view(step: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of steps."""
    told = step["figures"]
    gains = {told["candidate"]: told["gain"], **told["gains_of_others"]} if "candidate" in told else {}
    return {**{key: step[key] for key in ("time_s", "state", "why")}, "gains": gains}


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = read_json(folder / "adaptation.json", AGAIN)
    return result


def _rows(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except FileNotFoundError:
        raise ArtifactError(f"{file} does not exist: {AGAIN}") from None


def found(folder: Path) -> str:
    """By adaptation.json."""
    return sentence(_result(folder))


REPORT = Report(
    "adaptation",
    "adapt.json",
    "kis adapt",
    gather,
    question="A service becomes slower: is it noticed, and does its autoscaler go on holding the target?",
    found=found,
)
