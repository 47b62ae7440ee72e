"""`kis replay` and `kis measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadgen.endpoints import grpc_beside
from loadgen.validity import EXIT_INVALID
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import new_folder, out_folder
from testbed.config import MeasureConfig, ReplayConfig
from testbed.pipeline.traffic import length_notes, make_schedule, traffic_identity
from testbed.run_dir import RunDir

if TYPE_CHECKING:
    from loadgen.schedule import Schedule
    from testbed.machine import Machine
    from testbed.pipeline.target import Target

AllowInvalid = Annotated[
    bool, typer.Option("--allow-invalid", help=f"Exit with 0 after an INVALID run, too (else {EXIT_INVALID}).")
]
USUAL = (*options.TRAFFIC, options.BATCH, "traffic.seed", "client.transport", "client.workers", *options.CLIENT)


@flags(
    ReplayConfig,
    usual=[
        *("server", *options.ACCESS, "metrics", "model", *USUAL),
        *(options.SHAPES, options.INPUTS, "requests"),
    ],
)
def replay(
    given: Given,
    config: options.ConfigFile = None,
    out: options.Out = None,
    allow_invalid: AllowInvalid = False,
) -> None:
    """Leaves a run folder with its verdict, and a page."""
    settings = configured(ReplayConfig, config, given)
    over_grpc = settings.client.transport == "grpc"
    asked = None if out is None else out_folder(out, "replay")  # before any work
    grpc_address = settings.grpc or grpc_beside(settings.server)
    with ConsoleReporter() as reporter:
        reporter.phase(f"ask {settings.server} for its model")
        from testbed.measurement.machine import look
        from testbed.pipeline.looked import look_first
        from testbed.pipeline.target import Sent, remote

        target = remote(
            settings.server,
            settings.model,
            settings.metrics,
            grpc_address if over_grpc else None,
            settings.shapes,
            Sent(settings.inputs, settings.requests),
            have_lengths=settings.traffic.lengths is not None,
            access=settings.access,
        )
        schedule = make_schedule(settings.traffic, target.model)
        reporter.notes(target.notes)
        folder = asked or new_folder(f"replay-{target.model}")
        reporter.keep_in(folder)
        machine = look_first(reporter, look, settings.client)
        run = _send(settings, schedule, target, folder, reporter, machine)
    show_run(console, run, allow_invalid)


@flags(MeasureConfig, usual=["serve.model", "serve.device", *options.service("serve.service"), *USUAL])
def measure(
    given: Given,
    config: options.ConfigFile = None,
    out: options.Out = None,
    allow_invalid: AllowInvalid = False,
) -> None:
    """Leaves a run folder with its verdict, and a page."""
    serve = options.with_emulated(given.get("serve", {}))
    settings = configured(MeasureConfig, config, {**given, "serve": serve} if serve else given)
    folder = out_folder(out, "measure", f"measure-{settings.serve.model}")
    schedule = make_schedule(settings.traffic, settings.serve.model)
    with ConsoleReporter(folder) as reporter:
        reporter.phase(
            f"{len(schedule)} requests in {schedule.duration_s:.0f} s to {settings.serve.model}, served here"
        )
        from testbed.measurement.machine import look
        from testbed.pipeline.looked import look_first
        from testbed.pipeline.target import served

        machine = look_first(reporter, look, settings.client, [settings.serve])
        reporter.phase(f"start {settings.serve.service.replicas} x tritonserver with {settings.serve.model}")
        publish: Literal["http", "grpc"] = "grpc" if settings.client.transport == "grpc" else "http"
        with served(settings.serve, folder / "serving", publish) as target:
            run = _send(settings, schedule, target, folder, reporter, machine)
    show_run(console, run, allow_invalid)


def _send(
    settings: ReplayConfig | MeasureConfig,
    schedule: Schedule,
    target: Target,
    folder: Path,
    reporter: ConsoleReporter,
    machine: Machine | None,
) -> RunDir:
    reporter.phase(f"replay {len(schedule)} requests in {schedule.duration_s:.0f} s to {target.model}")
    reporter.notes(length_notes({"": settings.traffic}))
    from testbed.pipeline.real_run import run_real

    return run_real(
        target,
        schedule,
        folder,
        traffic_identity(folder.name, settings.traffic),
        settings.client,
        settings.sample_period_s,
        reporter.progress,
        machine=machine,
    )


def show_run(console: Console, run: RunDir, allow_invalid: bool = False, page: Path | None = None) -> None:
    """Counts, latency and verdict of one run, its folder and its page; EXIT_INVALID if the verdict says so.

    page: None: it is not written yet.
    """
    import numpy as np

    from loadgen.request_log import RequestLog
    from testbed.reporting.reports import write_report

    manifest, log = run.manifest, RequestLog.read(run.requests)
    rows = Table(*log.counts(), "P50 ms", "P95 ms", "P99 ms", box=SIMPLE, pad_edge=False)
    latency_ms = log.latency_s[log.ok] * 1e3
    quantiles = [f"{np.percentile(latency_ms, p):.2f}" if len(latency_ms) else "-" for p in (50, 95, 99)]
    rows.add_row(*(str(count) for count in log.counts().values()), *quantiles)
    console.print(rows)
    verdict = manifest.verdict
    if verdict is not None:
        reasons = escape("; ".join(verdict.reasons))
        console.print("[green]VALID[/green]" if verdict.valid else f"[red]INVALID[/red]: {reasons}", highlight=False)
    print_path(console, run.path)
    print_path(console, page or write_report(run.path))
    if verdict is not None and not verdict.valid and not allow_invalid:
        raise typer.Exit(EXIT_INVALID)
