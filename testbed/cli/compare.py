"""`kis compare` and `kis report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, shown, table
from testbed.errors import ConfigError
from testbed.run_dir import RunDir
from workloads.files import write_text_atomically

if TYPE_CHECKING:
    from testbed.reporting.compare import Comparison


def compare(
    results: options.Results,
    simulated: Annotated[
        Path | None,
        typer.Argument(help="With it, the two are run folders: a real run, and its simulation."),
    ] = None,
) -> None:
    """Writes comparison.json and shows the table."""
    options.refuse_missing(results)
    folder = simulated or results
    if simulated is not None:
        for run in (results, simulated):
            _ = RunDir(run).manifest  # what is no run is said first
    else:
        from testbed.archive.folder import has_archive
        from testbed.reporting.loading import refuse_without_runs

        if not has_archive(results):
            refuse_without_runs(results)
    with ConsoleReporter() as reporter:
        reporter.phase(f"compare the runs of {results}" if simulated is None else f"compare {simulated} with {results}")
        from testbed.pipeline.restore import restore
        from testbed.reporting.compare import compare_folder, compare_runs

        if simulated is None:
            restore(results, reporter, workers=options.workers_of(None))
            comparison = compare_folder(results, reporter.progress)
        else:
            comparison = compare_runs(results, simulated)
    write_text_atomically(folder / "comparison.json", comparison.text)
    show_comparison(console, comparison)
    print_path(console, folder / "comparison.json")


def report(
    results: Annotated[Path, typer.Argument(help="A results folder, or a folder of several.")],
    anew: Annotated[
        bool,
        typer.Option("--anew", help="First fit and simulate again, from the real runs, as this version of kis does."),
    ] = False,
    workers: options.WorkerCount = None,
) -> None:
    """Of what a command left: its page and pictures, again. Of several such folders, as results/: an index of them."""
    options.refuse_missing(results)
    from testbed.reporting.overview import has_page_of_its_own, kind_of, results_in, write_overview
    from testbed.reporting.reports import report_of

    if kind_of(results) is None and results_in(results):
        if anew:
            raise ConfigError(f"--anew is of one results folder; {results} has several")
        if has_page_of_its_own(results):
            raise ConfigError(f"{results} has a page of its own, index.html: give one of the folders in it")
        print_path(console, write_overview(results))
        return
    if kind_of(results) is None:
        report_of(results)  # says what is expected there
    with ConsoleReporter(results) as reporter:
        reporter.phase(f"report of {results}")
        from testbed.pipeline.restore import restore

        if anew:
            from testbed.pipeline.anew import compute_anew

            compute_anew(results, reporter, options.workers_of(workers))
        restore(results, reporter, workers=options.workers_of(workers))  # what an archived folder lacks
        page = report_of(results).write(results, reporter.progress)
    print_path(console, page)


def show_comparison(console: Console, comparison: Comparison) -> None:
    """One line a run: P95 real and simulated, the error, and the real system's own spread."""
    headings = ("P95 real\nms", "P95 sim\nms", "error\n%", "spread\n%", "KS", "util.")
    rows = table("run", *headings, caption="-: not measured")
    for row in comparison.runs:
        rows.add_row(
            f"{row.run_id} [red]INVALID[/red]" if row.valid is False else row.run_id,
            shown(row.p95_real_ms),
            shown(row.p95_sim_ms),
            shown(row.p95_error_pct, "+.1f"),
            shown(row.repeat_spread_pct, ".1f"),
            shown(row.ks, ".3f"),
            shown(row.utilisation),
        )
    console.print(rows)
