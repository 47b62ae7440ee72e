"""The report of a search for an autoscaler: of one traffic, or of each family of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from loadgen.artifact import ArtifactError, read_json
from testbed.measurement.scaling_log import ScalingLog
from testbed.reporting.evaluation import log_name
from testbed.reporting.figures import tuning as figures
from testbed.reporting.figures.evaluation import ScalingTimeline, timeline_of, timelines
from testbed.reporting.labels import traffic_text
from testbed.reporting.report import Content, Report
from testbed.reporting.tuning import policy_text, sentence

COMPARED = ("given", "fixed")  # policies that were not searched
AGAIN = "run `kis tune` again with this folder"


@dataclass(frozen=True)
class Search:
    """One of the folder's searches. lines: by traffic."""

    stem: str  # names its figures and its anchor
    name: str  # of the family; empty: the only one
    sentence: str
    result: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]  # by name: what each holds and misses
    told: Mapping[str, str]  # by name: what it is
    trials: Mapping[str, pd.DataFrame]  # by candidate
    fronts: Mapping[str, list[tuple[float, float]]]  # by candidate: share missed and what its finalists spent
    lines: Mapping[str, list[ScalingTimeline]]
    manifests: Mapping[str, str]  # by file name

    @property
    def objective(self) -> str:
        """`gpu_seconds` or `cost`."""
        return str(self.result.get("objective", "gpu_seconds"))


def gather(folder: Path) -> Content:
    """Of its searches' files."""
    config = read_json(folder / "tune.json", "give a folder of `kis tune`")
    served = config["cluster"]["models"][0]
    families = families_of(config)
    searches = [
        _search(f"search-{k}", name, folder, traffic, 1e3 * served["latency_target_s"])
        for k, (name, traffic) in enumerate(families.items(), start=1)
    ]
    drawn = {
        f"{one.stem}-trials": partial(
            figures.trials,
            one.trials,
            one.fronts,
            {
                name: _point(one.result["selected"][name], one.objective)
                for name in COMPARED
                if name in one.result["selected"]
            },
            one.result["allowed_slo_violation_rate"],
            one.objective,
            one.result.get("currency", ""),
        )
        for one in searches
    } | {f"{one.stem}-time": partial(timelines, one.lines) for one in searches if one.lines}
    values = {
        "name": folder.resolve().name,
        "config": config,
        "model": served["name"],
        "target_ms": 1e3 * served["latency_target_s"],
        "most": served["max_replicas"],
        "searches": searches,
        "traffic": {name: [traffic_text(one) for one in traffic] for name, traffic in families.items()},
    }
    return Content(values, drawn, {f"figures/{name}.png": draw for name, draw in drawn.items()})


def _search(stem: str, name: str, top: Path, traffic: list[dict[str, Any]], target_ms: float) -> Search:
    result, folder = read_result(top, name), top / name
    chosen, outcomes = result["chosen"], result["outcomes"]
    order = [chosen, *(other for other in outcomes if other != chosen)]
    candidates = [other for other in order if other not in COMPARED]
    lines = {}
    for number, one in enumerate(traffic, start=1):
        files = {policy: folder / log_name(f"traffic-{number}", policy) for policy in order}
        known = [timeline_of(policy, ScalingLog.read(file)) for policy, file in files.items() if file.exists()]
        if known:
            lines[traffic_text(one)] = known
    return Search(
        stem=stem,
        name=name,
        sentence=sentence(result, target_ms),
        result=result,
        rows={
            **{policy: outcomes[policy] for policy in order},
            f"{chosen} at {result['louder']['factor']:g} times the rate": result["louder"],
        },
        told={policy: policy_text(result["policies"][policy]) for policy in order},
        trials={candidate: pd.read_csv(folder / candidate / "trials.csv") for candidate in candidates},
        fronts={
            candidate: [
                _point(row["outcome"], result.get("objective", "gpu_seconds"))
                for row in read_json(folder / candidate / "front.json", AGAIN)["front"]
            ]
            for candidate in candidates
        },
        lines=lines,
        manifests={file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))},
    )


def _point(outcome: Mapping[str, Any], objective: str) -> tuple[float, float]:
    return outcome["slo_violation_rate"], outcome[objective]


def families_of(config: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By name, what each policy is for; one without a name: the only one."""
    model = config["cluster"]["models"][0]["name"]
    return config.get("families") or {"": [config["traffic"][model], *config.get("variants", [])]}


def read_result(folder: Path, name: str) -> dict[str, Any]:
    """Of a folder's search; name: of the family. ArtifactError if there is none, or one of an earlier version."""
    file = folder / name / "tuned.json"
    if not file.exists():
        trials = sum(len(pd.read_csv(kept)) for kept in (folder / name).glob("*/trials.csv"))
        raise ArtifactError(
            f"{folder / name}: the search was not finished: `kis tune CONFIG --out {folder}` goes on with its "
            f"{trials} trials"
        )
    result: dict[str, Any] = read_json(file, AGAIN)
    if "selected" not in result:
        raise ArtifactError(f"{file} is of an earlier version: search again, in another folder")
    return result


def found(folder: Path) -> str:
    """Of the only search, or of each."""
    config = read_json(folder / "tune.json", AGAIN)
    target_ms = 1e3 * config["cluster"]["models"][0]["latency_target_s"]
    told = {name: sentence(read_result(folder, name), target_ms) for name in families_of(config)}
    return " ".join(f"{name}: {text}" if name else text for name, text in told.items())


REPORT = Report(
    "tuning",
    "tune.json",
    "kis tune",
    gather,
    question="Which autoscaler holds the target on this traffic with the fewest GPU-seconds?",
    found=found,
)
