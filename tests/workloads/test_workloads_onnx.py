"""The ONNX export answers as the torch network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from workloads.backends.resnet_network import build as build_resnet50
from workloads.catalog import ServiceConfig, find_model
from workloads.repository import BackendOptions, write_repository


def images(batch_size: int) -> np.ndarray:
    return np.random.default_rng(batch_size).standard_normal((batch_size, 3, 224, 224)).astype(np.float32)


def test_the_exported_resnet_gives_torchs_outputs_at_any_batch_size(tmp_path: Path) -> None:
    options = BackendOptions(backend="onnxruntime", seed=5, threads=2)
    write_repository(tmp_path, find_model("resnet50"), ServiceConfig(), options)
    config = (tmp_path / "resnet50" / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in config
    session = onnxruntime.InferenceSession(tmp_path / "resnet50" / "1" / "model.onnx")
    network = build_resnet50(5, None)
    for batch_size in (1, 3):
        (logits,) = session.run(["logits"], {"image": images(batch_size)})
        with torch.inference_mode():
            expected = network(torch.from_numpy(images(batch_size))).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_network_exported_in_fp16_takes_and_gives_fp32_and_answers_nearly_the_same(tmp_path: Path) -> None:
    options = BackendOptions(backend="onnxruntime", device="gpu", precision="fp16", seed=5)
    write_repository(tmp_path, find_model("resnet50"), ServiceConfig(), options)
    file = tmp_path / "resnet50" / "1" / "model.onnx"
    weights = onnx.load(file).graph.initializer
    halves = sum(np.prod(weight.dims) for weight in weights if weight.data_type == onnx.TensorProto.FLOAT16)
    assert halves > 25e6  # ResNet-50 has 25.6 million weights
    (logits,) = onnxruntime.InferenceSession(file).run(["logits"], {"image": images(2)})
    assert logits.dtype == np.float32
    with torch.inference_mode():
        expected = build_resnet50(5, None)(torch.from_numpy(images(2))).numpy()
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
