"""`kis devices`."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, configured, flags
from testbed.pipeline.devices_config import DevicesConfig


@flags(DevicesConfig, usual=["repeats"])
def devices(given: Given, config: options.Config, out: options.Out = None) -> None:
    """Each study's ratio comes with an interval.

    Example: [bold]kis devices testbed/configs/devices.yaml[/bold]
    Continue after an interrupt: [bold]kis devices testbed/configs/devices.yaml --out results/that-folder[/bold]
    """
    settings = configured(DevicesConfig, config, given)
    folder = options.out_folder(out, "devices")
    with ConsoleReporter() as reporter:
        reporter.phase(f"{' against '.join(settings.devices)}: {', '.join(study.model for study in settings.studies)}")
        from testbed.pipeline.devices import compare_devices

        page = compare_devices(settings, folder, reporter)
    _show(json.loads((folder / "ratios.json").read_text()))
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
