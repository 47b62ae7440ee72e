"""What the patterns' locustfiles share: Locust's arguments -> pattern -> schedule -> replay of a running Triton."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import locust

from loadgen.client_limits import TransportName
from loadgen.coordination import Replay
from loadgen.discovery import model_tensors, parse_shapes, the_model
from loadgen.endpoints import address, read_endpoints
from loadgen.job import ERROR_PREFIX, ReplayError, ReplayJob, RequestShape
from loadgen.lengths import parse_lengths, with_lengths
from loadgen.patterns import Pattern, PatternError, find_pattern, known_patterns, make_pattern
from loadgen.schedule import poisson_schedule
from workloads.catalog import Balancer

events: Any = locust.events  # untyped


def replay_pattern(name: str) -> None:
    """Make the calling locustfile replay that pattern; its parameters become arguments and fields of the web form."""
    _replay(find_pattern(name))


def replay_chosen_pattern() -> None:
    """The same of the pattern that --pattern names on the command line, by its name or as my_module:MyPattern."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pattern", default="bursty")
    try:
        kind = find_pattern(parser.parse_known_args()[0].pattern)
    except PatternError as error:  # Locust would show where in its code it was raised
        sys.exit(f"{ERROR_PREFIX}{error}")

    def _argument(parser: Any) -> None:
        known = ", ".join(name for name, kind in known_patterns().items() if kind.configurable)
        text = f"{known}, or my_module:MyPattern (default: bursty)"
        parser.add_argument("--pattern", default="bursty", help=text, include_in_web_ui=False)

    events.init_command_line_parser.add_listener(_argument)
    _replay(kind)


def _replay(kind: type[Pattern]) -> None:
    name = kind.name

    def _arguments(parser: Any) -> None:
        group = parser.add_argument_group(f"pattern: {name}", (kind.__doc__ or "").splitlines()[0])
        for field in dataclasses.fields(kind):
            group.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                default=field.default,
                help=f"{field.metadata['description']} (default: {field.default})",
            )
        _common_arguments(parser.add_argument_group("replay", "open loop, on absolute times"))

    events.init_command_line_parser.add_listener(_arguments)
    Replay(lambda environment, run_time_s: _job(kind, environment, run_time_s))


def _common_arguments(group: Any) -> None:
    group.add_argument("--model", default="", help="model to ask (default: the server's only one)")
    group.add_argument("--seed", type=int, default=0, help="seed of the arrivals (default: 0)")
    group.add_argument("--endpoints", default="", help="several servers: host:port,host:port or a JSON file to follow")
    group.add_argument("--balancer", default="round_robin", choices=get_args(Balancer), help="among several servers")
    group.add_argument("--transport", default="http", choices=get_args(TransportName), help="default: http")
    group.add_argument("--shape", default="", help="of inputs that the model leaves free: name:128 name2:3,8")
    group.add_argument("--lengths", default="", help="tokens of requests: MEDIAN:SIGMA:LONGEST, or e.g. 16,64,128")
    group.add_argument("--timeout-s", type=float, default=10.0, help="of each request (default: 10)")
    group.add_argument("--max-in-flight", type=int, default=1024, help="more are dropped, and counted (default: 1024)")
    group.add_argument("--run-dir", default="", help="default: results/<time>-<pattern>")


def _job(kind: type[Pattern], environment: Any, run_time_s: float | None) -> ReplayJob:
    options = environment.parsed_options
    pattern = make_pattern(kind.name, **{f.name: getattr(options, f.name) for f in dataclasses.fields(kind)})
    lengths = parse_lengths(options.lengths) if options.lengths else None
    endpoints = _endpoints(options.endpoints, environment.host, options.transport)
    first = read_endpoints(endpoints) if isinstance(endpoints, Path) else endpoints
    if not first:
        raise ReplayError(f"{endpoints} is empty: no server to ask")
    if options.transport == "null":
        model, shape = options.model or "null", RequestShape(inputs=())
    else:
        # Models are described over HTTP, wherever the requests go.
        asked = environment.host if options.transport == "grpc" and environment.host else first[0]
        named = the_model(asked, options.model or None)
        served = model_tensors(asked, named, parse_shapes(options.shape.split()), have_lengths=lengths is not None)
        model, shape = served.name, RequestShape(inputs=served.inputs, batched=served.batched)
    run_dir = Path(options.run_dir or f"results/{datetime.now():%Y%m%d-%H%M%S}-{kind.name}").resolve()
    if (run_dir / "requests.parquet").exists():
        raise ReplayError(f"{run_dir} already holds a run: choose another --run-dir, or remove it")
    run_dir.mkdir(parents=True, exist_ok=True)
    schedule = poisson_schedule(pattern, run_time_s or kind.default_duration_s, options.seed, model)
    if lengths is not None:
        schedule = with_lengths(schedule, lengths, options.seed)
    schedule.write(run_dir / "schedule.parquet")
    return ReplayJob(
        schedule=run_dir / "schedule.parquet",
        run_dir=run_dir,
        endpoints=endpoints,
        requests={model: shape},
        balancer=options.balancer,
        transport=options.transport,
        timeout_s=options.timeout_s,
        max_in_flight=options.max_in_flight,
    )


def _endpoints(given: str, host: str | None, transport: str) -> Path | tuple[str, ...]:
    if given.endswith(".json"):
        return Path(given).resolve()
    listed = given or host
    if not listed:
        raise ReplayError("no server was given: --host http://127.0.0.1:8000")
    if transport == "grpc" and not given:
        return (f"{address(listed).rpartition(':')[0]}:8001",)
    return tuple(listed.split(","))
