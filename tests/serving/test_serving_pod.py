"""What a Triton pod finds when its server starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import ConfigError
from testbed.serving.pod import prepare

EMULATED = "model: emulated\nemulated: {mean_s: [0.01, 0.02]}\nservice: {max_batch_size: 2}\n"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "serve.yaml"
    file.write_text(EMULATED)
    return file


def test_the_repository_and_the_embedded_servers_backend_are_there(settings: Path, tmp_path: Path) -> None:
    prepare(settings, tmp_path, "triton-7d9f-x2x4v")
    assert 'name: "emulated"' in (tmp_path / "models" / "emulated" / "config.pbtxt").read_text()
    assert (tmp_path / "backends" / "python" / "libtriton_python.so").exists()


def test_precision_and_execution_reach_the_backend(settings: Path, tmp_path: Path) -> None:
    settings.write_text("model: resnet50\ndevice: gpu\nprecision: bf16\nexecution: eager\n")
    prepare(settings, tmp_path, "triton-a", "python")
    text = (tmp_path / "models" / "resnet50" / "config.pbtxt").read_text()
    for key, value in (("precision", "bf16"), ("execution", "eager")):
        assert f'key: "{key}" value {{ string_value: "{value}" }}' in text


def test_two_pods_draw_from_different_streams(settings: Path, tmp_path: Path) -> None:
    for pod in ("triton-a", "triton-b"):
        prepare(settings, tmp_path / pod, pod)
    first, second = (
        (tmp_path / pod / "models" / "emulated" / "config.pbtxt").read_text() for pod in ("triton-a", "triton-b")
    )
    assert first != second


def test_a_network_on_whatever_is_there_is_refused(settings: Path, tmp_path: Path) -> None:
    settings.write_text("model: bert\n")
    with pytest.raises(ConfigError, match="device must be cpu or gpu in a pod"):
        prepare(settings, tmp_path, "triton-a")


def test_wrong_settings_are_one_line_in_the_pods_log(settings: Path, tmp_path: Path) -> None:
    settings.write_text("modl: bert\n")
    command = [sys.executable, "-m", "testbed.serving.pod", str(settings), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"pod: {settings}: unknown key 'modl': did you mean 'model'?\n"


def test_the_emulated_accelerator_runs_in_python_whatever_runs_networks(settings: Path, tmp_path: Path) -> None:
    prepare(settings, tmp_path, "triton-a", "onnxruntime")
    assert 'backend: "python"' in (tmp_path / "models" / "emulated" / "config.pbtxt").read_text()


def test_a_network_for_nvidias_image_is_onnx(settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[Path] = []
    monkeypatch.setattr("workloads.repository._export", lambda spec, path, options: exported.append(path))  # 14 s
    settings.write_text("model: resnet50\ndevice: gpu\n")
    prepare(settings, tmp_path, "triton-a", "onnxruntime")
    assert exported == [tmp_path / "models" / "resnet50" / "1" / "model.onnx"]
    written = (tmp_path / "models" / "resnet50" / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in written
    assert "KIND_GPU" in written


def test_a_backend_that_is_none_is_one_line(settings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed.serving.pod", str(settings), str(tmp_path), "onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "pod: unknown backend 'onnx': give python or onnxruntime\n"
