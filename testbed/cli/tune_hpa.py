"""`kis tune-hpa`."""

from __future__ import annotations

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
        narrator.phase(f"{settings.trials} HPAs of {settings.cluster.models[0].name}, {settings.seeds} runs each")
        found = tuning.tune_hpa(settings, folder, narrator.progress)
    table = Table(
        box=SIMPLE, pad_edge=False, caption=f"simulated; allowed over the target: {settings.allowed_missed:.2%}"
    )
    table.add_column("HPA")
    for heading in ("metric", "target", "P95 ms", "over target %", "GPU-s", "changes"):
        table.add_column(heading, justify="right")
    for name, outcome in found["outcomes"].items():
        policy = found["policies"][name]
        p95 = outcome["p95_ms"]
        table.add_row(
            name,
            str(policy.get("metric", "-")),
            f"{policy['target']:.4g}" if "target" in policy else "-",
            "-" if p95 is None else f"{p95:.1f}",
            f"{100 * outcome['missed_share']:.2f}",
            f"{outcome['gpu_seconds']:.0f}",
            f"{outcome['changes']:.1f}",
        )
    console.print(table)
    print_path(console, folder / "hpa.yaml")
