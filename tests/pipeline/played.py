"""Experiments without a cluster: `real` runs that are simulated ones under another seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_counterpart import counterpart_folder, real_folder, simulate_pair
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
        if (file := counterpart_folder(folder, which) / name).exists():
            file.rename(real_folder(folder, which) / name)
    simulate_pair(config, folder, which)


def write_requests(run: RunDir, status: list[str]) -> None:
    """requests.parquet and schedule.parquet of a run of 100 requests/s that ended so, 1 ms after they were sent."""
    n = len(status)
    schedule = Schedule(np.arange(n) * 10_000_000, np.full(n, "m", dtype=object), n / 100)
    schedule.write(run.schedule)
    columns = {
        "request_id": np.arange(n),
        "model": schedule.model,
        "endpoint": pd.array(["a:8000"] * n, dtype="str"),
        "scheduled_ns": schedule.scheduled_ns,
        "sent_ns": pd.array(schedule.scheduled_ns, dtype="Int64"),
        "completed_ns": pd.array(schedule.scheduled_ns + 1_000_000, dtype="Int64"),
        "status": status,
        "detail": pd.array([None] * n, dtype="str"),
    }
    RequestLog(pd.DataFrame(columns)).write(run.requests)
