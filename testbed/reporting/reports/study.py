"""The report of a study of any kind: its table, and the figures that the kind draws."""

from __future__ import annotations

from pathlib import Path

from loadgen.artifact import read_json
from testbed.config_file import build
from testbed.errors import ReportError
from testbed.grid_study import CONFIG, ROWS, STUDIES, read_rows
from testbed.reporting.labels import counted
from testbed.reporting.report import Content, Report


def gather(folder: Path) -> Content:
    """Of its configuration and its rows."""
    config = read_json(folder / CONFIG, "give a folder of `kis study`")
    kind = STUDIES.find(config["kind"])
    study = build(kind, config, str(folder / CONFIG))
    rows = read_rows(study, folder)
    if rows.empty:
        raise ReportError(f"{folder / ROWS} has no row yet: give `kis study` with --out {folder} again")
    figures = {f"figure-{k}": drawn for k, drawn in enumerate(study.figures(rows).items(), start=1)}
    values = {
        "name": folder.resolve().name,
        "title": kind.title or kind.__name__,
        "note": kind.note,
        "config": config,
        "columns": list(rows.columns),
        "texts": [name for name in rows.columns if rows[name].map(lambda value: isinstance(value, str)).any()],
        "rows": rows.astype(object).where(rows.notna(), None).to_numpy().tolist(),
        "cells": len(study.cells()),
        "captions": {name: caption for name, (caption, _) in figures.items()},
    }
    drawn = {name: draw for name, (_, draw) in figures.items()}
    return Content(values, drawn, {f"figures/{name}.png": draw for name, draw in drawn.items()})


def found(folder: Path) -> str:
    """How much of it is done."""
    config = read_json(folder / CONFIG, "give a folder of `kis study`")
    kind = STUDIES.find(config["kind"])
    rows = read_rows(build(kind, config, str(folder / CONFIG)), folder)
    return f"{(kind.title or kind.__name__).capitalize()}: {counted(len(rows), 'cell')}."


REPORT = Report("study", CONFIG, "kis study", gather, question="What does a quantity do over a grid?", found=found)
