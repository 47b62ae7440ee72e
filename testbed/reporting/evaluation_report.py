"""The report of an evaluation: evaluation.json, report.html, report.md and pictures, from the folder's logs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from loadgen.artifact import read_json
from testbed.measurement.scaling_log import ScalingLog
from testbed.reporting import evaluation_figures, style
from testbed.reporting.evaluation import log_name, recomputed
from testbed.reporting.evaluation_figures import Timeline, timeline_of
from testbed.reporting.page import environment, script_json
from testbed.reporting.verdict import verdict
from workloads.files import write_json, write_text_atomically


@dataclass(frozen=True)
class EvaluationContext:
    """Everything that the report says."""

    name: str
    found: dict[str, Any]
    config: dict[str, Any]
    oracle: str | None
    provenance: dict[str, dict[str, dict[str, Any]]]  # traffic -> policy -> of its log

    @property
    def verdict(self) -> str:
        """The first sentences."""
        return verdict(self.found)

    @property
    def shown(self) -> list[str]:
        """Policies whose replicas are drawn: challenger, baseline, oracle."""
        named = [self.found["challenger"], self.found["baseline"], self.oracle]
        return [policy for policy in dict.fromkeys(named) if policy is not None]

    @property
    def energy_known(self) -> bool:
        """Of every run of some policy?"""
        return any(one["energy_j"] is not None for one in self.found["policies"].values())

    @property
    def sha256(self) -> dict[str, str]:
        """Of every file that a run was made with."""
        every = [one["sha256"] for policies in self.provenance.values() for one in policies.values()]
        return {file: value for one in every for file, value in one.items()}

    def settings_of(self, policy: str) -> dict[str, dict[str, Any]]:
        """By traffic, or once under `every traffic` if they are the same."""
        each = {traffic: policies[policy]["policy"] for traffic, policies in self.provenance.items()}
        first = next(iter(each.values()))
        return {"every traffic": first} if all(one == first for one in each.values()) else each


def write_evaluation_report(folder: Path) -> Path:
    """Write everything again; returns report.html. ArtifactError or ReportError if a log cannot be read."""
    found = recomputed(folder)
    write_json(folder / "evaluation.json", found)
    context, timelines = _gather(folder, found)
    evaluation_figures.save_pareto(found, folder / "pareto.png")
    evaluation_figures.save_timelines(timelines, folder / "timelines.png")
    text = environment(html=False).get_template("evaluation.md.j2").render(c=context)
    write_text_atomically(folder / "report.md", text)
    page = folder / "report.html"
    write_text_atomically(
        page,
        environment(html=True)
        .get_template("evaluation.html.j2")
        .render(c=context, figures=_figures(found, timelines), plotly_js=Markup(get_plotlyjs()), style=style),
    )
    return page


def is_evaluation(folder: Path) -> bool:
    """Did `kis evaluate` write this folder?"""
    return (folder / "evaluate.json").exists()


def _gather(folder: Path, found: dict[str, Any]) -> tuple[EvaluationContext, dict[str, list[Timeline]]]:
    config = read_json(folder / "evaluate.json", "give a folder of `kis evaluate`")
    logs = {
        traffic: {policy: ScalingLog.read(folder / log_name(traffic, policy)) for policy in config["policies"]}
        for traffic in config["traffic"]
    }
    provenance = {
        traffic: {policy: log.provenance for policy, log in policies.items()} for traffic, policies in logs.items()
    }
    far = found.get("distance_to_oracle_pct")
    oracle = None if far is None else next(policy for policy in found["policies"] if policy not in far)
    context = EvaluationContext(folder.resolve().name, found, config, oracle, provenance)
    timelines = {
        traffic: [timeline_of(policy, policies[policy]) for policy in context.shown]
        for traffic, policies in logs.items()
    }
    return context, timelines


def _figures(found: Mapping[str, Any], timelines: Mapping[str, list[Timeline]]) -> dict[str, Markup]:
    drawn = {"pareto": evaluation_figures.pareto(found)}
    drawn |= {
        f"traffic-{k}": evaluation_figures.over_time(lines) for k, lines in enumerate(timelines.values(), start=1)
    }
    return {name: script_json(figure) for name, figure in drawn.items()}
