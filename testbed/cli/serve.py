"""`kis serve`."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from testbed.cli import options
from testbed.cli.console import console, say
from testbed.cli.flags import Given, configured, flags
from testbed.config import ServeConfig

# Of `--model emulated`, which has no times of its own.
EMULATED = Path(str(resources.files("testbed") / "configs" / "serve-emulated.yaml"))


@flags(ServeConfig, usual=["model", "device", *options.service(), "threads"])
def serve(
    given: Given,
    config: options.ConfigFile = None,
    http_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=r"Of the first replica. \[default: free]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=r"Folder for logs. \[default: temporary]")] = None,
) -> None:
    """A CPU that computes --model resnet50 does not keep up with the example's bursts; the emulated accelerator does.

    Example: [bold]kis serve --model emulated --http-port 8000[/bold], then, elsewhere,
    [bold]locust -f loadgen/bursty.py --host http://127.0.0.1:8000[/bold]
    """
    if config is None and given.get("model") == "emulated" and "emulated" not in given:
        config = EMULATED
    settings = configured(ServeConfig, config, given)
    from testbed.pipeline.target import served

    with tempfile.TemporaryDirectory(prefix="kis-serve-") as scratch, ExitStack() as opened:
        with console.status(f"starting {settings.service.replicas} x tritonserver with {settings.model}"):
            target = opened.enter_context(served(settings, out or Path(scratch), http_port=http_port))
        try:
            table = Table(
                "replica",
                Column("http", overflow="fold"),
                Column("metrics", overflow="fold"),
                "start-up",
                title=f"{target.model} on {target.device.name}",
            )
            start_up = {event.replica: event.start_up_s for event in target.events() if event.start_up_s is not None}
            for address in target.addresses():
                seconds = start_up.get(address.endpoint)
                text = "not measured" if seconds is None else f"{seconds:.1f} s"
                table.add_row(address.endpoint, address.http_url, address.metrics_url or "", text)
            console.print(table)
            say(f"weights: {target.weights}; ctrl-c stops")
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("stopping")
