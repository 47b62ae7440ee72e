"""`kis devices`."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from loadgen.artifact import read_json
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder, runs_and_minutes
from testbed.pipeline.devices_config import DevicesConfig
from testbed.pipeline.traffic import least_s, length_notes


@flags(DevicesConfig, usual=["repeats"])
def devices(given: Given, config: options.Config, out: options.Out = None) -> None:
    """Each study's ratio comes with an interval.

    Continue after an interrupt: [bold]kis devices testbed/configs/devices.yaml --out results/that-folder[/bold]
    """
    settings = configured(DevicesConfig, config, given)
    folder = out_folder(out, "devices")
    with ConsoleReporter(folder) as reporter:
        from testbed.pipeline.devices import compare_devices, turns
        from testbed.run_dir import is_complete

        runs = [*turns(settings)]
        left = [turn.study.traffic for turn in runs if not is_complete(folder / "runs" / turn.run_id)]
        models = ", ".join(study.model for study in settings.studies)
        told = runs_and_minutes(len(runs), [*map(least_s, left)])
        reporter.phase(f"{' against '.join(settings.devices)}, {models}: {told}")
        reporter.notes(length_notes({study.model: study.traffic for study in settings.studies}))
        page = compare_devices(settings, folder, reporter)
    _show(read_json(folder / "ratios.json", f"kis report {folder}"))
    print_path(console, page)


def _show(comparison: dict[str, Any]) -> None:
    """A sentence a study, what is wrong with it, and a line a run."""
    from testbed.reporting.reports.devices import claim

    rows = table("run", "P50 ms", "P95 ms", "mean ms", "requests/s", "busy %", caption="-: not measured")
    for study in comparison["studies"]:
        for row in study["runs"]:
            mark = "" if row["valid"] else " [red]INVALID[/red]"
            mark += " [red]SATURATED[/red]" if row["saturated"] else ""
            busy = None if row["utilisation"] is None else 100 * row["utilisation"]
            rows.add_row(
                f"{escape(row['run_id'])}{mark}",
                *(shown(row[name], ".1f") for name in ("p50_ms", "p95_ms", "mean_ms")),
                shown(row["throughput_rps"]),
                shown(busy, ".0f"),
            )
    console.print(rows)
    for study in comparison["studies"]:
        for reason in study["reasons"]:
            console.print(f"[red]INVALID[/red] {escape(reason)}", highlight=False)
        for label in study["saturated"]:
            console.print(f"[red]SATURATED[/red] {study['model']} on {label}: lower the rate", highlight=False)
        say(claim(study))
