"""`kis adapter`."""

from __future__ import annotations

from testbed.adapter.run import AdapterConfig, run_adapter
from testbed.cli import options
from testbed.cli.console import stop_event
from testbed.cli.flags import Given, configured, flags


@flags(AdapterConfig, usual=["namespace"])
def adapter(given: Given, config: options.Config, kubeconfig: options.Kubeconfig = None) -> None:
    """As external and custom metrics, until SIGTERM.

    Example: [bold]kis adapter testbed/configs/adapter.yaml[/bold]
    """
    run_adapter(configured(AdapterConfig, config, given), kubeconfig=kubeconfig, stop=stop_event())
