"""`kis replay` and `kis measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadgen.discovery import parse_shapes
from loadgen.endpoints import address as http_address
from loadgen.request_log import RequestLog
from loadgen.validity import EXIT_INVALID
from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.config import MeasureConfig, ReplayConfig
from testbed.measurement.machine import look
from testbed.pipeline.looked import look_first
from testbed.pipeline.real_run import run_real
from testbed.pipeline.target import remote, served
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.run_dir import RunDir

Transport = Annotated[str | None, typer.Option("--transport", help="http, http_shm or grpc.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Client processes that share the schedule.")]


def replay(
    config: options.ConfigFile = None,
    server: Annotated[
        str | None, typer.Option("--server", help="A running Triton, e.g. http://127.0.0.1:8000.")
    ] = None,
    model: options.Model = None,
    pattern: options.Pattern = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    trace_format: options.TraceFormat = None,
    duration: options.Duration = None,
    seed: options.Seed = None,
    transport: Transport = None,
    grpc: Annotated[str | None, typer.Option("--grpc", help="Its gRPC address. [default: port 8001]")] = None,
    shape: options.Shapes = None,
    workers: Workers = None,
    timeout_s: options.ClientTimeout = None,
    max_in_flight: options.MaxInFlight = None,
    out: options.Out = None,
) -> None:
    """Replay a pattern or a trace, open-loop, against a running Triton; leaves a run folder with its verdict.

    Example: [bold]kis replay --server http://127.0.0.1:8000 --pattern bursty --set spike=200 --duration 60[/bold]
    """
    flags = {
        "server": server,
        "grpc": grpc,
        "model": model,
        "shapes": parse_shapes(shape or ()),
        "traffic": options.traffic_flags(pattern, parameters, trace, trace_format, duration, seed),
        "client": {
            "transport": transport,
            "workers": workers,
            "timeout_s": timeout_s,
            "max_in_flight": max_in_flight,
        },
    }
    settings = options.configured(config, ReplayConfig, flags)
    over_grpc = settings.client.transport == "grpc"
    grpc_address = settings.grpc or f"{http_address(settings.server).rpartition(':')[0]}:8001"
    target = remote(
        settings.server,
        settings.model,
        settings.metrics,
        grpc_address if over_grpc else None,
        settings.shapes,
        have_lengths=settings.traffic.lengths is not None,
    )
    schedule = make_schedule(settings.traffic, target.model)
    folder = options.out_folder(out, f"replay-{target.model}")
    identity = traffic_identity(folder.name, settings.traffic)
    console = Console()
    with ConsoleNarrator(console) as narrator:
        machine = look_first(narrator, look, settings.client)
        narrator.phase(f"replay {len(schedule)} requests in {schedule.duration_s:.0f} s to {settings.server}")
        run = run_real(
            target,
            schedule,
            folder,
            identity,
            settings.client,
            settings.sample_period_s,
            narrator.progress,
            machine=machine,
        )
    show_run(console, run)


def measure(
    config: options.ConfigFile = None,
    model: options.Model = None,
    device: options.Device = None,
    replicas: options.Replicas = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    pattern: options.Pattern = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    trace_format: options.TraceFormat = None,
    duration: options.Duration = None,
    seed: options.Seed = None,
    out: options.Out = None,
) -> None:
    """Serve a model on this machine, replay traffic against it and sample everything, into one run folder.

    Example: [bold]kis measure --model resnet50 --pattern periodic --set mean=8 --set amplitude=5 --duration 60[/bold]
    """
    flags = {
        "serve": {
            "model": model,
            "device": device,
            "service": options.service_flags(replicas, instances, max_batch_size, queue_delay_ms),
        },
        "traffic": options.traffic_flags(pattern, parameters, trace, trace_format, duration, seed),
    }
    settings = options.configured(config, MeasureConfig, flags)
    folder = options.out_folder(out, f"measure-{settings.serve.model}")
    schedule = make_schedule(settings.traffic, settings.serve.model)
    console = Console()
    with ConsoleNarrator(console) as narrator:
        machine = look_first(narrator, look, settings.client, [settings.serve])
        narrator.phase(f"start {settings.serve.service.replicas} x tritonserver with {settings.serve.model}")
        publish: Literal["http", "grpc"] = "grpc" if settings.client.transport == "grpc" else "http"
        with served(settings.serve, folder / "serving", publish) as target:
            narrator.phase(f"replay {len(schedule)} requests in {schedule.duration_s:.0f} s")
            identity = traffic_identity(folder.name, settings.traffic)
            run = run_real(
                target,
                schedule,
                folder,
                identity,
                settings.client,
                settings.sample_period_s,
                narrator.progress,
                machine=machine,
            )
    show_run(console, run)


def show_run(console: Console, run: RunDir) -> None:
    """Counts, latency and verdict of one run, and its folder; EXIT_INVALID if the verdict says so."""
    manifest, log = run.manifest, RequestLog.read(run.requests)
    table = Table(*(status for status, count in log.counts().items()), "P50", "P95", "P99", title=manifest.run_id)
    latency_ms = log.latency_s[log.ok] * 1e3
    quantiles = [f"{np.percentile(latency_ms, p):.2f} ms" if len(latency_ms) else "-" for p in (50, 95, 99)]
    table.add_row(*(str(count) for count in log.counts().values()), *quantiles)
    console.print(table)
    verdict = manifest.verdict
    if verdict is not None:
        reasons = escape("; ".join(verdict.reasons))
        console.print("[green]VALID[/green]" if verdict.valid else f"[red]INVALID[/red]: {reasons}", highlight=False)
    print_path(console, run.path)
    if verdict is not None and not verdict.valid:
        raise typer.Exit(EXIT_INVALID)


def print_path(console: Console, path: Path) -> None:
    """A path on a line of its own, never wrapped, so that it can be copied."""
    console.print(str(path), soft_wrap=True, highlight=False, markup=False)
