"""`kis archive` and `kis restore`."""

from __future__ import annotations

from typing import Annotated

import typer

from loadgen.artifact import ArtifactError
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say
from testbed.study import all_processors


def archive(
    results: options.Results,
    unit_us: Annotated[int, typer.Option(min=1, help="Times are kept to the nearest of it.")] = 1,
    keep_every: Annotated[int, typer.Option(min=1, help="Of Triton's counters: one reading in so many.")] = 1,
) -> None:
    """archive/ of the folder has them, to be carried or committed.

    runs/ stays; where it is lost, `kis restore` brings it back, simulated runs from their seeds.
    """
    options.refuse_missing(results)
    from testbed.archive.folder import refuse_without_real_runs, write_archive

    refuse_without_real_runs(results)
    with ConsoleReporter() as reporter:
        reporter.phase(f"archive the real runs of {results}")
        path = write_archive(results, unit_us * 1000, keep_every, reporter.progress)
    size = sum(file.stat().st_size for file in path.iterdir())
    before = sum(file.stat().st_size for file in results.glob("runs/*/*") if file.is_file())
    say(f"{size / 1e6:.2f} MB for the {before / 1e6:.2f} MB of runs/")
    print_path(console, path)


def restore(results: options.Results) -> None:
    """`kis report` and `kis compare` do so themselves."""
    options.refuse_missing(results)
    from testbed.archive.folder import has_archive

    if not has_archive(results):
        raise ArtifactError(f"{results} has no archive/: give a results folder that `kis archive` was run on")
    with ConsoleReporter(results) as reporter:
        reporter.phase(f"restore the runs of {results}")
        from testbed.pipeline.restore import restore as restore_runs

        restore_runs(results, reporter, workers=all_processors())
    print_path(console, results / "runs")
