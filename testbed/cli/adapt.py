"""`kis adapt`."""

from __future__ import annotations

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.pipeline.adaptation_config import AdaptRunConfig
from testbed.pipeline.traffic import length_note, trace_notes


@flags(AdaptRunConfig, usual=["quiet_runs"])
def adapt(
    given: Given,
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """The drift is found, the profile recalibrated, the new policy judged and promoted; beside the same without that.

    A real deployment: [bold]kis controller C --policy P --adapt testbed/configs/adapt-controller.yaml[/bold]
    """
    settings = configured(AdaptRunConfig, config, given)
    folder = out_folder(out, "adapt")
    with ConsoleReporter(folder) as reporter:
        drift = settings.run.faults[0]
        reporter.phase(
            f"{settings.run.duration_s:g} s of {settings.model}, batches {drift.slow_down:g} x as long from "
            f"{drift.at_s:g} s on; {settings.quiet_runs} runs without drift"
        )
        for name, traffic in settings.run.traffic.items():
            length = length_note(name, traffic, settings.run.duration_s, "the run")
            reporter.notes([*trace_notes(traffic), *filter(None, [length])])
        from testbed.pipeline.adaptation import adapt as run_adaptation

        result = run_adaptation(settings, folder, reporter.progress, options.workers_of(workers, ray))
    for time_s, state, why in result["states"]:
        say(f"{time_s:7.0f} s  {state:<13}  {why}")
    over, quiet = result["slo_violation_rate"], result["quiet"]
    before, adapted, not_adapted = (shown(over[name], ".2%") for name in ("before", "adapted", "not_adapted"))
    say(f"over target: {before} before, {adapted} after the adaptation, {not_adapted} without one (simulated)")
    say(f"{quiet['without_a_step']} of {quiet['runs']} runs without drift took no step ({quiet['seconds']:g} s each)")
    from testbed.reporting.reports import write_report

    print_path(console, write_report(folder))
