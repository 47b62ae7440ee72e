"""`kis controller`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli import options
from testbed.config import build, load_config
from testbed.controller.run import ControllerConfig, run_controller


def controller(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    policy: Annotated[str | None, typer.Option("--policy", help="KIND:key=value,... instead of the file's.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Decide, log and export, and never patch.")] = False,
    once: Annotated[bool, typer.Option("--once", help="One decision, then end.")] = False,
    adapt: Annotated[
        Path | None, typer.Option("--adapt", help="Adapt the policy to its service as it drifts: a file (YAML).")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="[default: the pod's own account, or KUBECONFIG]")
    ] = None,
) -> None:
    """Scale a real deployment of Triton pods with a policy; one JSON line a decision. Fails static.

    Example: [bold]kis controller testbed/configs/controller.yaml --shadow[/bold]
    """
    settings = load_config(config, ControllerConfig)
    changed: dict[str, Any] = {"shadow": True} if shadow else {}
    if policy is not None:
        changed["policy"] = options.policy_flag(policy)
    settings = build(ControllerConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())  # it gives its lease back
    if adapt is None:
        run_controller(settings, kubeconfig=kubeconfig, once=once, stop=stop)
        return
    from testbed.adaptation.live import AdaptConfig, adapted  # noqa: PLC0415 - the simulator, for who has asked for it

    with adapted(load_config(adapt, AdaptConfig), f"deployment {settings.deployment}") as wrap:
        run_controller(settings, kubeconfig=kubeconfig, once=once, stop=stop, wrap=wrap)
