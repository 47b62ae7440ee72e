"""The report of `kis tune-service`: which instances, batches and queue delay, and what the best did for real."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.reporting.figures.service_tuning import settings as settings_figure
from testbed.reporting.labels import traffic_text
from testbed.reporting.report import Content, Report
from testbed.reporting.service_tuning import (
    cost_text,
    effort_text,
    error_pct,
    goal_text,
    range_text,
    real_text,
    sentence,
    setting_name,
)

FILE = "tuned-service.json"


def gather(folder: Path) -> Content:
    """Of tuned-service.json alone; the pages of the calibrations stand beside theirs."""
    tuned: dict[str, Any] = read_json(folder / FILE, "run `kis tune-service` again")
    config, rows = tuned["config"], tuned["settings"]
    picked = [one["setting"] for one in tuned["picks"]]
    picks = [
        {
            "number": place,
            "name": setting_name(row),
            "replicas": row["service"]["replicas"],
            "cost": cost_text(tuned, row),
            "file": pick["file"],
            "open": pick.get("open"),
            "runs": [
                {
                    "what": what,
                    "told": told,
                    "predicted": range_text(told["predicted_ms"]),
                    "real": real_text(pick, name),
                    "error_pct": error_pct(pick, name),
                }
                for name, what in (("traffic", "the traffic"), ("most", "the largest rate within the target"))
                if (told := pick["runs"].get(name)) is not None
            ],
        }
        for place, pick in enumerate(tuned["picks"], start=1)
        if (row := rows[pick["setting"]]) is not None
    ]
    shown = sorted(
        (
            {
                "name": setting_name(row),
                "row": row,
                "pick": picked.index(place) + 1 if place in picked else None,
                "latency": range_text(row["latency_ms"]),
                "cost": cost_text(tuned, row),
            }
            for place, row in enumerate(rows)
        ),
        key=lambda one: (not one["row"]["holds"], one["row"]["service"]["replicas"], -one["row"]["throughput_rps"]),
    )
    values = {
        "name": folder.resolve().name,
        "tuned": tuned,
        "goal": goal_text(tuned),
        "sentence": sentence(tuned),
        "effort": effort_text(tuned),
        "picks": picks,
        "settings": shown,
        "invalid": [
            f"{run['told']['run']}: {'; '.join(run['told']['reasons'])}"
            for pick in picks
            for run in pick["runs"]
            if not run["told"]["valid"]
        ],
        "traffic": traffic_text(config["traffic"]),
    }
    draw = partial(settings_figure, rows, tuned["picks"], config["target_ms"], config["percentile"])
    return Content(values, {"settings": draw}, {"settings.png": draw})


def found(folder: Path) -> str:
    """What to use."""
    return sentence(read_json(folder / FILE, "run `kis tune-service` again"))


REPORT = Report(
    "service_tuning",
    FILE,
    "kis tune-service",
    gather,
    question="How many instances, which batches and queue delay, for a model of yours?",
    found=found,
)
