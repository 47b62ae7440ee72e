"""`kis pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.pipeline.packing_config import PackConfig
from testbed.pipeline.traffic import length_note, trace_notes
from testbed.study import refuse_others
from workloads.files import write_json

if TYPE_CHECKING:
    from testbed.reporting.packing import Told


@flags(
    PackConfig,
    usual=["gpu.sharing", "gpu.shares", "gpu.memory_gib", "gpu.interference", "max_replicas", "duration_s", "seed"],
)
def pack(given: Given, config: options.Config, out: options.Out = None) -> None:
    """The fewest GPUs on which all models hold their targets, beside a GPU for each; and which pairs may not share one.

    Groups of up to 6 models are all looked at; of more models, first-fit decreasing finds the groups.
    """
    settings = configured(PackConfig, config, given)
    folder = out_folder(out, "pack")
    if (folder / "packing.json").exists():
        from testbed.reporting.reports.packing import read_packing

        refuse_others(settings, read_packing(folder)["config"], folder / "packing.json")
    with ConsoleReporter() as reporter:
        for model in settings.models:
            reporter.notes(trace_notes(model.traffic))
            cut = length_note(model.name, model.traffic, settings.duration_s, "the run")
            reporter.notes([] if cut is None else [cut])
        from testbed.pipeline.packing import pack as run
        from testbed.pipeline.packing_manifests import write_placement
        from testbed.reporting.packing import law_text, memory_text, sentence, why_not
        from testbed.reporting.reports import write_report

        told = run(settings, reporter)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "packing.json", told)
    console.print(_table(told))
    console.print(sentence(told), highlight=False, markup=False)
    for pair in told["pairs"]:
        if reason := why_not(told, pair):
            console.print(f"Not together: {' and '.join(pair['models'])} ({reason})", highlight=False, markup=False)
    for line in filter(None, (law_text(told), memory_text(told))):
        console.print(line, highlight=False, markup=False)
    if told["gpus"]:
        placed = {gpu["name"]: tuple(gpu["models"]) for gpu in told["gpus"]}
        print_path(console, write_placement(settings, placed, folder)[0])
    print_path(console, write_report(folder))
    if not told["holds"]:
        raise typer.Exit(1)


def _table(told: Told) -> Table:
    from testbed.reporting.packing import gpus_of

    headings = ("target\nms", "own GPUs\nms", "packed\nms", "holds")
    rows = table("model", "GPUs", *headings, caption="simulated, beneath 90 % intervals for one run")
    for model in told["models"]:
        own, held = model["separate"] or model["searched"], model["packed"] or model["searched"]
        packed = "-" if model["packed"] is None else _latency(model["packed"])
        target = f"P{model['percentile']:g} {model['target_ms']:g}"
        gpus = "\n".join(gpus_of(told, model)) or "-"
        holds = "yes" if held["holds"] else "no"
        rows.add_row(model["name"], gpus, target, _latency(own), packed, holds)
    return rows


def _latency(held: dict[str, dict[str, float]]) -> str:
    return "{middle:.1f}\n{low:.1f} to {high:.1f}".format(**held["latency_ms"])
