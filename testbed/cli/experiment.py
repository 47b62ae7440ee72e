"""`kis experiment`."""

from __future__ import annotations

from pathlib import Path

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder, runs_and_minutes
from testbed.pipeline.experiment_config import ExperimentConfig, real_run_id
from testbed.pipeline.traffic import least_s, length_notes
from testbed.run_dir import is_complete


@flags(ExperimentConfig, usual=["repeats"])
def experiment(
    given: Given, config: options.Config, kubeconfig: options.Kubeconfig = None, out: options.Out = None
) -> None:
    """Each traffic under each policy.

    Continue after an interrupt: [bold]kis experiment testbed/configs/experiment.yaml --out results/that-folder[/bold]
    """
    settings = configured(ExperimentConfig, config, given)
    folder = out_folder(out, "experiment")
    with ConsoleReporter(folder) as reporter:
        under = f"{', '.join(settings.traffic)} under {', '.join(settings.policies)}"
        left = [which for which in settings.runs if not is_complete(folder / "runs" / real_run_id(which))]
        told = runs_and_minutes(len(settings.runs), [least_s(settings.traffic[traffic]) for traffic, _, _ in left])
        reporter.phase(f"{told}: {under}")
        reporter.notes(length_notes(settings.traffic))
        from testbed.pipeline.experiment import run_experiment
        from testbed.serving.kubernetes_api import api_client
        from testbed.simulation.rules import queue_notes

        reporter.notes(queue_notes(model.dynamic_batching for model in settings.cluster.models))
        page = run_experiment(settings, folder, api_client(kubeconfig), kubeconfig, reporter)
    _show(folder)
    print_path(console, page)


def _show(folder: Path) -> None:
    """One line a real run, and the correlations."""
    from testbed.reporting.experiment import read_experiment, rows_of, summary_of

    pairs = rows_of(read_experiment(folder))
    headings = ("P95 ms", "error %", "over target %", "replica-s", "error %", "changes")
    rows = table("run", *headings, caption="real above simulated; -: not measured")
    for row in pairs:
        rows.add_row(
            f"{row['run_id']} [red]INVALID[/red]" if row["valid"] is False else row["run_id"],
            _both(row, "p95_ms", ".1f"),
            shown(row["p95_ms_error_pct"], "+.1f"),
            f"{100 * row['slo_violation_rate_real']:.2f}\n{100 * row['slo_violation_rate_sim']:.2f}",
            _both(row, "replica_seconds", ".1f"),
            shown(row["replica_seconds_error_pct"], "+.1f"),
            _both(row, "changes", ".0f"),
        )
    console.print(rows)
    summary = summary_of(pairs)
    for cost, within_bar in summary["pairs"].items():
        within = f"{within_bar['within']} of {within_bar['pairs']} pairs within {within_bar['bar_pct']:g} %"
        say(f"{cost}, means of repeats: {within}, worst {shown(within_bar['worst_pct'], '.1f')} %")
    for cost, share in summary["within_simulated_range"].items():
        if share is not None:  # it is, of too few simulated runs
            say(f"real {cost} within 90 % of the simulated runs: {shown(share, '.0%')}")
    for cost, coefficients in summary["pearson"].items():
        known = [f"{name} {value:.3f}" for name, value in coefficients.items() if value is not None]
        if known:  # none is, of too few pairs
            say(f"sim-vs-real correlation of {cost}: {', '.join(known)}")


def _both(row: dict[str, float | None], name: str, form: str) -> str:
    return f"{shown(row[f'{name}_real'], form)}\n{shown(row[f'{name}_sim'], form)}"
