"""What was computed from real runs, computed again by today's code: profiles and simulated counterparts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from loadgen.artifact import read_json
from testbed.calibration.evidence import Evidence
from testbed.calibration.fit import fit_profile
from testbed.config import CalibrateConfig
from testbed.config_file import build, load_config
from testbed.errors import ConfigError
from testbed.pipeline.counterpart import request_log_of, simulate_counterpart
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_counterpart import real_folder, simulate_pair
from testbed.pipeline.made_runs import Reporter
from testbed.pipeline.plan import seed_of
from testbed.pipeline.restore import restore_real
from testbed.reporting.reports import experiment
from testbed.run_dir import RunDir
from testbed.simulation.load_curve import load_curve
from testbed.study import HERE, Workers, all_done, computed

NOT_FITTED = ("lone", "largest")  # patterns of runs that only set the loads of the others


def compute_anew(folder: Path, reporter: Reporter, workers: Workers = HERE) -> None:
    """A calibration's profiles and counterparts, or an experiment's simulated runs; its report is the caller's.

    ConfigError if the folder is of neither, or has no real runs.
    """
    restore_real(folder, reporter)
    if experiment.REPORT.fits(folder):
        _simulate_experiment(folder, reporter, workers)
    elif (folder / "config.json").exists():
        _fit_calibration(folder, reporter, workers)
    else:
        raise ConfigError(f"{folder} is of neither `kis calibrate` nor `kis experiment`: leave out --anew")


def fit_and_simulate(
    folder: Path,
    model: str,
    seed: int,
    fitted: Sequence[RunDir],
    held_out: Sequence[RunDir],
    reporter: Reporter,
    workers: Workers = HERE,
) -> None:
    """The profile of a campaign's runs, and a simulated counterpart for each held-out one. seed: the campaign's."""
    reporter.phase(f"{model}: fit {len(fitted)} runs, simulate {len(held_out)} held-out runs")
    profile_file = folder / f"profile-{model}.json"
    profile = fit_profile([Evidence.load(run) for run in fitted], request_log_of)
    alone = [run.manifest.service for run in fitted if run.manifest.service.replicas == 1]
    if profile.device_use is not None and not alone[0].length_buckets:  # else it is known of the longest requests only
        profile = profile.model_copy(update={"load_curve": load_curve(profile, alone[0], seed)})
    profile.write(profile_file)
    all_done(
        computed(partial(_counterpart, profile_file=profile_file, seed=seed), held_out, workers, reporter.progress)
    )


def _counterpart(run: RunDir, profile_file: Path, seed: int) -> None:
    """The simulated run beside a real one."""
    folder = run.path.with_name(f"{run.path.name}-sim")
    shutil.rmtree(folder, ignore_errors=True)  # of a profile that is no longer the one beside it
    simulate_counterpart(run, profile_file, folder, seed_of(seed, folder.name))


def _fit_calibration(folder: Path, reporter: Reporter, workers: Workers) -> None:
    config = load_config(folder / "config.json", CalibrateConfig)
    runs = [RunDir(path) for path in (folder / "runs").iterdir() if (path / "run.json").exists()]
    real = [run for run in runs if run.manifest.kind == "real" and run.manifest.state == "complete"]
    real.sort(key=lambda run: run.manifest.start_unix_ns or 0)  # as the campaign made them
    for study in config.studies:
        own = [run for run in real if run.manifest.model == study.model]
        fitted = [run for run in own if not run.manifest.held_out and run.manifest.pattern not in NOT_FITTED]
        if not fitted:
            raise ConfigError(f"{folder} has no real run of {study.model} to fit on: make them with `kis calibrate`")
        held_out = [run for run in own if run.manifest.held_out]
        fit_and_simulate(folder, study.model, config.seed, fitted, held_out, reporter, workers)


def _simulate_experiment(folder: Path, reporter: Reporter, workers: Workers) -> None:
    file = folder / "experiment.json"
    config = build(ExperimentConfig, read_json(file, "give a folder of `kis experiment`"), str(file))
    there = [which for which in config.runs if (real_folder(folder, which) / "decisions.json").exists()]
    if not there:
        raise ConfigError(f"{folder} has no real run: make some with `kis experiment`")
    reporter.phase(f"simulate {len(there)} runs anew")
    all_done(computed(partial(simulate_pair, config, folder), there, workers, reporter.progress))
