"""`kis serve`."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli import options
from testbed.cli.console import console, say
from testbed.cli.flags import Given, configured, flags
from testbed.config import ServeConfig
from workloads.files import write_json

if TYPE_CHECKING:
    from testbed.pipeline.target import Target

TARGETS = "prometheus.json"  # of the folder: what Prometheus scrapes, in the format of its file_sd_configs


@flags(ServeConfig, usual=["model", "device", *options.service(), "threads"])
def serve(
    given: Given,
    config: options.ConfigFile = None,
    http_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=r"Of the first replica. \[default: free]")
    ] = None,
    latency_summaries: Annotated[
        bool, typer.Option("--latency-summaries", help="Percentiles on the metrics pages, for Prometheus.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help=rf"Folder for logs and {TARGETS}. \[default: temporary]")] = None,
) -> None:
    """A CPU that computes --model resnet50 does not keep up with the example's bursts; the emulated accelerator does.

    Traffic for it, elsewhere: [bold]locust -f loadgen/bursty.py --host http://127.0.0.1:8000[/bold]
    """
    settings = configured(ServeConfig, config, options.with_emulated(given))
    from testbed.pipeline.target import served

    with tempfile.TemporaryDirectory(prefix="kis-serve-") as scratch, ExitStack() as opened:
        with console.status(f"starting {settings.service.replicas} x tritonserver with {settings.model}"):
            folder = out or Path(scratch)
            target = opened.enter_context(
                served(settings, folder, http_port=http_port, latency_summaries=latency_summaries)
            )
            write_json(folder / TARGETS, scraped(target))
        try:
            say(f"{target.model} on {target.device.name}")
            start_up = {event.replica: event.start_up_s for event in target.events() if event.start_up_s is not None}
            for address in target.addresses():  # a line each, so that it can be copied
                seconds = start_up.get(address.endpoint)
                say(address.endpoint if seconds is None else f"{address.endpoint}, ready after {seconds:.1f} s")
                of_it = {"HTTP": address.http_url, "gRPC": address.grpc, "metrics": address.metrics_url}
                for name, where in of_it.items():
                    say(f"  {name:8}{where or 'not known'}")
            say(f"weights: {target.weights}; ctrl-c stops")
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("stopping")


def scraped(target: Target) -> list[dict[str, Any]]:
    """Each replica's metrics page for Prometheus, with the labels that a pod would have."""
    return [
        {
            "targets": [address.metrics_url.removeprefix("http://").partition("/")[0]],
            "labels": {"namespace": "local", "pod": address.endpoint},
        }
        for address in target.addresses()
        if address.metrics_url is not None
    ]
