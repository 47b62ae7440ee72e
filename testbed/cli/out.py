"""Where a command leaves its results, and what becomes of results that are there: one rule for all commands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from testbed.cli.console import say
from testbed.errors import ConfigError
from testbed.words import counted


class Left(NamedTuple):
    """What tells that a folder has a command's results (any of the files), and what that command does with it.

    refuses: what was measured is never measured over. replaces: a result that its seed gives again; the pipeline
    refuses other settings. continues: what is complete is kept; the pipeline refuses other settings.
    """

    markers: tuple[str, ...]
    again: Literal["refuses", "replaces", "continues"]


LEFT = {
    "replay": Left(("run.json",), "refuses"),
    "measure": Left(("run.json",), "refuses"),
    "traffic": Left(("traffic.json",), "replaces"),
    "simulate": Left(("run.json",), "replaces"),
    "simulate --cluster": Left(("cluster.json",), "replaces"),
    "plan": Left(("plan.json",), "replaces"),
    "pack": Left(("packing.json",), "replaces"),
    "demo": Left(("measured/config.json",), "continues"),
    "calibrate": Left(("config.json",), "continues"),
    "devices": Left(("devices.json",), "continues"),
    "study": Left(("study.json",), "continues"),
    "tune-service": Left(("tune-service.json",), "continues"),
    "tune": Left(("tune.json",), "continues"),
    "train": Left(("train.json", "seeds.json"), "continues"),
    "benchmark": Left(("benchmark.json",), "continues"),
    "evaluate": Left(("evaluate.json",), "continues"),
    "adapt": Left(("adapt.json",), "continues"),
    "experiment": Left(("experiment.json",), "continues"),
}
_SAID = {
    "replaces": "the same settings give the same ones again, in their place",
    "continues": "what is complete is kept",
}


def new_folder(what: str) -> Path:
    """Under results/ of the current folder, named after the time."""
    return Path("results") / f"{dt.datetime.now():%Y%m%d-%H%M%S}-{what}"


def out_folder(out: Path | None, command: str, what: str | None = None) -> Path:
    """The folder that was asked for, or a new one of that name; before any work.

    Says what becomes of the results of an earlier `command` there. ConfigError if they may not be touched, or if they
    are another command's.
    """
    if out is None:
        return new_folder(what or command)
    mine = LEFT[command]
    found = {name: one for name, one in LEFT.items() if any((out / marker).exists() for marker in one.markers)}
    others = [name for name, one in found.items() if not set(one.markers) & set(mine.markers)]
    if others:
        raise ConfigError(f"{out} has results of kis {' or '.join(others)}: choose another folder with --out")
    if found and mine.again == "refuses":
        raise ConfigError(f"{out} already holds a run: choose another folder with --out, or remove it")
    if found:
        say(f"{out} has results: {_SAID[mine.again]}")
    return out


def runs_and_minutes(runs: int, left_s: Collection[float]) -> str:
    """`6 real runs, at least 12 min`; left_s: the traffic's seconds in each that is not there yet."""
    whole = counted(runs, "real run")
    if not left_s:
        return f"{whole}, all kept"
    kept = "" if len(left_s) == runs else f", {runs - len(left_s)} of them kept"
    return f"{whole}{kept}, at least {max(1, int(sum(left_s) / 60))} min"
