"""The whole loop for one results folder: serve, replay, measure, fit, simulate the held-out traffic, report.

    results/<name>/  config.json  profile-<model>.json  runs/<run_id>/  comparison.json  report.html  report.md
                     invalid/<run_id>/ (runs that were made again)  serving/ (server logs)

A folder that an interrupt left is continued: runs that are complete are kept, the others are made.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from loadgen.validity import ValidityLimits
from testbed.calibration.evidence import Evidence
from testbed.calibration.service_time import curve_by_size
from testbed.config import CalibrateConfig, StudyConfig
from testbed.errors import ServingError
from testbed.measurement.machine import look as look_at_machine
from testbed.pipeline.anew import fit_and_simulate
from testbed.pipeline.campaign import (
    Campaign,
    bursts_id,
    capacity_runs,
    first_runs,
    fit_run,
    held_out_runs,
    length_runs,
)
from testbed.pipeline.looked import Look, look_first
from testbed.pipeline.made_runs import MadeRuns, Reporter
from testbed.pipeline.plan import lone_rate_rps
from testbed.pipeline.restore import restore_real
from testbed.pipeline.target import Target, served
from testbed.pipeline.time_limit import TimeLimit, first_look, fit_of, plan_of, start_of
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir, is_complete
from testbed.simulation.load_curve import capacity_rps
from testbed.study import HERE, Workers, remember
from testbed.words import counted
from workloads.catalog import ServiceConfig


def calibrate(
    config: CalibrateConfig,
    folder: Path,
    reporter: Reporter,
    target: Target | None = None,
    limits: ValidityLimits | None = None,
    look: Look | None = look_at_machine,
    *,
    measure_only: bool = False,
    workers: Workers = HERE,
) -> Path:
    """Run every study, then write the report; returns the report's path.

    target: a running server of the user's instead of services of our own; then there is one study, and its
    configurations are the one that the server has. limits: what a VALID run must keep to; None: the usual ones.
    look: at the machine, before the first run; None: none. measure_only: make the real runs, and leave fit and report
    to `kis report --anew`; returns the folder. workers: that simulate.
    """
    if target is not None and target.unmodelled:
        raise ServingError(
            f"model '{target.model}' has {' and '.join(target.unmodelled)}, which the simulator does not model: its "
            "profile would be wrong; `kis replay` measures it"
        )
    serves = []
    if target is None:  # a mistake in the last study is said before the first one runs
        serves = [
            study.serve(configuration, config.device)
            for study in config.studies
            for configuration in study.configurations
        ]
    remember(config, folder / "config.json")
    restore_real(folder, reporter)
    plan = plan_of(config)
    limit = TimeLimit(config.time_limit_s, plan)
    for study in config.studies:
        if is_complete(folder / "runs" / bursts_id(study)):
            limit.passed(first_look(study))
    reporter.phase(how_long(limit, [step for step in plan if is_complete(folder / "runs" / step)]))
    machine = look_first(reporter, look, config.client, serves)
    runs = MadeRuns(
        folder,
        config.client,
        config.sample_period_s,
        reporter,
        limits,
        machine,
        limit.allows,
        to_come_s=lambda: limit.to_come_s,
    )
    campaign = Campaign(config, runs, limit)
    for study in config.studies:
        fitted, held_out = _real_runs(campaign, study, target)
        if not measure_only:
            fit_and_simulate(folder, study.model, config.seed, fitted, held_out, reporter, workers)
            limit.passed(fit_of(study))
    if measure_only:
        return folder
    reporter.phase("report")
    return write_report(folder)


def how_long(limit: TimeLimit, kept: Sequence[str]) -> str:
    """Minutes of what is left to do. kept: runs of the plan that are there already."""
    for run_id in kept:
        limit.passed(run_id)
    left = f"about {max(1, round(limit.to_come_s / 60))} min"
    return f"{counted(len(kept), 'run')} kept, {left} left" if kept else f"{left} in all"


def _real_runs(campaign: Campaign, study: StudyConfig, target: Target | None) -> tuple[list[RunDir], list[RunDir]]:
    """Those that the profile is fitted on, and the held-out ones."""
    batching = [service for service in study.configurations if service.dynamic_batching is not None]
    largest = max(service.max_batch_size for service in study.configurations)
    first = (batching or study.configurations)[0].model_copy(update={"replicas": 1, "max_batch_size": largest})
    with _opened(campaign, study, first, target) as aim:
        bursts = first_runs(campaign, study, aim)
        fitted = [bursts, *capacity_runs(campaign, study, aim, bursts)]
        of_lengths = length_runs(campaign, study, aim, bursts)
    campaign.time.passed(first_look(study))
    mean_s = curve_by_size([Evidence.load(run) for run in fitted], largest).mean_s
    held_out: list[RunDir] = []
    for number, service in enumerate(study.configurations):
        with _opened(campaign, study, service, target) as aim:
            campaign.time.passed(start_of(study, service.label))
            capacity = capacity_rps(service, mean_s)
            loads = study.fit.loads if number in study.fit.configurations else ()
            repeats = study.held_out.repeats
            for repeat in range(repeats):  # fit and held-out runs take turns: the profile is of the whole campaign
                for load in loads[repeat::repeats]:
                    lone = target is not None and load == min(loads)  # a server of ours has a log of its batches
                    most_rps = lone_rate_rps(service, float(mean_s[0])) if lone else math.inf
                    fitted.append(fit_run(campaign, study, aim, load, capacity, most_rps))
                held_out += held_out_runs(campaign, study, aim, capacity, repeat)
    return [*fitted, *of_lengths], held_out


@contextmanager
def _opened(campaign: Campaign, study: StudyConfig, service: ServiceConfig, target: Target | None) -> Iterator[Target]:
    """The target to send to; a service of our own is started for the block."""
    if target is not None:
        with nullcontext(target) as given:
            yield given
        return
    campaign.reporter.phase(f"{study.model} {service.label}: start {service.replicas} x tritonserver")
    folder = campaign.folder / "serving" / f"{study.model}-{service.label}"
    shutil.rmtree(folder, ignore_errors=True)
    publish: Literal["http", "grpc"] = "grpc" if campaign.config.client.transport == "grpc" else "http"
    with served(study.serve(service, campaign.config.device), folder, publish) as aim:
        yield aim
