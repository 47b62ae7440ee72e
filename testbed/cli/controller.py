"""`kis controller`, `kis adapter` and `kis activator`: what runs in a cluster beside the pods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.activator.config import ActivatorConfig
from testbed.adapter.config import AdapterConfig
from testbed.cli import options
from testbed.cli.console import stop_event
from testbed.cli.flags import Given, Short, configured, flags
from testbed.config_file import keys_of, load_config
from testbed.controller.config import BudgetControllerConfig, ControllerConfig
from testbed.errors import ConfigError

POLICY = Short("--policy", "policy", options.POLICY_HELP, lambda texts: options.policy_of(texts[-1]))


@flags(ControllerConfig, BudgetControllerConfig, usual=[POLICY, "shadow"])
def controller(
    given: Given,
    config: options.Config,
    once: Annotated[bool, typer.Option("--once", help="One decision, then end.")] = False,
    adapt: Annotated[Path | None, typer.Option(help="A file (YAML): adapt the policy as its service drifts.")] = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """One JSON line a decision. Fails static. With [bold]deployments[/bold], several share a budget of GPUs."""
    from testbed.controller.run import run_controller

    policy = given.pop("policy", None)  # another one altogether, not some keys of the file's
    if "deployments" in given or "deployments" in keys_of(config):
        if policy is not None or adapt is not None:
            raise ConfigError(f"--{'adapt' if policy is None else 'policy'} goes with one deployment, not with several")
        several = configured(BudgetControllerConfig, config, given)
        run_controller(several, kubeconfig=kubeconfig, once=once, stop=stop_event())
        return
    settings = configured(ControllerConfig, config, given)
    if policy is not None:
        settings = settings.model_copy(update={"policy": policy})
    stop = stop_event()  # it gives its lease back
    if adapt is None:
        run_controller(settings, kubeconfig=kubeconfig, once=once, stop=stop)
        return
    from testbed.adaptation.adaptive import adapted
    from testbed.adaptation.settings import AdaptConfig

    with adapted(load_config(adapt, AdaptConfig), f"deployment {settings.deployment}") as wrap:
        run_controller(settings, kubeconfig=kubeconfig, once=once, stop=stop, wrap=wrap)


@flags(AdapterConfig, usual=["namespace"])
def adapter(given: Given, config: options.Config, kubeconfig: options.Kubeconfig = None) -> None:
    """As external and custom metrics, until SIGTERM."""
    settings = configured(AdapterConfig, config, given)
    from testbed.adapter.run import run_adapter

    run_adapter(settings, kubeconfig=kubeconfig, stop=stop_event())


@flags(ActivatorConfig, usual=["namespace"])
def activator(given: Given, config: options.Config, kubeconfig: options.Kubeconfig = None) -> None:
    """Connections wait in it while there is no pod. Until SIGTERM; then what is open finishes."""
    settings = configured(ActivatorConfig, config, given)
    from testbed.activator.run import run_activator

    run_activator(settings, kubeconfig=kubeconfig, stop=stop_event())
