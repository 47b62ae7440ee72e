"""ResNet-50, as torchvision builds it."""

from __future__ import annotations

import torch
import torchvision

from workloads.backends.weights import load_weights


def build(seed: int, weights_file: str | None) -> torch.nn.Module:
    """In evaluation mode. image float32 [batch, 3, 224, 224] -> logits float32 [batch, 1000].

    Without a file the weights are drawn from `seed`: good for timing, meaningless as answers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: torch.nn.Module = torchvision.models.resnet50(weights=None)
    if weights_file is not None:
        load_weights(network, weights_file)
    return network.eval()
