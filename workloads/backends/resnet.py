"""The model.py of resnet50."""

from __future__ import annotations

import torch

from workloads.backends.resnet_network import build
from workloads.backends.torch_model import TorchModel


class TritonPythonModel(TorchModel):
    """image -> logits."""

    input_names = ("image",)
    output_name = "logits"

    def build(self, seed: int, weights_file: str | None) -> torch.nn.Module:
        """ResNet-50 with the file's weights, or seeded random ones."""
        return build(seed, weights_file)

    def example(self, batch_size: int, tokens: int | None) -> tuple[torch.Tensor, ...]:
        """A black image."""
        return (torch.zeros(batch_size, 3, 224, 224),)
