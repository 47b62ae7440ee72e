"""What the patterns' locustfiles share: Locust's arguments -> pattern or trace -> schedule -> replay of a Triton."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import locust
import numpy as np

from loadgen.access import INSECURE, Access, given_headers
from loadgen.client_limits import ClientLimits, TransportName
from loadgen.coordination import Replay
from loadgen.discovery import DiscoveredModel, model_tensors, parse_shapes, parse_values, the_model
from loadgen.endpoints import address, grpc_beside, read_endpoints
from loadgen.job import LOGGER, ReplayError, ReplayJob, RequestShape
from loadgen.lengths import parse_lengths, with_lengths
from loadgen.patterns import Pattern, PatternError, Trace, find_pattern, known_patterns, make_pattern
from loadgen.run_manifest import ClientManifest, Device, versions
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.traces import FORMATS, TraceError, TraceReading, read_recorded, read_trace
from workloads.catalog import Balancer, ServiceConfig
from workloads.errors import KisError

events: Any = locust.events  # untyped
SHOWN_SHARE = 0.9  # of a pattern's peak, that a run reaches at least if nothing is to be said
_ACCESS = ("--ca", "--cert", "--key", "--insecure", "--header", "--header-file")
_COMMAND_LINE = ("--allow-invalid", "--no-page", *_ACCESS)  # for scripts, or secret: no fields of the web form
_given: list[str] = []  # the pattern that this process replays
_Option = tuple[str, dict[str, Any]]  # a flag, and what argparse wants of it


def replay_pattern(name: str) -> None:
    """Make the calling locustfile replay that pattern; its parameters become arguments and fields of the web form.

    --trace FILE replays a trace's arrivals instead; `trace` is the pattern that has nothing else.
    """
    try:
        _replay(find_pattern(name))
    except KisError as error:  # Locust would show where in its code it was raised
        sys.exit(f"{LOGGER}: {error}")


def replay_chosen_pattern() -> None:
    """The same of the pattern that --pattern names on the command line, by its name or as my_module:MyPattern."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pattern", default="bursty")

    def _argument(parser: Any) -> None:
        known = ", ".join(name for name, kind in known_patterns().items() if kind.configurable)
        text = f"{known}, or my_module:MyPattern (default: bursty)"
        parser.add_argument("--pattern", default="bursty", help=text, include_in_web_ui=False)

    events.init_command_line_parser.add_listener(_argument)
    replay_pattern(parser.parse_known_args()[0].pattern)


def _replay(kind: type[Pattern]) -> None:
    if _given:
        raise PatternError(
            f"{_given[0]} and {kind.name} were both given with -f, a run has one pattern: e.g. -f loadgen/bursty.py"
        )
    _given.append(kind.name)

    def _arguments(parser: Any) -> None:
        # Not in a group: Locust's web form has fields for the parser's own arguments only.
        for flag, wanted in _options(kind):
            name = f"LOCUST_{flag[2:].replace('-', '_').upper()}"
            parser.add_argument(flag, env_var=name, include_in_web_ui=flag not in _COMMAND_LINE, **wanted)
        parser.add_argument("--options", action=_ShowOptions, kind=kind, include_in_web_ui=False)

    events.init_command_line_parser.add_listener(_arguments)
    last: list[Schedule] = []  # of the run before in this process
    Replay(lambda environment, run_time_s: _job(kind, environment, run_time_s, last))


class _Repeated(argparse.Action):
    """One text of all that were given: a field of Locust's form has one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any) -> None:
        before = getattr(namespace, self.dest) if getattr(namespace, f"_given_{self.dest}", False) else ""
        setattr(namespace, f"_given_{self.dest}", True)
        setattr(namespace, self.dest, f"{before} {values}".strip())


class _ShowOptions(argparse.Action):
    """Prints the options of this file's pattern: Locust's own --help does not read the file."""

    def __init__(self, option_strings: Any, dest: str, kind: type[Pattern]) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help="show these options"
        )
        self._kind = kind

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        summary = (self._kind.__doc__ or "").splitlines()[0]
        shown = argparse.ArgumentParser(
            usage=argparse.SUPPRESS, add_help=False, description=f"{self._kind.name}: {summary}"
        )
        for flag, wanted in _options(self._kind):
            shown.add_argument(flag, **wanted)
        shown.print_help()
        parser.exit()


def _options(kind: type[Pattern]) -> Iterator[_Option]:
    for field in dataclasses.fields(kind) if kind is not Trace else ():
        text = f"{field.metadata['description']} (default: {field.default})"
        yield _flag(field.name), {"type": type(field.default), "default": field.default, "help": text}
    yield "--model", {"default": "", "help": "model to ask (default: the server's only one)"}
    yield "--seed", {"type": int, "default": 0, "help": "seed of the arrivals (default: 0)"}
    yield "--endpoints", {"default": "", "help": "several servers: host:port,host:port or a JSON file to follow"}
    yield "--balancer", {"default": "round_robin", "choices": get_args(Balancer), "help": "among several servers"}
    yield "--transport", {"default": "http", "choices": get_args(TransportName), "help": "default: http"}
    yield from _access_options()
    shape = "of inputs that the model leaves free: name:128 name2:3,8; may be repeated"
    yield "--shape", {"default": "", "action": _Repeated, "help": shape}
    values = "of inputs: name=VALUE, name=LOW..HIGH or name=@FILE; may be repeated"
    yield "--input", {"default": "", "action": _Repeated, "help": values}
    yield "--lengths", {"default": "", "help": "tokens of requests: MEDIAN:SIGMA:LONGEST, or e.g. 16,64,128"}
    yield "--timeout-s", {"type": float, "default": 10.0, "help": "of each request (default: 10)"}
    in_flight = "more are dropped, and counted (default: 1024)"
    yield "--max-in-flight", {"type": int, "default": 1024, "help": in_flight}
    yield "--run-dir", {"default": "", "help": "default: results/<time>-<pattern>"}
    allow = "exit with 0 after an INVALID run, too (default: 3)"
    yield "--allow-invalid", {"action": "store_true", "default": False, "help": allow}
    yield "--trace", {"default": "", "help": "file with recorded arrivals, replayed instead of the pattern"}
    yield from _reading_options()
    yield "--speed-up", {"type": float, "default": 1.0, "help": "of the trace; 2: in half the time (default: 1)"}
    yield "--keep", {"type": float, "default": 1.0, "help": "share of the trace's requests that is sent (default: 1)"}
    no_page = "leave report.html to `kis report`: drawing it takes seconds"
    yield "--no-page", {"action": "store_true", "default": False, "help": no_page}


def _access_options() -> Iterator[_Option]:
    """How the server is reached: keys of Access."""
    for name in ("ca", "cert", "key"):
        yield _flag(name), {"default": "", "help": f"{Access.model_fields[name].description}"}
    text = "do not check the server's certificate, and say so in the run"
    yield "--insecure", {"action": "store_true", "default": False, "help": text}
    header = "of every request, 'Name: value'; ${VARIABLE} is filled in; may be repeated"
    yield "--header", {"default": [], "action": "append", "help": header}
    yield "--header-file", {"default": [], "action": "append", "help": "file with headers, a line each"}


def _access(options: Any) -> Access:
    files = {name: Path(file) for name in ("ca", "cert", "key") if (file := getattr(options, name))}
    headers = {"headers": given_headers(options.header), "header_files": tuple(map(Path, options.header_file))}
    return Access(insecure=options.insecure, **files, **headers)


def _reading_options() -> Iterator[_Option]:
    """How a trace is read; text, so that Locust's form can have none of it."""
    formats = f": {', '.join(sorted(FORMATS.known()))}, or my_module:MyFormat"
    forms = {"format": formats, "unit": ": s, ms, us, ns or iso", "where": ": NAME=VALUE,NAME=VALUE"}
    for name, field in TraceReading.model_fields.items():
        wanted: dict[str, Any] = {"help": f"{field.description}{forms.get(name, '')}", "default": ""}
        if field.annotation is bool:
            wanted |= {"action": "store_true", "default": False}
        yield _flag(name), wanted


def _reading(options: Any) -> dict[str, Any]:
    """What was said of how the trace is read."""
    given = {name: getattr(options, name) for name in TraceReading.model_fields if getattr(options, name)}
    if "where" in given:
        pairs = [pair.partition("=") for pair in given["where"].split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise TraceError(f"--where {given['where']}: give NAME=VALUE, e.g. --where Model=GPT-4")
        given["where"] = {name.strip(): value for name, _, value in pairs}
    return given


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _job(kind: type[Pattern], environment: Any, run_time_s: float | None, last: list[Schedule]) -> ReplayJob:
    options = environment.parsed_options
    lengths = parse_lengths(options.lengths) if options.lengths else None
    name = Trace.name if options.trace else kind.name
    schedule, notes = _schedule(kind, options, run_time_s)
    endpoints = _endpoints(options.endpoints, environment.host, options.transport)
    first = read_endpoints(endpoints) if isinstance(endpoints, Path) else endpoints
    if not first:
        raise ReplayError(f"{endpoints} is empty: no server to ask")
    # Models are described over HTTP, wherever the requests go.
    asked = environment.host if options.transport == "grpc" and environment.host else first[0]
    access = _access(options)
    notes += [INSECURE] if access.insecure else []
    served = None if options.transport == "null" else _served(options, asked, lengths is not None, access)
    model = (options.model or "null") if served is None else served.name
    schedule = schedule.of_model(model)
    if lengths is not None:
        schedule = with_lengths(schedule, lengths, options.seed)
    if last and last[0].same_requests(schedule):
        notes.append(
            f"the same arrivals as in the run before are sent again (seed {options.seed}): another seed gives others"
        )
    run_dir = Path(options.run_dir or f"results/{datetime.now():%Y%m%d-%H%M%S}-{name}").resolve()
    if (run_dir / "requests.parquet").exists():
        raise ReplayError(f"{run_dir} already holds a run: choose another --run-dir, or remove it")
    run_dir.mkdir(parents=True, exist_ok=True)
    schedule.write(run_dir / "schedule.parquet")
    last[:] = [schedule]
    limits = ClientLimits(timeout_s=options.timeout_s, max_in_flight=options.max_in_flight)
    values = parse_values(options.input.split())
    shape = RequestShape(inputs=())
    if served is not None:
        shape = RequestShape(inputs=served.inputs, batched=served.batched, values=values)
        notes += [f"the model has {what}: it is measured as it is" for what in served.unmodelled]
    return ReplayJob(
        schedule=run_dir / "schedule.parquet",
        run_dir=run_dir,
        endpoints=endpoints,
        access=access,
        requests={model: shape},
        balancer=options.balancer,
        transport=options.transport,
        **limits.model_dump(),
        manifest=ClientManifest(
            run_id=run_dir.name,
            kind="real",
            state="running",
            model=model,
            weights="the server's own" if served is not None else "none: no server was asked",
            device=Device(kind="unknown", name=f"server at {address(asked)}" if served is not None else "no server"),
            service=(ServiceConfig() if served is None else served.service).model_copy(
                update={"replicas": len(first), "balancer": options.balancer}
            ),
            shapes={} if served is None else {tensor.name: tuple(tensor.shape) for tensor in served.inputs},
            inputs=values,
            client=limits,
            pattern=name,
            pattern_parameters=schedule.provenance.get("parameters", schedule.provenance),
            seed=options.seed,
            duration_s=schedule.duration_s,
            versions=versions(),
            notes=tuple(notes),
        ),
    )


def _schedule(kind: type[Pattern], options: Any, run_time_s: float | None) -> tuple[Schedule, list[str]]:
    """The arrivals, of a model that is not known yet, and what is to be said of them."""
    if options.trace:
        path, reading = Path(options.trace), _reading(options)
        schedule = read_trace(
            path, "", speed_up=options.speed_up, keep=options.keep, seed=options.seed, **reading
        ).until(run_time_s)
        return schedule, [*read_recorded(path, seed=options.seed, **reading).notes]
    if kind is Trace:
        raise ReplayError("no trace was given: --trace FILE (a log, a CSV, or a file with one time a line)")
    pattern = make_pattern(kind.name, **{f.name: getattr(options, f.name) for f in dataclasses.fields(kind)})
    duration_s = run_time_s or kind.default_duration_s
    schedule = poisson_schedule(pattern, duration_s, options.seed, "")
    reached = float(pattern.rate_rps(np.linspace(0.0, duration_s, 1000, endpoint=False)).max())
    if reached >= SHOWN_SHARE * pattern.peak_rps:
        return schedule, []
    note = f"a run of {duration_s:g} s reaches {reached:.0f} requests/s of the pattern's peak of {pattern.peak_rps:.0f}"
    return schedule, [f"{note}: a longer one (-t) shows more of it"]


def _served(options: Any, asked: str, have_lengths: bool, access: Access) -> DiscoveredModel:
    named = the_model(asked, options.model or None, access)
    shapes, values = parse_shapes(options.shape.split()), parse_values(options.input.split())
    return model_tensors(asked, named, shapes, values, have_lengths=have_lengths, access=access)


def _endpoints(given: str, host: str | None, transport: str) -> Path | tuple[str, ...]:
    if given.endswith(".json"):
        return Path(given).resolve()
    listed = given or host
    if not listed:
        raise ReplayError("no server was given: --host http://127.0.0.1:8000")
    if transport == "grpc" and not given:
        return (grpc_beside(listed),)
    return tuple(listed.split(","))
