"""`kis tune-hpa`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import build, load_config
from testbed.pipeline import tune_hpa as tuning


def tune_hpa(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    target_ms: Annotated[float | None, typer.Option("--target-ms", help="Latency target.", min=0.001)] = None,
    trials: Annotated[int | None, typer.Option("--trials", help="HPAs to try.")] = None,
    out: options.Out = None,
) -> None:
    """The HPA for your traffic and target, as YAML: searched in the simulator, checked on traffic it has not seen.

    Example: [bold]kis tune-hpa testbed/configs/tune-hpa.yaml --target-ms 30[/bold]
    """
    settings = load_config(config, tuning.TuneConfig)
    changed: dict[str, Any] = {} if trials is None else {"trials": trials}
    if target_ms is not None:
        models = [
            {**one.model_dump(exclude_unset=True), "latency_target_s": target_ms / 1e3}
            for one in settings.cluster.models
        ]
        changed["cluster"] = {**settings.cluster.model_dump(exclude_unset=True), "models": models}
    settings = build(tuning.TuneConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    folder = options.out_folder(out, "tune-hpa")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        names = f", for each of {', '.join(settings.families)}" if settings.families else ""
        narrator.phase(
            f"{settings.trials} HPAs of {settings.cluster.models[0].name}, {settings.seeds} runs each{names}"
        )
        if settings.families:
            found = tuning.tune_families(settings, folder, narrator.progress)
        else:
            found = {"": tuning.tune_hpa(settings, folder, narrator.progress)}
    console.print(_table(found, settings.allowed_missed))
    for family, one in found.items():
        for note in one["notes"]:
            of = f"{family}: " if family else ""
            console.print(f"note: {of}{note}", style="red" if not one["holds"] else None, highlight=False, markup=False)
    print_path(console, folder if settings.families else folder / "hpa.yaml")
    if not all(one["holds"] for one in found.values()):
        raise typer.Exit(1)


def _table(found: Mapping[str, Mapping[str, Any]], allowed: float) -> Table:
    """Both HPAs of each family, or of the only traffic, whose name is empty."""
    table = Table(box=SIMPLE, pad_edge=False, caption=f"simulated; allowed over the target: {allowed:.2%}")
    table.add_column("HPA")
    for heading in ("metric", "target", "P95 ms", "over target %", "GPU-s", "changes"):
        table.add_column(heading, justify="right")
    for family, one in found.items():
        fixed = one["fixed"]
        outcomes = one["outcomes"] if fixed is None else {**one["outcomes"], f"fixed-{fixed['replicas']}": fixed}
        for name, outcome in outcomes.items():
            policy = one["policies"].get(name, {})
            p95 = outcome["p95_ms"]
            table.add_row(
                f"{family} {name}{' (written)' if name == one['chosen'] else ''}".strip(),
                str(policy.get("metric", "-")),
                f"{policy['target']:.4g}" if "target" in policy else "-",
                "-" if p95 is None else f"{p95:.1f}",
                f"{100 * outcome['missed_share']:.2f}",
                f"{outcome['gpu_seconds']:.0f}",
                f"{outcome['changes']:.1f}",
            )
    return table
