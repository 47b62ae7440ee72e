"""Busy share and batch sizes of a run over time, from batches whose times are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.measurement.batch_log import BatchLog
from testbed.reporting.figures.run_instances import INTERVALS, instances_over_time
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir
from tests.oracles.cluster_worlds import flat_profile
from tests.pages import figures_of, texts_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("run")
    flat_profile([0.010, 0.012, 0.014, 0.016]).write(folder / "profile.json")
    traffic = ["--pattern", "constant", "--set", "rate=300", "--duration", "12", "--replicas", "2"]
    arguments = ["simulate", "--profile", str(folder / "profile.json"), *traffic, "--out", str(folder / "out")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    return RunDir(folder / "out")


def test_busy_time_and_batches_add_up_to_the_logs(run: RunDir) -> None:
    log, duration_s = BatchLog.read(run.batches), run.manifest.duration_s
    edges, shares, sizes = instances_over_time(log, run.manifest)
    assert len(edges) == INTERVALS + 1
    assert shares.mean() * 2 * duration_s == pytest.approx(log.busy_s(duration_s))
    assert shares.min() >= -1e-9
    assert shares.max() <= 1 + 1e-9
    first = log.batches()[log.batches()["start_ns"] < edges[1] * 1e9]
    assert sizes[0] == pytest.approx(first["batch_size"].mean())
    assert 1 <= np.nanmin(sizes) <= np.nanmax(sizes) <= 4


def test_what_a_run_without_a_log_of_batches_lacks_is_said_and_not_drawn(run: RunDir, tmp_path: Path) -> None:
    whole = write_report(run.path).read_text()
    assert "Not measured, and so not drawn" not in whole
    assert "mean batch size" in words(whole)
    bare = shutil.copytree(run.path, tmp_path / "bare")
    (bare / "batches.parquet").unlink()
    page = write_report(bare).read_text()
    assert page.count("Not measured, and so not drawn: how busy the instances were over time") == 1
    assert not {"mean batch size", "not measured"} & set(words(page))
    assert "instances.png" not in (bare / "report.md").read_text()
    assert "Not measured, and so not drawn" in (bare / "report.md").read_text()


def words(page: str) -> list[str]:
    return [text for figure in figures_of(page) for text in texts_of(figure)]
