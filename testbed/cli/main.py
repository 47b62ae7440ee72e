"""The application: names the commands, and turns every error that a user can mend into one line."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib import import_module, resources
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from typer import rich_utils

from testbed.cli.console import show_log
from testbed.cli.example import read_example
from testbed.errors import ConfigError
from testbed.installed import extra_of, how_to_install, is_installed, kis_version, needed
from workloads.errors import KisError, one_line

WRONG = 2
INTERRUPTED = 130  # as a shell reports SIGINT


class Entry(NamedTuple):
    """A command. module: of testbed.cli; needs: a package beyond the light core."""

    module: str
    group: str
    summary: str
    needs: str | None = None


HELP = "Measure a real Triton service once, simulate it under any traffic, and see how far off the simulation was."
# What each group of commands is for, and what somebody types who has just installed it; lines of 78 columns.
GROUPS = {
    "Measure": "Measure: a real Triton, once",
    "Simulate": "Simulate: the same service, under any traffic",
    "Decide": "Decide: on an autoscaler",
    "Deploy": "Deploy: on Kubernetes",
    "Results": "Results, and this machine",
}
FIRST = (
    "Type next (the last one measures a real Triton):",
    "kis simulate --profile testbed/examples/resnet50-h200-fp16.json --set base=300",
    "kis simulate --cluster testbed/configs/cluster.yaml",
    "kis demo",
    "Each command's --help begins with an example and what it prints.",
)

# In the order of `kis --help`. Only what is called is imported: a controller's pod needs no report and no plot, and the
# help comes at once.
COMMANDS = {
    "demo": Entry("demo", "Measure", "See it work in a minute and a half: no GPU, no cluster."),
    "serve": Entry("serve", "Measure", "Serve a model of the catalog with real tritonserver processes."),
    "repository": Entry("repository", "Measure", "A model of the catalog as a repository for a Triton of your own."),
    "replay": Entry("replay", "Measure", "Send a pattern or a trace to a running Triton, open-loop."),
    "measure": Entry("replay", "Measure", "Serve a model here, send it traffic, sample everything."),
    "calibrate": Entry("campaign", "Measure", "The whole loop: serve, measure, fit, simulate, compare, report."),
    "devices": Entry("devices", "Measure", "CPU against GPU: how many times slower, on the same traffic."),
    "traffic": Entry("traffic", "Simulate", "What is in a log of traffic: rates, bursts, gaps, a season."),
    "simulate": Entry("simulate", "Simulate", "A calibrated service, or a cluster, under any traffic."),
    "plan": Entry("plan", "Simulate", "How many replicas, and which batches, hold a latency target."),
    "pack": Entry("pack", "Simulate", "Which models fit on one GPU together, and on how many GPUs."),
    "study": Entry("study", "Simulate", "A kind of study in one file, also one of yours."),
    "tune-service": Entry("tune_service", "Decide", "Instances, batches and delays of a model on your Triton."),
    "tune": Entry("tune", "Decide", "The autoscaler for your traffic and target, as YAML."),
    "benchmark": Entry("benchmark", "Decide", "Tuned autoscalers on held-out traffic of several services."),
    "train": Entry("train", "Decide", "An autoscaler learns in simulated clusters.", "stable_baselines3"),
    "evaluate": Entry("evaluate", "Decide", "Policies on the same traffic: which is better, and how sure."),
    "adapt": Entry("adapt", "Decide", "A service that drifts in KISim, and a policy adapted to it."),
    "controller": Entry("controller", "Deploy", "Scale a real deployment of Triton pods with a policy."),
    "adapter": Entry("controller", "Deploy", "Triton's queue time, rate and more for a cluster's own HPA."),
    "activator": Entry("controller", "Deploy", "Hold requests while a deployment has no pod: scale to zero."),
    "experiment": Entry("experiment", "Deploy", "Autoscalers on real pods and in KISim, beside each other."),
    "watch": Entry("watch", "Results", "What runs now: a results folder, or a controller."),
    "doctor": Entry("doctor", "Results", "What this machine has for all that, and what it lacks."),
    "compare": Entry("compare", "Results", "The simulated runs of a results folder beside the real ones."),
    "report": Entry("compare", "Results", "Write the report of a results folder again."),
    "archive": Entry("archive", "Results", "Keep the real runs of a results folder in a few small files."),
    "restore": Entry("archive", "Results", "Write the run folders that an archived results folder lacks."),
}
OURS = ("testbed", "workloads", "loadgen")


def application(called: Iterable[str] = COMMANDS) -> typer.Typer:
    """`kis`, with all of its commands; those that are called can do something, the others have a place in the help."""
    made = typer.Typer(
        name="kis",
        no_args_is_help=True,
        epilog="\n\n".join(FIRST),
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(help=HELP)(_top)
    for name, entry in COMMANDS.items():
        if name in called:
            _add(made, name, entry)
        else:
            text = entry.summary
            if entry.needs is not None and not is_installed(entry.needs):
                text = f"{text.rstrip('.')} ({needed(extra_of(entry.needs))})."
            made.command(name, help=escape(text), rich_help_panel=GROUPS[entry.group])(lambda: None)
    return made


def _show_version(asked: bool) -> None:
    if asked:
        Console().print(f"kis {kis_version()}", highlight=False)
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
]


def _top(shown: _Version = False) -> None:
    """Options of `kis` itself."""


def _add(made: typer.Typer, name: str, entry: Entry) -> None:
    if entry.needs is None or is_installed(entry.needs):
        command = getattr(import_module(f"testbed.cli.{entry.module}"), name.replace("-", "_"))
        made.command(name, help=_help_of(name, entry, command), rich_help_panel=GROUPS[entry.group])(command)
        return
    lacks = _lacks(entry.needs)

    def stand_in() -> None:
        raise ConfigError(f"kis {name} {lacks}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    made.command(name, help=escape(lacks.capitalize()), context_settings=settings)(stand_in)


def _help_of(name: str, entry: Entry, command: Callable[..., None]) -> str:
    """What it is, what is to be known of it, and an example with what it prints."""
    example = read_example(name)
    typed = [f"[bold]{escape(line)}[/bold]" for line in f"$ {example.typed}".split("\n")]
    text = "\n".join((*typed, *map(escape, example.printed)))
    return f"{entry.summary}\n\n{inspect.getdoc(command)}\n\n{text}"


def _lacks(package: str) -> str:
    """The light core is installed without what some commands need: they say so, and the others work."""
    return f"needs {package}, which is not installed: {how_to_install(extra_of(package))}"


def main() -> None:
    """Run `kis`; exit status 2 for an error that the user can mend, 130 after an interrupt or SIGTERM."""
    errors = Console(stderr=True)
    show_log("testbed.simulation")
    signal.signal(signal.SIGTERM, _interrupt)  # as ctrl-c: what was measured is kept, and nothing is left running
    try:
        sys.argv[1:] = map(_shipped, sys.argv[1:])
        kis = application(_words()[1:2])
        kis()
    except KisError as error:
        _tell(errors, str(error))
    except ModuleNotFoundError as error:  # a command imports what it does when it does it
        name = (error.name or "").partition(".")[0]
        if name in ("", *OURS):
            raise
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        _tell(errors, f"kis {command} {_lacks(name)}" if command else str(error))
    except OSError as error:  # a folder that cannot be written, a disk that is full
        where = f"{error.filename}: " if error.filename else ""
        _tell(errors, f"{where}{error.strerror or error}: choose another place, or free some space")
    except KeyboardInterrupt:
        _tell_interrupted(errors)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            _tell_interrupted(errors)
        raise


def _usage(error: Any) -> None:
    """What typer refuses, as one line too; `kis` alone shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        _in_a_box(error)
        return
    path = error.ctx.command_path if getattr(error, "ctx", None) else "kis"
    command = path.partition(" ")[2]
    text = f"{command}: {error.format_message()}" if command else error.format_message()
    _tell(Console(stderr=True), f"{text.rstrip('.')}: see {path} --help")


_in_a_box = rich_utils.rich_format_error
rich_utils.rich_format_error = _usage  # type: ignore[assignment]


def _words() -> list[str]:
    """The command line; the one that is to be completed, if a shell asks for that."""
    asked = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    return asked.split() if asked and "_KIS_COMPLETE" in os.environ else sys.argv


def _shipped(word: str) -> str:
    """`testbed/configs/cluster.yaml` names the packaged file, in a folder that has none of its own."""
    packaged = Path(str(resources.files("testbed"))).parent / word
    return str(packaged) if word.startswith("testbed/") and not Path(word).exists() and packaged.exists() else word


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell_interrupted(errors: Console) -> None:
    errors.print("kis: interrupted; what was measured is kept", highlight=False)
    sys.exit(INTERRUPTED)


def _tell(errors: Console, text: str) -> None:
    errors.print(f"[red]kis:[/red] {escape(one_line(text))}", highlight=False, soft_wrap=True)
    sys.exit(WRONG)
