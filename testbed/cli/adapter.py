"""`kis adapter`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from testbed.adapter.run import AdapterConfig, run_adapter
from testbed.config import load_config


def adapter(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="[default: the pod's own account, or KUBECONFIG]")
    ] = None,
) -> None:
    """Serve what Triton tells of its queues to the stock HPA: external and custom metrics.

    Example: [bold]kis adapter testbed/configs/adapter.yaml[/bold]
    """
    settings = load_config(config, AdapterConfig)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_adapter(settings, kubeconfig=kubeconfig, stop=stop)
