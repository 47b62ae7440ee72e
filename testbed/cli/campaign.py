"""`kis calibrate`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loadgen.access import PLAIN, Access
from loadgen.artifact import read_json
from testbed.cli import options
from testbed.cli.compare import show_comparison
from testbed.cli.console import ConsoleReporter, console, print_path, say
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.config import CalibrateConfig
from testbed.config_file import build, merge
from testbed.errors import ConfigError
from testbed.study import all_processors
from workloads.files import write_json

if TYPE_CHECKING:
    from testbed.pipeline.target import Target

SERVER = "server.json"  # of a campaign on a server of the user's: where it is
QUICK_FIT: Given = {"burst_repeats": 6, "capacity_s": 0, "loads": [0.1, 0.4], "duration_s": 10}
QUICK_HELD_OUT: Given = {"patterns": ["bursty"], "duration_s": 12}
REQUESTS = 250  # of each run against a server of unknown speed: enough for P95, and for lone requests at low load


@flags(CalibrateConfig, usual=["device", "seed"])
def calibrate(
    given: Given,
    config: options.ConfigFile = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look in about 3 minutes.")] = False,
    server: Annotated[str | None, typer.Option(help="Your own running Triton, e.g. http://host:8000.")] = None,
    model: Annotated[str | None, typer.Option(help="Your model on that server.")] = None,
    metrics: Annotated[str | None, typer.Option(help=r"Its metrics page. \[default: port 8002]")] = None,
    ca: options.Ca = None,
    cert: options.Cert = None,
    key: options.Key = None,
    insecure: options.Insecure = False,
    header: options.Header = None,
    header_file: options.HeaderFile = None,
    shape: options.Shapes = None,
    given_inputs: options.Inputs = None,
    measure_only: Annotated[
        bool, typer.Option("--measure-only", help="Only the real runs: `kis report --anew` fits them, anywhere.")
    ] = False,
    out: options.Out = None,
) -> None:
    """Without arguments: ResNet-50, BERT and an emulated accelerator on this machine, about 14 minutes.

    Your own model: [bold]kis calibrate --server http://127.0.0.1:8000 --model my_model[/bold]
    Continue after an interrupt: [bold]kis calibrate --out results/that-folder[/bold]
    """
    access = options.access_of(ca, cert, key, insecure, header, header_file)
    folder = out_folder(out, "calibrate")
    target = None
    kept = folder / SERVER
    if quick and (config is not None or (server is None and kept.exists())):
        raise ConfigError("--quick is a campaign of its own: leave out the config file, or --quick")
    if server is None and kept.exists():  # it goes on with the server that it was begun with
        began = read_json(kept, "give --server again")
        server, model = began["server"], model or began["model"]
        metrics, shape = metrics or began["metrics"], shape or began["shape"]
        given_inputs = given_inputs or began.get("input")
        again = merge(began.get("access", {}), access.model_dump(exclude_defaults=True))
        access = build(Access, again, str(kept))
        made = folder / "config.json"
        config = config or (made if made.exists() else None)  # with the plan that it was begun with
    if server is not None:
        from loadgen.discovery import parse_shapes, parse_values
        from testbed.pipeline.target import Sent, remote

        sent = Sent(parse_values(given_inputs or ()))
        target = remote(server, model, metrics, shapes=parse_shapes(shape or ()), sent=sent, access=access)
        settings = _for_server(config, target, given, quick)
        folder.mkdir(parents=True, exist_ok=True)
        told = {"metrics": metrics, "shape": shape, "input": given_inputs, "access": access.model_dump(mode="json")}
        write_json(kept, {"server": server, "model": target.model, **told})
    else:
        if access != PLAIN or any(flag is not None for flag in (model, metrics, shape, given_inputs)):
            raise ConfigError(
                "--model, --metrics, --shape, --input, certificates and headers are for a server of yours (--server); "
                "models of the catalog are named in the config file"
            )
        made_with = folder / "config.json"
        shipped = Path(str(resources.files("testbed") / "configs" / ("quick.yaml" if quick else "default.yaml")))
        file = config or (made_with if made_with.exists() and not quick else shipped)
        settings = configured(CalibrateConfig, file, given)
    with ConsoleReporter(folder) as reporter:
        reporter.phase(f"calibrate {', '.join(study.model for study in settings.studies)} into {folder}")
        reporter.notes(() if target is None else target.notes)
        from testbed.pipeline.calibrate import calibrate as run_campaign
        from testbed.reporting.compare import compare_folder
        from testbed.reporting.labels import claim
        from testbed.simulation.rules import queue_notes

        reporter.notes(queue_notes(one.dynamic_batching for study in settings.studies for one in study.configurations))

        report = run_campaign(settings, folder, reporter, target, measure_only=measure_only, workers=all_processors())
    if not measure_only:
        comparison = compare_folder(folder)
        show_comparison(console, comparison)
        for group in comparison.summary.groups:
            say(claim(group))
        for profile in sorted(folder.glob("profile-*.json")):
            print_path(console, profile)
    print_path(console, report)


def _for_server(config: Path | None, target: Target, given: Given, quick: bool = False) -> CalibrateConfig:
    """The plan of the config file's only study, or one for a server of unknown speed, aimed at the user's model."""
    if config is None:
        fit: Given = QUICK_FIT if quick else {}
        held_out: Given = QUICK_HELD_OUT if quick else {}
        aimed: Given = {"model": target.model, "configurations": (target.service.model_dump(),)}
        enough: Given = {"requests": REQUESTS}
        study: Given = aimed | {"fit": enough | fit, "held_out": enough | held_out}
        return configured(CalibrateConfig, None, {"studies": [study], **given})
    settings = configured(CalibrateConfig, config, given)
    if len(settings.studies) != 1:
        raise ConfigError(f"{config}: with --server it must have one study, it has {len(settings.studies)}")
    aimed_at = settings.studies[0].model_copy(
        update={"model": target.model, "configurations": (target.service,), "emulated": None}
    )
    return settings.model_copy(update={"studies": (aimed_at,)})
