"""`kis archive` and `kis restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadgen.artifact import ArtifactError
from testbed.cli.console import ConsoleReporter, console, print_path, say
from testbed.study import all_processors

Results = Annotated[Path, typer.Argument(help="A results folder.")]


def archive(
    results: Results,
    unit_us: Annotated[int, typer.Option(min=1, help="Times are kept to the nearest of it.")] = 1,
    keep_every: Annotated[int, typer.Option(min=1, help="Of Triton's counters: one reading in so many.")] = 1,
) -> None:
    """archive/ of the folder has them, to be carried or committed.

    runs/ stays; where it is lost, `kis restore` brings it back, simulated runs from their seeds.

    Example: [bold]kis archive results/20260101-120000-calibrate[/bold]
    """
    with ConsoleReporter() as reporter:
        reporter.phase(f"archive the real runs of {results}")
        from testbed.archive.folder import write_archive

        path = write_archive(results, unit_us * 1000, keep_every)
    size = sum(file.stat().st_size for file in path.iterdir())
    before = sum(file.stat().st_size for file in results.glob("runs/*/*") if file.is_file())
    say(f"{size / 1e6:.2f} MB for the {before / 1e6:.2f} MB of runs/")
    print_path(console, path)


def restore(results: Results) -> None:
    """`kis report` and `kis compare` do so themselves.

    Example: [bold]kis restore results/golden-emulated[/bold]
    """
    with ConsoleReporter() as reporter:
        reporter.phase(f"restore the runs of {results}")
        from testbed.archive.folder import has_archive
        from testbed.pipeline.restore import restore as restore_runs

        if not has_archive(results):
            raise ArtifactError(f"{results} has no archive/: give a results folder that `kis archive` was run on")
        restore_runs(results, reporter, workers=all_processors())
    print_path(console, results / "runs")
