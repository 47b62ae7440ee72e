"""What an archived results folder lacks: real runs and logs as they were kept, simulated runs from their seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from loadgen.artifact import read_json
from testbed.archive.folder import archived_manifests, has_archive, unpack, unpack_logs
from testbed.config import CalibrateConfig
from testbed.config_file import build, load_config
from testbed.pipeline.counterpart import simulate_counterpart
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_counterpart import counterpart_folder, simulate_pair
from testbed.pipeline.made_runs import Reporter
from testbed.pipeline.plan import seed_of
from testbed.reporting.reports import experiment
from testbed.run_dir import RunDir, RunManifest
from testbed.study import HERE, Workers, all_done, computed

Makers = Iterator[tuple[str, Callable[[], object]]]  # a simulated run's name, and what makes it


def restore(
    folder: Path, reporter: Reporter, wanted: Callable[[str], bool] = lambda run: True, workers: Workers = HERE
) -> None:
    """Write the runs that `folder`/runs lacks; nothing if it lacks none, or was never archived.

    wanted: whether the simulated run of that name is. ArtifactError or ConfigError if the archive, or what a
    simulation needs (profile, configuration), is not there.
    """
    if not has_archive(folder):
        return
    restore_real(folder, reporter)
    unpack_logs(folder)
    simulated = {
        name: archived_manifest
        for name, archived_manifest in archived_manifests(folder).items()
        if archived_manifest.simulates is not None
    }
    lacking = [name for name in simulated if wanted(name) and not RunDir(folder / "runs" / name).manifest_file.exists()]
    if not lacking:
        return
    reporter.phase(f"{len(lacking)} simulated runs made again from their seeds")
    makers = dict(_of_experiment(folder) if experiment.REPORT.fits(folder) else _of_calibration(folder, simulated))
    all_done(computed(_call, [makers[name] for name in lacking], workers, reporter.progress))


def _call(make: Callable[[], object]) -> None:
    make()


def restore_real(folder: Path, reporter: Reporter) -> None:
    """Write the real runs that `folder`/runs lacks, if it was archived."""
    if has_archive(folder) and (real := unpack(folder)):
        reporter.phase(f"{len(real)} real runs unpacked from {folder.name}/archive")


def _of_calibration(folder: Path, simulated: dict[str, RunManifest]) -> Makers:
    seed = load_config(folder / "config.json", CalibrateConfig).seed
    for name, manifest in simulated.items():
        real, profile = RunDir(folder / "runs" / str(manifest.simulates)), folder / str(manifest.profile)
        yield name, partial(simulate_counterpart, real, profile, folder / "runs" / name, seed_of(seed, name))


def _of_experiment(folder: Path) -> Makers:
    file = folder / "experiment.json"
    config = build(ExperimentConfig, read_json(file, "archive the folder again"), str(file))
    for which in config.runs:
        yield counterpart_folder(folder, which).name, partial(simulate_pair, config, folder, which)
