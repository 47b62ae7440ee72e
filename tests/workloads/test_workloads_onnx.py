"""The ONNX export answers as the torch network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from workloads.backends.resnet_network import build_resnet50
from workloads.catalog import ServiceConfig, find_model
from workloads.repository import BackendOptions, write_repository


def test_the_exported_resnet_gives_torchs_outputs_at_any_batch_size(tmp_path: Path) -> None:
    options = BackendOptions(backend="onnxruntime", seed=5, threads=2)
    write_repository(tmp_path, find_model("resnet50"), ServiceConfig(), options)
    config = (tmp_path / "resnet50" / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in config
    session = onnxruntime.InferenceSession(tmp_path / "resnet50" / "1" / "model.onnx")
    network = build_resnet50(5, None)
    for batch_size in (1, 3):
        images = np.random.default_rng(batch_size).standard_normal((batch_size, 3, 224, 224)).astype(np.float32)
        (logits,) = session.run(["logits"], {"image": images})
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
