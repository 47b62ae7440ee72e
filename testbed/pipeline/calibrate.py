"""The whole loop for one results folder: serve, replay, measure, fit, simulate the held-out traffic, report.

    results/<name>/  config.json  profile-<model>.json  runs/<run_id>/  comparison.json  report.html  report.md
                     invalid/<run_id>/ (runs that were made again)  serving/ (server logs)

A folder that an interrupt left is continued: runs that are complete are kept, the others are made.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.validity import ValidityLimits
from testbed.calibration.evidence import Evidence
from testbed.calibration.fit import fit_profile
from testbed.calibration.service_time import mean_by_size
from testbed.config import CalibrateConfig, StudyConfig, load_config
from testbed.errors import CalibrationError, ConfigError
from testbed.pipeline.made_runs import ATTEMPTS, MadeRuns, Narrator
from testbed.pipeline.plan import burst_schedule, capacity_rps, held_out_pattern, lone_schedule, seed_of
from testbed.pipeline.real_run import Identity
from testbed.pipeline.restore import restore_real
from testbed.pipeline.target import Target, served
from testbed.pipeline.twin import request_log_of, simulate_twin
from testbed.reporting.report import write_report
from testbed.run_dir import RunDir
from workloads.catalog import ServiceConfig
from workloads.files import write_json

LONE_GAPS_S = (0.1, 0.5, 2.5)  # until a request has ended before the next one comes


@dataclass(frozen=True)
class Campaign:
    """One calibration's settings and folder."""

    config: CalibrateConfig
    folder: Path
    narrator: Narrator
    limits: ValidityLimits | None = None

    @property
    def runs(self) -> MadeRuns:
        """Its real runs."""
        return MadeRuns(self.folder, self.config.client, self.config.sample_period_s, self.narrator, self.limits)

    def run_folder(self, run_id: str) -> Path:
        """Where a run of that name lies."""
        return self.runs.run_folder(run_id)


def calibrate(
    config: CalibrateConfig,
    folder: Path,
    narrator: Narrator,
    target: Target | None = None,
    limits: ValidityLimits | None = None,
) -> Path:
    """Run every study, then write the report; returns the report's path.

    target: a running server of the user's instead of services of our own; then there is one study, and its
    configurations are the one that the server has.
    limits: what a VALID run must keep to, where those of every run are not meant.
    """
    if target is None:
        for study in config.studies:  # a mistake in the last study is said before the first one runs
            for service in study.configurations:
                study.serve(service, config.device)
    folder.mkdir(parents=True, exist_ok=True)
    _remember(config, folder / "config.json")
    restore_real(folder, narrator)
    campaign = Campaign(config, folder, narrator, limits)
    for study in config.studies:
        _study(campaign, study, target)
    narrator.phase("report")
    return write_report(folder)


def _remember(config: CalibrateConfig, file: Path) -> None:
    """Keep the settings beside the results; ConfigError if the results there were made with others."""
    if file.exists() and load_config(file, CalibrateConfig) != config:
        raise ConfigError(
            f"{file.parent} was made with other settings (its config.json): continue it without a config file and "
            "flags, or choose another folder with --out"
        )
    write_json(file, config)


def _study(campaign: Campaign, study: StudyConfig, target: Target | None) -> None:
    batching = [service for service in study.configurations if service.dynamic_batching is not None]
    largest = max(service.max_batch_size for service in study.configurations)
    first = (batching or study.configurations)[0].model_copy(update={"replicas": 1, "max_batch_size": largest})
    with _opened(campaign, study, first, target) as aim:
        bursts = _first_look(campaign, study, aim)
    mean_s, _ = mean_by_size([Evidence.load(bursts)], largest)
    fitted, held_out = [bursts], []
    for number, service in enumerate(study.configurations):
        with _opened(campaign, study, service, target) as aim:
            capacity = capacity_rps(service, mean_s)
            loads = study.fit.loads if number in study.fit.configurations else ()
            repeats = study.held_out.repeats
            for repeat in range(repeats):  # fit and held-out runs take turns: the profile is of the whole campaign
                fitted += [_fit_run(campaign, study, aim, load, capacity) for load in loads[repeat::repeats]]
                held_out += _held_out_runs(campaign, study, aim, capacity, repeat)
    campaign.narrator.phase(f"{study.model}: fit {len(fitted)} runs, simulate {len(held_out)} held-out runs")
    profile_file = campaign.folder / f"profile-{study.model}.json"
    fit_profile([Evidence.load(run) for run in fitted], request_log_of).write(profile_file)
    for done, run in enumerate(held_out, start=1):
        twin = campaign.run_folder(f"{run.path.name}-sim")
        shutil.rmtree(twin, ignore_errors=True)  # of a profile that is no longer the one beside it
        simulate_twin(run, profile_file, twin, seed_of(campaign.config.seed, twin.name))
        campaign.narrator.progress(done / len(held_out))


@contextmanager
def _opened(campaign: Campaign, study: StudyConfig, service: ServiceConfig, target: Target | None) -> Iterator[Target]:
    """The target to send to; a service of our own is started for the block."""
    if target is not None:
        with nullcontext(target) as given:
            yield given
        return
    campaign.narrator.phase(f"{study.model} {service.label}: start {service.replicas} x tritonserver")
    folder = campaign.folder / "serving" / f"{study.model}-{service.label}"
    shutil.rmtree(folder, ignore_errors=True)
    publish: Literal["http", "grpc"] = "grpc" if campaign.config.client.transport == "grpc" else "http"
    with served(study.serve(service, campaign.config.device), folder, publish) as aim:
        yield aim


def _first_look(campaign: Campaign, study: StudyConfig, aim: Target) -> RunDir:
    """Every batch size, a few times: what the loads of all later runs are set from."""
    lone_s = None
    for gap_s in LONE_GAPS_S:
        schedule = lone_schedule(study.model, 8, gap_s)
        identity = Identity(f"{study.model}-lone-{gap_s:g}s", "lone", {"gap_s": gap_s}, 0, percentile=None)
        run = _made(campaign, aim, schedule, identity, attempts=1)  # a first guess: too short for a verdict
        latency_s = Evidence.load(run).requests.latency_s
        if np.isfinite(latency_s).sum() >= 4 and np.nanmedian(latency_s) < 0.8 * gap_s:
            lone_s = float(np.nanmedian(latency_s))
            break
    if lone_s is None:
        raise CalibrationError(
            f"a lone request to {study.model} takes over {0.8 * LONE_GAPS_S[-1]:g} s: too slow for this testbed's plan"
        )
    schedule = burst_schedule(study.model, aim.service, lone_s, study.fit.burst_repeats)
    identity = Identity(f"{study.model}-bursts", "bursts", {"repeats": study.fit.burst_repeats}, 0, percentile=None)
    return _made(campaign, aim, schedule, identity)


def _fit_run(campaign: Campaign, study: StudyConfig, aim: Target, load: float, capacity: float) -> RunDir:
    rate = load * capacity
    run_id = f"{study.model}-fit-{aim.service.label}-{load:g}"
    seed = seed_of(campaign.config.seed, run_id)
    duration_s = max(study.fit.duration_s, study.fit.requests / rate)
    schedule = poisson_schedule(make_pattern("constant", rate=rate), duration_s, seed, study.model)
    return _made(campaign, aim, schedule, Identity(run_id, "constant", {"rate": rate}, seed, percentile=None))


def _held_out_runs(campaign: Campaign, study: StudyConfig, aim: Target, capacity: float, repeat: int) -> list[RunDir]:
    """One repeat of all patterns: a slow phase of the machine does not hit every repeat of one pattern."""
    runs = []
    for name in study.held_out.patterns:
        base_id = f"{study.model}-{name}-{aim.service.label}"
        seed = seed_of(campaign.config.seed, base_id)
        schedule, parameters = _held_out_schedule(study, name, study.held_out.peak_load * capacity, seed)
        run_id = base_id if repeat == 0 else f"{base_id}-repeat{repeat}"
        identity = Identity(run_id, name, parameters, seed, repeat=repeat, held_out=True)
        runs.append(_made(campaign, aim, schedule, identity))
    return runs


def _held_out_schedule(study: StudyConfig, name: str, peak_rps: float, seed: int) -> tuple[Schedule, dict[str, float]]:
    """Long enough for the requests that the plan asks for, at the pattern's own mean rate."""
    plan = study.held_out
    unit = make_pattern(name, **held_out_pattern(name, peak_rps, 1.0, seed))
    mean_rps = float(unit.rate_rps(np.linspace(0.0, 1.0, 2000, endpoint=False)).mean())
    duration_s = max(plan.duration_s, 1.05 * plan.requests / mean_rps)
    parameters = held_out_pattern(name, peak_rps, duration_s, seed)
    return poisson_schedule(make_pattern(name, **parameters), duration_s, seed, study.model), parameters


def _made(campaign: Campaign, aim: Target, schedule: Schedule, identity: Identity, attempts: int = ATTEMPTS) -> RunDir:
    """The run of that name: kept if it is complete, else made; made again if it was INVALID."""
    kept = campaign.runs.kept(identity.run_id, schedule, aim.service)
    return kept or campaign.runs.make(aim, schedule, identity, attempts)
