"""Experiments without a cluster: `real` runs that are simulated ones under another seed."""

from __future__ import annotations

from pathlib import Path

from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_twin import real_folder, simulate_pair, twin_folder
from testbed.pipeline.traffic import make_schedule
from testbed.run_dir import Device, RunDir, RunManifest
from workloads.catalog import ServiceConfig

PLAYED = ("requests.parquet", "metrics.parquet", "decisions.json", "adaptation.json")  # what becomes the real run's


def begin_run(config: ExperimentConfig, folder: Path, which: tuple[str, str, int]) -> Path:
    """What there is of a real run before it is played; its folder."""
    traffic, policy, _ = which
    path = real_folder(folder, which)
    schedule = make_schedule(config.traffic[traffic], config.model)
    run = RunDir(path).create()
    schedule.write(run.schedule)
    run.write_manifest(
        RunManifest(
            run_id=path.name,
            kind="real",
            state="complete",
            model=config.model,
            weights="none",
            device=Device(kind="emulated", name="played"),
            service=ServiceConfig(replicas=config.start_replicas(policy), max_batch_size=4),
            pattern=config.traffic[traffic].pattern or "trace",
            seed=0,
            duration_s=schedule.duration_s,
        )
    )
    (path / "decisions.json").write_text("[]")
    return path


def play_run(config: ExperimentConfig, folder: Path, which: tuple[str, str, int]) -> None:
    """Both halves of a pair that was begun."""
    simulate_pair(config.model_copy(update={"seed": 99}), folder, which)
    for name in PLAYED:
        if (file := twin_folder(folder, which) / name).exists():
            file.rename(real_folder(folder, which) / name)
    simulate_pair(config, folder, which)
