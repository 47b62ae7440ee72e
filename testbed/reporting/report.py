"""Writes the report of a results folder: comparison.json, report.html, report.md and figures/*.png."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from testbed.reporting import figures, labels, pictures, style
from testbed.reporting.context import ReportContext, gather
from testbed.reporting.gpu_figure import gpu_figure, svg_address
from testbed.reporting.page import environment, script_json
from testbed.reporting.png import save_png
from workloads.files import write_text_atomically

PICTURED = 4  # runs of a group that report.md shows as pictures: those with the largest errors


def write_report(folder: Path) -> Path:
    """Compare all runs of a results folder and write its report; returns the path of report.html.

    ReportError if there is nothing to compare, ArtifactError if a file of a run cannot be read.
    """
    context = gather(folder)
    write_text_atomically(folder / "comparison.json", context.comparison.text)
    gpu_figures = {one.stem: gpu_figure(one) for one in (context.gpu.curves if context.gpu else ())}
    _save_pictures(context, folder / "figures")
    for stem, figure in gpu_figures.items():
        save_png(figure, folder / "figures" / f"{stem}.png", dpi=110)
    told = environment(html=False).get_template("report.md.j2").render(c=context, pictured=PICTURED)
    write_text_atomically(folder / "report.md", told)
    page = folder / "report.html"
    shown = (
        environment(html=True)
        .get_template("report.html.j2")
        .render(
            c=context,
            figures=_page_figures(context),
            drawings={stem: svg_address(figure) for stem, figure in gpu_figures.items()},
            plotly_js=Markup(get_plotlyjs()),
            style=style,
        )
    )
    write_text_atomically(page, shown)
    return page


def _page_figures(context: ReportContext) -> dict[str, Markup]:
    """Name -> JSON of every figure on the page."""
    drawn: dict[str, go.Figure] = {"overview": figures.overview(context.comparison.runs)}
    for group in context.groups:
        drawn[f"{group.stem}-runs"] = figures.by_run(group.rows)
        for run in group.runs:
            drawn[f"{run.stem}-distribution"] = figures.distribution(run.series.curves)
            drawn[f"{run.stem}-time"] = figures.over_time(run.series.timeline)
            drawn[f"{run.stem}-batches"] = figures.batch_sizes(run.series.batches_real, run.series.batches_sim)
    for view in context.profiles:
        drawn[f"{view.stem}-service"] = figures.service_time(view.service)
        drawn[f"{view.stem}-overhead"] = figures.overhead(view.overhead)
    return {name: script_json(figure) for name, figure in drawn.items()}


def _save_pictures(context: ReportContext, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()  # pictures of runs that are gone
    pictures.save_overview(context.comparison.runs, folder / "overview.png")
    for group in context.groups:
        where = f"{group.summary.model}, {labels.device_text(group.summary.device, group.summary.emulated)}"
        pictures.save_by_run(group.rows, where, folder / f"{group.stem}.png")
        for run in group.largest_errors(PICTURED):
            verdict = "" if run.row.valid else " (NOT VALID)"
            pictures.save_pair(run.series, f"{where}: {run.label}{verdict}", folder / f"{run.stem}.png")
    for view in context.profiles:
        device = view.profile.device
        where = f"{view.profile.model}, {labels.device_text(device.name, device.kind == 'emulated')}"
        pictures.save_profile(view.service, view.overhead, where, folder / f"{view.stem}.png")
