"""`kis evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import build, load_config
from testbed.pipeline import evaluate as evaluation
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.reporting.verdict import verdict


def evaluate(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    seeds: Annotated[int | None, typer.Option("--seeds", help="Runs of each traffic under each policy.")] = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """Policies on the same simulated traffic: what each misses and holds, and which is better, with what confidence.

    Given the folder of an evaluation with --out, it goes on: with what is missing, more seeds, traffic or policies.

    Example: [bold]kis evaluate testbed/configs/evaluate.yaml[/bold]
    """
    settings = load_config(config, EvaluateConfig)
    changed: dict[str, Any] = {} if seeds is None else {"seeds": seeds}
    settings = build(EvaluateConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    folder = options.out_folder(out, "evaluate")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        policies, traffics = len(settings.policies), len(settings.traffic)
        narrator.phase(f"{policies} policies, {traffics} kinds of traffic, {settings.seeds} runs of each pair")
        found = evaluation.evaluate(settings, folder, narrator.progress, options.workers_of(workers, ray))
    table = Table(box=SIMPLE, pad_edge=False, caption=f"simulated; beside {found['baseline']}, with 90 % intervals")
    table.add_column("policy")
    for heading in ("over target %", "GPU-s", "saving %", "changes"):
        table.add_column(heading, justify="right")
    for policy, one in found["policies"].items():
        table.add_row(
            policy,
            f"{100 * one['slo_miss']:.2f}",
            f"{one['gpu_seconds']:.0f}",
            "-" if policy == found["baseline"] else _saving(one),
            f"{one['changes']:.1f}",
        )
    console.print(table)
    console.print(escape(verdict(found)), highlight=False)
    print_path(console, folder / "report.html")


def _saving(one: dict[str, Any]) -> str:
    if one["saving_pct"] is None:
        return "-"
    low, high = one["saving_low_pct"], one["saving_high_pct"]
    return f"{one['saving_pct']:+.1f}" + ("" if low is None else f" ({low:+.1f} to {high:+.1f})")
