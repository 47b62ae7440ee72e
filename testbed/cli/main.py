"""The application: registers the commands, and turns every error that a user can mend into one line."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from testbed.cli import adapter, campaign, compare, controller, experiment, plan, replay, repository, serve, simulate
from workloads.errors import KisError

WRONG = 2
INTERRUPTED = 130  # as a shell reports SIGINT

app = typer.Typer(
    name="kis",
    help="Measure a real Triton service once, simulate it a million times, and see that the simulator was right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(repository.repository)
app.command()(replay.replay)
app.command()(replay.measure)
app.command()(campaign.calibrate)
app.command()(simulate.simulate)
app.command()(plan.plan)
app.command()(controller.controller)
app.command()(adapter.adapter)
app.command()(experiment.experiment)
app.command()(compare.compare)
app.command()(compare.report)


def main() -> None:
    """Run `kis`; exit status 2 for an error that the user can mend, 130 after an interrupt or SIGTERM."""
    errors = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)  # as ctrl-c: what was measured is kept, and nothing is left running
    try:
        app()
    except KisError as error:
        _tell(errors, str(error))
    except OSError as error:  # a folder that cannot be written, a disk that is full
        where = f"{error.filename}: " if error.filename else ""
        _tell(errors, f"{where}{error.strerror or error}: choose another place, or free some space")
    except KeyboardInterrupt:
        errors.print("kis: interrupted; what was measured is kept", highlight=False)
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(errors: Console, text: str) -> None:
    errors.print(f"[red]kis:[/red] {escape(text)}", highlight=False, soft_wrap=True)
    sys.exit(WRONG)
