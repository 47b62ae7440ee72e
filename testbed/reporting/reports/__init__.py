"""All kinds of report. Add one as a module of this folder with a `REPORT`, and two templates."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from testbed.errors import ReportError
from testbed.reporting.report import Report

_FOUND: list[Report] = [
    importlib.import_module(f"{__name__}.{one.name}").REPORT for one in pkgutil.iter_modules(__path__)
]

# A pattern as marker goes last: it is met by runs, which folders of other kinds have too.
REPORTS: tuple[Report, ...] = tuple(sorted(_FOUND, key=lambda one: ("*" in one.marker, one.name)))


def report_of(folder: Path) -> Report:
    """The kind of report that the folder is of; ReportError if of none."""
    for report in REPORTS:
        if report.fits(folder):
            return report
    if not folder.exists():
        raise ReportError(f"{folder} does not exist: give a results folder")
    known = ", ".join(f"{report.marker} ({report.command})" for report in REPORTS)
    raise ReportError(f"{folder} is no results folder: expected one of {known} in it")


def write_report(folder: Path) -> Path:
    """Write everything of the folder's report again, from its logs alone; returns the path of report.html.

    ReportError if there is nothing to report, ArtifactError if a file is missing or cannot be read.
    """
    return report_of(folder).write(folder)
