"""The detector on what real pods told in kept runs whose service did not change: an alarm in one of twenty at most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from testbed.adaptation.drift import Detector, new_detector, residual_of, watched
from testbed.adaptation.settings import DriftSettings
from testbed.autoscaling.observation import Window
from testbed.calibration.profile import ServiceProfile
from testbed.config_file import load_config
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.experiment_config import ExperimentConfig
from tests.golden import RESULTS, restored

PROFILE = RESULTS / "golden-emulated-slow" / "profile-emulated.json"  # of another day, and not of pods
SETTINGS: DriftSettings = (
    load_config(Path("testbed/configs/drift.yaml"), ExperimentConfig).adapted["predictive-adapted"].drift
)


def windows_of(log: MetricLog, seconds: float) -> Iterator[Window]:
    """One after the other, from the statistics that each pod told; a pod's counters begin at its own start."""
    tables = {}
    for name in ("batch_executions", "batch_compute_seconds"):
        rows = log.select("triton", name)
        table = rows.pivot_table(index="time_s", columns=["endpoint", "batch_size"], values="value", aggfunc="last")
        tables[name] = table.sort_index().ffill().fillna(0.0)
    done, busy = tables["batch_executions"], tables["batch_compute_seconds"]
    sizes = done.columns.get_level_values("batch_size").astype(float).to_numpy()
    for start_s in np.arange(0.0, float(done.index.max()) - seconds, seconds):
        first, last = np.searchsorted(done.index, (start_s, start_s + seconds))
        batches = np.maximum(0.0, done.iloc[last].to_numpy() - done.iloc[first].to_numpy())
        batch_s = np.maximum(0.0, busy.iloc[last].to_numpy() - busy.iloc[first].to_numpy())
        none = np.zeros(1)
        yield Window(
            start_s=float(done.index[first]),
            end_s=float(done.index[last]),
            pods=("all",),
            requests=np.array([(sizes * batches).sum()]),
            queue_s=none,
            waiting=none,
            in_flight=none,
            utilisation=none,
            cpu_cores=none,
            batches=np.array([batches.sum()]),
            batch_s=np.array([batch_s.sum()]),
        )


def watched_through(metrics: Path, slow_down: float = 1.0) -> Detector:
    """slow_down: of the batches in the second half, as if the pods had changed then."""
    profile, log = ServiceProfile.read(PROFILE), MetricLog.read(metrics)
    detector, half_s = new_detector(profile, SETTINGS), float(log.frame["time_ns"].max()) / 2e9
    for told in windows_of(log, SETTINGS.window_s):
        assert told.batch_s is not None
        window = replace(told, batch_s=(slow_down if told.start_s > half_s else 1.0) * told.batch_s)
        detector = watched(detector, residual_of(window, profile, SETTINGS.least_batches))
    return detector


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Kept real runs that are VALID: several policies and patterns, 100 to 120 s each."""
    folder = tmp_path_factory.mktemp("kept")
    found = [
        path
        for experiment in ("golden-transfer", "golden-transients")
        for path in sorted((restored(experiment, folder) / "runs").glob("*-real-*"))
        if json.loads((path / "run.json").read_text())["verdict"]["valid"]
    ]
    assert len(found) >= 50, "they are committed"
    return found


def test_pods_that_did_not_change_hardly_alarm(runs: list[Path]) -> None:
    found = {str(path): watched_through(path / "metrics.parquet") for path in runs}
    known = [one.level for one in found.values() if np.isfinite(one.level)]
    alarms = [name for name, one in found.items() if one.alarm]
    print(f"{len(runs)} runs; levels of {len(known)}: {np.round(known, 3).tolist()}; alarms: {alarms}")
    assert len(known) == len(runs)
    assert len(alarms) <= 0.05 * len(runs)


def test_the_same_pods_if_they_had_become_slower_are_found(runs: list[Path]) -> None:
    some = runs[::5]
    found = [watched_through(path / "metrics.parquet", 1.4) for path in some]
    assert sum(one.alarm for one in found) >= 0.9 * len(some)
