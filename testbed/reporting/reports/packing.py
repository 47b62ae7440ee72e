"""The report of `kis pack`: how many GPUs, what is on each, and which pairs may not share one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.reporting.figures.packing import packing as packing_figure
from testbed.reporting.labels import device_text, traffic_text
from testbed.reporting.packing import goal_text, gpus_of, law_text, may_share, memory_text, sentence, why_not
from testbed.reporting.report import Content, Report

FILE = "packing.json"


def gather(folder: Path) -> Content:
    """Of packing.json alone."""
    told = read_packing(folder)
    config = told["config"]
    models = [
        {**model, "goal": goal_text(model), "gpus": gpus_of(told, model), "traffic": traffic_text(given["traffic"])}
        for model, given in zip(told["models"], config["models"], strict=True)
    ]
    values = {
        "name": folder.resolve().name,
        "told": told,
        "sentence": sentence(told),
        "law": law_text(told),
        "memory": memory_text(told),
        "models": models,
        "pairs": [{**pair, "may": may_share(pair), "why": why_not(told, pair)} for pair in told["pairs"]],
        "device": device_text(told["device"]["name"], told["device"]["kind"] == "emulated"),
    }
    draw = partial(packing_figure, told)
    return Content(values, {"packing": draw}, {"packing.png": draw})


def read_packing(folder: Path) -> dict[str, Any]:
    """ArtifactError if there is none."""
    told: dict[str, Any] = read_json(folder / FILE, "run `kis pack` again")
    return told


def found(folder: Path) -> str:
    """How many GPUs, and what is on each."""
    return sentence(read_packing(folder))


REPORT = Report("packing", FILE, "kis pack", gather, question="Which models fit on one GPU together?", found=found)
