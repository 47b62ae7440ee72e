"""`kis traffic`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, shown, table
from testbed.cli.flags import Given, Short, configured, flags
from testbed.cli.out import out_folder
from testbed.config import TraceConfig
from testbed.study import refuse_others
from workloads.files import write_json

FILE = "traffic.json"
_FORMAT = Short("--format", "format", options.FORMATS_HELP)


@flags(TraceConfig, usual=[_FORMAT, "column", "unit", "where", "spread", "max_gap_s", "seed"])
def traffic(
    given: Given,
    file: Annotated[Path | None, typer.Argument(help="A log, a CSV, a list of times, ...", show_default=False)] = None,
    out: options.Out = None,
) -> None:
    """What is in it, before anything is simulated or sent; nothing is asked of a server.

    The same flags read it in the other commands: kis plan --trace FILE --column NAME.
    """
    config = configured(TraceConfig, None, given if file is None else {**given, "trace": str(file)})
    folder = out_folder(out, "traffic", f"traffic-{config.trace.stem}")
    if (folder / FILE).exists():
        from loadgen.artifact import read_json

        refuse_others(config, read_json(folder / FILE, "choose another folder with --out")["config"], folder / FILE)
    from loadgen.traces import read_recorded
    from testbed.pipeline.described import described
    from testbed.reporting.reports import write_report
    from testbed.reporting.traffic import sentence, span_text

    with ConsoleReporter() as reporter:
        reporter.phase(f"read {config.trace}")
        recorded = read_recorded(config.trace, **config.reading(), seed=config.seed)
        reporter.note(f"{recorded.format}: {recorded.why}")
        reporter.notes(recorded.notes)
        facts = described(recorded, config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, facts)
    rows = table(
        "window",
        "busiest requests/s",
        "peak to mean",
        "index of dispersion",
        caption="of a Poisson process the index of dispersion is 1",
    )
    for one in facts["windows"]:
        values = (shown(one[key]) for key in ("peak_rps", "peak_to_mean", "dispersion"))
        rows.add_row(span_text(one["window_s"]), *values)
    if facts["windows"]:
        console.print(rows)
    console.print(sentence(facts), highlight=False, markup=False)
    print_path(console, write_report(folder))
