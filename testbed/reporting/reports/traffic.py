"""The report of a trace: what somebody's traffic has."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.reporting.figures.traffic import rate_over_time
from testbed.reporting.report import Content, Report
from testbed.reporting.traffic import facts_of, sentence, span_text

FILE = "traffic.json"


def gather(folder: Path) -> Content:
    """Of traffic.json alone."""
    facts = _facts(folder)
    windows = [{**one, "name": span_text(one["window_s"])} for one in facts["windows"]]
    values = {
        "name": folder.resolve().name,
        "file": Path(facts["config"]["trace"]).name,
        "sentence": sentence(facts),
        "rows": facts_of(facts),
        "windows": windows,
        "notes": facts["notes"],
    }
    draw = partial(rate_over_time, facts)
    return Content(values, {"rate": draw}, {"rate.png": draw})


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = read_json(folder / FILE, "run `kis traffic` again")
    return facts


def found(folder: Path) -> str:
    """How much comes, and how."""
    return sentence(_facts(folder))


REPORT = Report("traffic", FILE, "kis traffic", gather, question="What is in a log of traffic?", found=found)
