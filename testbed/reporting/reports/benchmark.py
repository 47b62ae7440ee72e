"""The report of a benchmark, and wins.json."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.autoscaling.policies import find_policy
from testbed.reporting.benchmark import fronts_of, pods_sentence, read_rows, sentence, wins_of
from testbed.reporting.figures import benchmark as figures
from testbed.reporting.report import Content, Report, rounded


def gather(folder: Path) -> Content:
    """Of its rows."""
    config, wins = read_json(folder / "benchmark.json", "give a folder of `kis benchmark`"), wins_of(folder)
    fronts = fronts_of(read_rows(folder), config)
    settings = config["candidates"] | config["compared"]
    order = sorted(wins["policies"], key=lambda name: wins["policies"][name]["cost_pct"] or float("inf"))
    traffic = list(next(iter(wins["policies"].values()))["chosen"]["by_traffic"])
    winner = wins["winner"]
    values = {
        "name": folder.resolve().name,
        "config": config,
        "wins": wins,
        "sentence": sentence(wins),
        "on_pods": pods_sentence(wins),
        "order": order,
        "told": {name: getattr(find_policy(settings[name]["kind"]), "told", "-") for name in order},
        "kinds": {name: settings[name]["kind"] for name in order},
        "services": list(config["services"]),
        "traffic": traffic,
        "loses": [] if winner is None else _loses(wins, winner, traffic),
    }
    drawn = {
        "fronts": partial(
            figures.fronts, fronts, config["allowed_slo_violation_rate"], config.get("objective") == "cost"
        )
    }
    return Content(values, drawn, {"fronts.png": drawn["fronts"]}, {"wins.json": rounded(wins)})


def _loses(wins: dict[str, Any], winner: str, traffic: list[str]) -> list[dict[str, object]]:
    """Kinds of traffic on which another policy, as it was chosen, misses no more and holds less."""
    own = wins["policies"][winner]["chosen"]["by_traffic"]
    lost = []
    for kind in traffic:
        for name, told in wins["policies"].items():
            other = told["chosen"]["by_traffic"][kind]
            fewer = other["slo_violation_rate"] <= own[kind]["slo_violation_rate"]
            cheaper = other["cost_pct"] < own[kind]["cost_pct"]
            if name not in (winner, *wins["oracles"]) and fewer and cheaper:
                lost.append({"traffic": kind, "policy": name, "other": other, "own": own[kind]})
    return lost


def found(folder: Path) -> str:
    """The winner."""
    return sentence(read_json(folder / "wins.json", "run `kis report` on this folder"))


REPORT = Report(
    "benchmark",
    "benchmark.json",
    "kis benchmark",
    gather,
    question="Which tuned autoscaler needs the fewest GPU-seconds on traffic that nobody tuned on?",
    found=found,
)
