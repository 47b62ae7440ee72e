"""`kis study`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import yaml

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path
from testbed.cli.flags import listed
from testbed.cli.out import new_folder, out_folder
from testbed.config_file import load_config, parse_yaml, read_key
from testbed.errors import ConfigError


def study(
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the file: KEY=VALUE; a list is 1,2 or YAML.")
    ] = None,
) -> None:
    """Runs the cells that the folder does not have yet. `kind` of the file: a name, or my_module:MyStudy, one file with
    what is run for a cell and which figures are drawn (testbed/grid_study.py).
    """
    name = read_key(config, "kind")
    changes = dict(map(_changed, change or ()))
    if "kind" in changes:
        raise ConfigError(f"--set kind: {config} says which study it is ({name}): give a file of the other one")
    asked = None if out is None else out_folder(out, "study")
    with ConsoleReporter() as reporter:
        reporter.phase(f"study {name}")
        from testbed.grid_study import STUDIES, run_study
        from testbed.pipeline import studies as ours  # noqa: F401 - they register themselves
        from testbed.reporting.reports import report_of

        kind = STUDIES.find(name)
        settings = load_config(config, kind, changes)
        folder = asked or new_folder(settings.name)
        reporter.keep_in(folder)
        reporter.phase(f"{settings.name}: {len(settings.cells())} cells")
        run_study(settings, folder, reporter.progress, options.workers_of(workers, ray))
        reporter.phase("report")
        page = report_of(folder).write(folder, reporter.progress)
    print_path(console, page)


def _changed(text: str) -> tuple[str, Any]:
    """A key and its value."""
    key, given, value = text.partition("=")
    try:
        whole = parse_yaml(value if given else "[")
        return key, listed(whole) if isinstance(whole, str) and "," in whole else whole
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: give KEY=VALUE, the value as in YAML") from None
