"""`kis devices` on a machine without a GPU, and `kis report` on what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli import kis

from testbed.measurement.gpu_metrics import GpuSource

CONFIG = """
repeats: 1
studies:
  - model: resnet50
    traffic: {pattern: constant, parameters: {rate: 2}, duration_s: 2}
"""


@pytest.mark.skipif(GpuSource().absent_because is None, reason="there is a GPU here")
def test_without_a_gpu_one_line_says_what_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "devices.yaml").write_text(CONFIG)
    done = kis("devices", "devices.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    for told in ("no NVIDIA GPU", "NVML", "nvidia-smi", "nothing was measured"):
        assert told in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["devices.yaml"]


def test_a_device_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "devices.yaml").write_text("devices: [cpu, tpu]\n" + CONFIG)
    done = kis("devices", "devices.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "devices.1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
