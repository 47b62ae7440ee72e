"""`kis demo`."""

from __future__ import annotations

import time
import webbrowser
from typing import Annotated

import typer

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say
from testbed.cli.out import out_folder
from testbed.study import all_processors


def demo(
    out: options.Out = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page.")] = False,
) -> None:
    """Measures a real Triton for half a minute (it waits as an accelerator would compute: no GPU, no torch), shows how
    near the simulator comes, tunes an HPA and a rule in it, which meet KIScaler. Leaves a page.
    """
    begun_s = time.monotonic()
    folder = out_folder(out, "demo")
    with ConsoleReporter(folder) as reporter:
        reporter.phase("demo: measure, simulate, tune, compare")
        from testbed.pipeline import demo as demonstration

        page = demonstration.demo(folder, reporter, all_processors())
    say(f"{time.monotonic() - begun_s:.0f} s; the page, for a browser: {page.resolve().as_uri()}")
    print_path(console, page)
    if browser:
        webbrowser.open(page.resolve().as_uri())
