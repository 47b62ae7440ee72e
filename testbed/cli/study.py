"""`kis study`."""

from __future__ import annotations

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path
from testbed.config_file import load_config, read_key
from testbed.grid_study import STUDIES, run_study
from testbed.pipeline import studies as ours  # noqa: F401 - they register themselves
from testbed.reporting.reports import write_report


def study(
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """Runs the cells that the folder does not have yet. `kind` of the file: a name, or my_module:MyStudy, one file with
    what is run for a cell and which figures are drawn (testbed/grid_study.py).

    Example: [bold]kis study testbed/configs/rate-sweep.yaml[/bold]
    """
    settings = load_config(config, STUDIES.find(read_key(config, "kind")))
    folder = options.out_folder(out, settings.name)
    with ConsoleReporter() as reporter:
        reporter.phase(f"{settings.name}: {len(settings.cells())} cells")
        run_study(settings, folder, reporter.progress, options.workers_of(workers, ray))
    print_path(console, write_report(folder))
