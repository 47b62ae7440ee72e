"""The application: names the commands, and turns every error that a user can mend into one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from testbed.errors import ConfigError
from workloads.errors import KisError

WRONG = 2
INTERRUPTED = 130  # as a shell reports SIGINT

# Command -> the module of testbed.cli that has it, in the order of `kis --help`. Only what is called is imported: a
# controller's pod needs no report and no plot.
COMMANDS = {
    "serve": "serve",
    "repository": "repository",
    "replay": "replay",
    "measure": "replay",
    "calibrate": "campaign",
    "simulate": "simulate",
    "plan": "plan",
    "tune-hpa": "tune_hpa",
    "train": "train",
    "evaluate": "evaluate",
    "adapt": "adapt",
    "controller": "controller",
    "adapter": "adapter",
    "experiment": "experiment",
    "devices": "devices",
    "compare": "compare",
    "report": "compare",
    "archive": "archive",
    "restore": "archive",
}

EXTRAS = {"train": "train", "tune-hpa": "train"}  # command -> the extra of pyproject.toml that it needs
OURS = ("testbed", "workloads", "loadgen")


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """`kis` with these commands."""
    made = typer.Typer(
        name="kis",
        help="Measure a real Triton service once, simulate it a million times, and see that the simulator was right.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(lambda: None)  # with one command, too, it is called by its name
    for name in names:
        try:
            module = import_module(f"testbed.cli.{COMMANDS[name]}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in OURS:
                raise
            _stand_in(made, name, error.name)
        else:
            made.command(name)(getattr(module, name.replace("-", "_")))
    return made


def _stand_in(made: typer.Typer, name: str, missing: str) -> None:
    """The light core is installed without what some commands need: they say so, and the others work."""
    told = f"needs {missing}, which is not installed: pip install 'kis-testbed[{EXTRAS.get(name, 'serve')}]'"

    def command() -> None:
        raise ConfigError(f"kis {name} {told}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    made.command(name, help=told.capitalize(), context_settings=settings)(command)


def main() -> None:
    """Run `kis`; exit status 2 for an error that the user can mend, 130 after an interrupt or SIGTERM."""
    errors = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)  # as ctrl-c: what was measured is kept, and nothing is left running
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        application([called] if called in COMMANDS else COMMANDS)()
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
