"""Flags that several commands share, and how they override a configuration file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from loadgen.patterns import known_patterns
from loadgen.traces import FORMATS
from testbed.config import build, load_config
from testbed.errors import ConfigError
from testbed.study import Workers, all_processors

T = TypeVar("T", bound=BaseModel)

ConfigFile = Annotated[
    Path | None, typer.Argument(help="Configuration file (YAML); flags override it.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the results. [default: results/<time>-<what>]")]
Model = Annotated[str | None, typer.Option("--model", help="Model name.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or gpu.")]
Replicas = Annotated[int | None, typer.Option("--replicas", help="Servers behind the balancer.")]
Instances = Annotated[int | None, typer.Option("--instances", help="Model instances in each replica.")]
MaxBatchSize = Annotated[int | None, typer.Option("--max-batch-size", help="Largest batch.")]
QueueDelay = Annotated[float | None, typer.Option("--queue-delay-ms", help="max_queue_delay of dynamic batching.")]
ClientTimeout = Annotated[float | None, typer.Option("--timeout-s", help="The client gives up after it. [default: 10]")]
MaxInFlight = Annotated[
    int | None, typer.Option("--max-in-flight", help="Of the client; further requests are dropped. [default: 1024]")
]
_PATTERNS = ", ".join(name for name, kind in known_patterns().items() if kind.configurable)
Pattern = Annotated[str | None, typer.Option("--pattern", help=f"{_PATTERNS}, or my_module:MyPattern.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter of the pattern, e.g. --set spike=200; may be repeated.")
]
Trace = Annotated[Path | None, typer.Option("--trace", help="Recorded arrivals instead of a pattern.")]
TraceFormat = Annotated[
    str | None, typer.Option("--format", help=f"Of the trace: {', '.join(FORMATS.known())}, or my_module:MyFormat.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", help="Of an input that the model leaves free, e.g. --shape input_ids:128; may be repeated."
    ),
]
Duration = Annotated[float | None, typer.Option("--duration", help="Seconds of traffic.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the arrivals.")]

WorkerCount = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes. [default: one a core]", show_default=False)
]
Ray = Annotated[
    str | None, typer.Option("--ray", help="Address of a Ray cluster that does the work; local: one on this machine.")
]


def workers_of(count: int | None, ray: str | None = None) -> Workers:
    """Who computes, from the two flags."""
    if count is not None and ray is not None:
        raise ConfigError("--workers is of this machine, --ray of a cluster: give one of them")
    return Workers(count, ray) if count is not None else all_processors()._replace(ray=ray)


def configured(file: Path | None, kind: type[T], flags: dict[str, Any]) -> T:
    """The configuration of a command: its file, or the defaults, with the flags that were given on top."""
    given = _without_none(flags)
    if file is None:
        return build(kind, given, "flags")
    return load_config(file, kind, given)


def service_flags(
    replicas: int | None, instances: int | None, max_batch_size: int | None, queue_delay_ms: float | None
) -> dict[str, Any]:
    """ServiceConfig's keys from flags."""
    rules = None if queue_delay_ms is None else {"max_queue_delay_s": queue_delay_ms / 1e3}
    return {
        "replicas": replicas,
        "instances": instances,
        "max_batch_size": max_batch_size,
        "dynamic_batching": rules,
    }


def traffic_flags(
    pattern: str | None,
    parameters: list[str] | None,
    trace: Path | None,
    trace_format: str | None,
    duration: float | None,
    seed: int | None,
) -> dict[str, Any]:
    """TrafficConfig's keys from flags."""
    pairs: dict[str, int | float | str] = {}
    for text in parameters or []:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(f"--set {text}: give NAME=VALUE, e.g. --set spike=200")
        pairs[name] = _number(value)
    return {
        "pattern": pattern,
        "parameters": pairs or None,
        "trace": trace,
        "format": trace_format,
        "duration_s": duration,
        "seed": seed,
    }


def policy_flag(text: str) -> dict[str, Any]:
    """KIND:key=value,... -> a policy's configuration; FILE.onnx:key=value,... is a learned one."""
    kind, _, rest = text.partition(":")
    settings: dict[str, Any] = {"kind": "learned", "file": kind} if kind.endswith(".onnx") else {"kind": kind}
    for pair in rest.split(",") if rest else ():
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise ConfigError(f"--policy {text}: give KIND:key=value,..., e.g. --policy fixed:replicas=4")
        settings[name.strip()] = _number(value)
    return settings


def _number(text: str) -> int | float | str:
    """A flag's value as YAML would read it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def out_folder(out: Path | None, what: str) -> Path:
    """The folder that was asked for, or a new one under results/ named after the time."""
    if out is not None:
        return out
    return Path("results") / f"{dt.datetime.now():%Y%m%d-%H%M%S}-{what}"


def _without_none(flags: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in flags.items():
        inner = _without_none(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            kept[key] = inner
    return kept
