"""`kis watch`: shows what testbed.pipeline.watched reads, again and again."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.live import Live

from loadgen.access import INSECURE
from testbed.cli import options
from testbed.cli.console import console, say, stop_event


def watch(
    target: Annotated[
        str,
        typer.Argument(
            help="A results folder, a run's folder, or http(s)://HOST:PORT/metrics of a controller, or deployment/NAME."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="One frame, then end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds from one look to the next.")] = 2.0,
    target_ms: Annotated[
        float | None, typer.Option(help=r"Latency target. \[default: the experiment's, or the catalog's]", min=0.001)
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of the deployment.")] = "default",
    kubeconfig: options.Kubeconfig = None,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    insecure: options.Insecure = False,
    header: options.Header = None,
    header_file: options.HeaderFile = None,
) -> None:
    """Reads only, at the lowest priority. Ends when nothing runs there any more, or with ctrl-c."""
    from testbed.cli.watched_frame import drawn
    from testbed.pipeline.watched import source_of

    access = options.access_of(ca, cert, key, insecure, header, header_file)
    source = source_of(target, None if target_ms is None else target_ms / 1e3, namespace, kubeconfig, access)
    if insecure:
        say(INSECURE)
    frame = source.frame()
    if once:
        console.print(drawn(frame))
        return
    os.nice(19)  # what is measured goes first
    stop = stop_event()
    with Live(drawn(frame), console=console, auto_refresh=False) as screen:
        while frame.running and not stop.wait(every):
            frame = source.frame()
            screen.update(drawn(frame), refresh=True)
