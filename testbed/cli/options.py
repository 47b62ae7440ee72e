"""Flags that several commands share, and short names for keys of their models."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from loadgen.discovery import parse_shapes
from loadgen.patterns import known_patterns
from loadgen.traces import FORMATS
from testbed.cli.flags import Short, Usual, plain
from testbed.errors import ConfigError

ConfigFile = Annotated[
    Path | None, typer.Argument(help="Configuration file (YAML); flags override it.", show_default=False)
]
Config = Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help=r"Folder for the results; what it lacks is made. \[default: results/TIME-WHAT]"),
]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help=r"\[default: the pod's own account, or KUBECONFIG]")
]
CLIENT: Usual = {"--timeout-s": "client.timeout_s", "--max-in-flight": "client.max_in_flight"}
_PATTERNS = ", ".join(name for name, kind in known_patterns().items() if kind.configurable)
TRAFFIC: Usual = {
    "--pattern": Short("traffic.pattern", f"{_PATTERNS}, or my_module:MyPattern."),
    "--set": "traffic.parameters",
    "--trace": "traffic.trace",
    "--format": Short("traffic.format", f"Of the trace: {', '.join(FORMATS.known())}, or my_module:MyFormat."),
    "--duration": "traffic.duration_s",
}
_SHAPE = "Of an input that the model leaves free, e.g. --shape input_ids:128; may be repeated."
Shapes = Annotated[list[str] | None, typer.Option("--shape", help=_SHAPE)]
SHAPES: Usual = {"--shape": Short("shapes", _SHAPE, parse_shapes)}


def service(within: str = "service") -> Usual:
    """Of a ServiceConfig under that key."""
    delay = Short(
        f"{within}.dynamic_batching.max_queue_delay_s",
        "Longest wait for a full batch.",
        lambda texts: seconds(texts[-1]),
    )
    names = ("replicas", "instances", "max_batch_size")
    return {**{f"--{name.replace('_', '-')}": f"{within}.{name}" for name in names}, "--queue-delay-ms": delay}


def seconds(milliseconds: str) -> Any:
    """Of a number that was typed in milliseconds; what is no number stays, and validation refuses it."""
    value = plain(milliseconds)
    return value / 1e3 if isinstance(value, (int, float)) else value


def policy_of(text: str) -> dict[str, Any]:
    """KIND:key=value,... or YAML -> a policy's configuration; FILE.onnx:key=value,... is a learned one."""
    if isinstance(whole := plain(text), dict):
        return whole
    kind, _, rest = text.partition(":")
    settings: dict[str, Any] = {"kind": "learned", "file": kind} if kind.endswith(".onnx") else {"kind": kind}
    for pair in rest.split(",") if rest else ():
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ConfigError(f"--policy {text}: give KIND:key=value,..., e.g. --policy fixed:replicas=4")
        settings[name.strip()] = plain(value)
    return settings


def out_folder(out: Path | None, what: str) -> Path:
    """The folder that was asked for, or a new one under results/ named after the time."""
    return out or Path("results") / f"{dt.datetime.now():%Y%m%d-%H%M%S}-{what}"
