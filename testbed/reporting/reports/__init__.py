"""All kinds of report. Add one as a module with a `REPORT` and two templates, and name it here."""

from __future__ import annotations

from pathlib import Path

from testbed.errors import ReportError
from testbed.reporting.report import Report
from testbed.reporting.reports import calibration, cluster, devices, evaluation, experiment

# The last one goes by runs, which folders of other kinds have too.
REPORTS: tuple[Report, ...] = (
    cluster.REPORT,
    experiment.REPORT,
    devices.REPORT,
    evaluation.REPORT,
    calibration.REPORT,
)


def report_of(folder: Path) -> Report:
    """The kind of report that the folder is of; ReportError if of none."""
    for report in REPORTS:
        if report.fits(folder):
            return report
    known = ", ".join(f"{report.marker} ({report.command})" for report in REPORTS)
    raise ReportError(f"{folder} is no results folder: expected one of {known} in it")


def write_report(folder: Path) -> Path:
    """Write everything of the folder's report again, from its logs alone; returns the path of report.html.

    ReportError if there is nothing to report, ArtifactError if a file is missing or cannot be read.
    """
    return report_of(folder).write(folder)
