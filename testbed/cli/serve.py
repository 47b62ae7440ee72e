"""`kis serve`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from testbed.cli import options
from testbed.config import ServeConfig
from testbed.pipeline.target import served


def serve(
    config: options.ConfigFile = None,
    model: options.Model = None,
    device: options.Device = None,
    replicas: options.Replicas = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads of each instance.")] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", min=1, max=65535, help="Of the first replica. [default: free]")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for logs. [default: temporary]")] = None,
) -> None:
    """Serve a model of the catalog with real tritonserver processes on this machine, until ctrl-c.

    Example: [bold]kis serve --model resnet50 --http-port 8000[/bold], then, elsewhere,
    [bold]locust -f loadgen/bursty.py --host http://127.0.0.1:8000[/bold].
    """
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "service": options.service_flags(replicas, instances, max_batch_size, queue_delay_ms),
    }
    settings = options.configured(config, ServeConfig, flags)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="kis-serve-") as scratch:
        folder = out or Path(scratch)
        with console.status(f"starting {settings.service.replicas} x tritonserver with {settings.model}"):
            opened = served(settings, folder, http_port=http_port)
            target = opened.__enter__()
        try:
            table = Table("replica", "http", "metrics", "start-up", title=f"{target.model} on {target.device.name}")
            start_up = {event.replica: event.start_up_s for event in target.events() if event.start_up_s is not None}
            for address in target.addresses():
                seconds = start_up.get(address.endpoint)
                shown = "not measured" if seconds is None else f"{seconds:.1f} s"
                table.add_row(address.endpoint, address.http_url, address.metrics_url or "", shown)
            console.print(table)
            console.print(f"weights: {target.weights}; ctrl-c stops", highlight=False)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            opened.__exit__(None, None, None)
