"""The report of a plan: how many replicas, with which settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import ArtifactError, read_json
from testbed.reporting.figures.plan import plan as plan_figure
from testbed.reporting.labels import device_text, traffic_text
from testbed.reporting.plan import beside_the_table, goal_text, sentence, settings_of
from testbed.reporting.report import Content, Report

FILE = "plan.json"


def gather(folder: Path) -> Content:
    """Of plan.json alone."""
    plan = read_plan(folder)
    settings = settings_of(plan)
    own = device_text(plan["device"]["name"], plan["device"]["kind"] == "emulated")
    values = {
        "name": folder.resolve().name,
        "plan": plan,
        "goal": goal_text(plan),
        "sentence": sentence(plan),
        "beside_the_table": beside_the_table(plan),
        "settings": settings,
        "traffic": traffic_text({**plan["config"]["traffic"], "parameters": plan["parameters"]}),
        "device": ", ".join([own, *(plan["config"].get("other_gpus") or {})]),
    }
    draw = partial(plan_figure, settings, plan["target_ms"], plan["percentile"])
    return Content(values, {"plan": draw}, {"plan.png": draw})


def read_plan(folder: Path) -> dict[str, Any]:
    """ArtifactError if there is none, or one of an earlier version."""
    plan: dict[str, Any] = read_json(folder / FILE, "run `kis plan` again")
    if "config" not in plan:
        raise ArtifactError(f"{folder / FILE} is of an earlier version: run `kis plan` again")
    return plan


def found(folder: Path) -> str:
    """What to use."""
    return sentence(read_plan(folder))


REPORT = Report(
    "plan", FILE, "kis plan", gather, question="How many replicas, with which settings, hold a target?", found=found
)
