"""`kis calibrate`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from testbed.cli import options
from testbed.cli.compare import show_comparison
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import CalibrateConfig
from testbed.errors import ConfigError
from testbed.pipeline.calibrate import calibrate as run_campaign
from testbed.pipeline.target import remote
from testbed.reporting.compare import compare_folder


def calibrate(
    config: options.ConfigFile = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look in at most 3 minutes.")] = False,
    server: Annotated[
        str | None, typer.Option("--server", help="Your own running Triton, e.g. http://host:8000.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Your model on that server.")] = None,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Its metrics page. [default: port 8002]")] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; one that was interrupted is continued.")
    ] = None,
) -> None:
    """The whole loop: serve, replay, measure, fit, simulate held-out traffic, compare, report.

    Without arguments: ResNet-50, BERT and an emulated accelerator on this machine, about 12 minutes.
    Your own model: [bold]kis calibrate --server http://127.0.0.1:8000 --model my_model[/bold]
    Continue after an interrupt: [bold]kis calibrate --out results/that-folder[/bold]
    """
    target = None
    if server is not None:
        target = remote(server, model, metrics)
        study = {"model": target.model, "configurations": [target.service.model_dump()]}
        settings = options.configured(config, CalibrateConfig, {"seed": seed, "studies": [study]})
    elif model is not None:
        raise ConfigError("--model is for a server of yours (--server); a catalog model is named in the config file")
    else:
        file = config or Path(str(resources.files("testbed") / "configs" / ("quick.yaml" if quick else "default.yaml")))
        settings = options.configured(file, CalibrateConfig, {"device": device, "seed": seed})
    folder = options.out_folder(out, "calibrate")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        report = run_campaign(settings, folder, narrator, target)
    show_comparison(console, compare_folder(folder))
    print_path(console, report)
