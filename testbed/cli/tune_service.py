"""`kis tune-service`."""

from __future__ import annotations

import typer

from loadgen.access import INSECURE
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, Short, configured, flags
from testbed.cli.out import out_folder
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from testbed.pipeline.traffic import length_notes
from testbed.study import all_processors

MODEL = Short(
    "--model", "models", "Model on the server; may be repeated, e.g. one network in several precisions.", list
)
DELAYS = Short("--queue-delay-ms", "queue_delay_s", "To try; may be repeated.", options.seconds)

GRID = ("instances", "max_batch_size", DELAYS, "preferred_batch_sizes", "max_replicas")


@flags(
    TuneServiceConfig,
    usual=[
        *("server", *options.ACCESS, MODEL, "metrics", options.SHAPES, "target_ms", "percentile"),
        *(*GRID, "price_per_gpu_hour", "currency", "picks"),
        *(*options.TRAFFIC, "traffic.speed_up", "seed"),
    ],
)
def tune_service(given: Given, config: options.ConfigFile = None, out: options.Out = None) -> None:
    """Measure a model at each number of instances, simulate all other settings, and run the best ones for real.

    Start Triton with --model-control-mode=explicit: then the settings are loaded by themselves, and the model's own
    ones at the end again. Otherwise the model is measured as it is, and you restart Triton to have a pick confirmed.
    Continue after an interrupt: [bold]kis tune-service --out results/that-folder[/bold]
    """
    folder = out_folder(out, "tune-service")
    made_with = folder / "tune-service.json"
    file = config or (made_with if made_with.exists() else None)
    settings = configured(TuneServiceConfig, file, given)
    with ConsoleReporter(folder) as reporter:
        reporter.notes([*length_notes({"": settings.traffic}), *([INSECURE] if settings.access.insecure else [])])
        from testbed.pipeline.service_tuning import tune_service as run
        from testbed.reporting.reports import write_report
        from testbed.reporting.service_tuning import (
            effort_text,
            error_pct,
            range_text,
            real_text,
            sentence,
            setting_name,
        )

        tuned = run(settings, folder, reporter, workers=all_processors())
        reporter.phase("report")
        report = write_report(folder)
    named = f"P{settings.percentile:g}"
    rows = table("pick", "replicas", f"{named} simulated, ms", f"{named} real", "error %", caption="on the traffic")
    for pick in tuned["picks"]:
        row = tuned["settings"][pick["setting"]]
        error = shown(error_pct(pick, "traffic"), "+.1f")
        predicted = range_text(row["latency_ms"])
        rows.add_row(setting_name(row), str(row["service"]["replicas"]), predicted, real_text(pick, "traffic"), error)
    if tuned["picks"]:
        console.print(rows)
    say(sentence(tuned))
    say(effort_text(tuned))
    for pick in tuned["picks"]:
        if "open" in pick:
            say(f"Not run, as {pick['open']}: put {folder / pick['file']} in place of the model's, start Triton again,")
            say(f"and run `kis tune-service --out {folder}` to have it confirmed.")
            break
    for pick in tuned["picks"]:
        print_path(console, folder / pick["file"])
    print_path(console, report)
    if not any(row["holds"] for row in tuned["settings"]):
        raise typer.Exit(1)
