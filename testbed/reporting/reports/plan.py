"""The report of a plan: how many replicas, with which settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from loadgen.artifact import read_json
from testbed.errors import ReportError
from testbed.reporting.figures.plan import plan as plan_figure
from testbed.reporting.labels import device_text, traffic_text
from testbed.reporting.plan import goal_text, sentence, settings_of
from testbed.reporting.report import Content, Report

FILE = "plan.json"


def gather(folder: Path) -> Content:
    """Of plan.json alone."""
    plan = read_json(folder / FILE, "run `kis plan` again")
    if "config" not in plan:
        raise ReportError(f"{folder / FILE} is of an earlier version: run `kis plan` again")
    settings = settings_of(plan)
    values = {
        "name": folder.resolve().name,
        "plan": plan,
        "goal": goal_text(plan),
        "sentence": sentence(plan),
        "settings": settings,
        "traffic": traffic_text({**plan["config"]["traffic"], "parameters": plan["parameters"]}),
        "device": device_text(plan["device"]["name"], plan["device"]["kind"] == "emulated"),
    }
    draw = partial(plan_figure, settings, plan["target_ms"], plan["percentile"])
    return Content(values, {"plan": draw}, {"plan.png": draw})


REPORT = Report("plan", FILE, "kis plan", gather)
