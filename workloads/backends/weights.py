"""A weights file into a network."""

from __future__ import annotations

import torch
from safetensors.torch import load_file


def load_weights(network: torch.nn.Module, weights_file: str) -> None:
    """Fill `network` from a state dict: a torch file of tensors only, or safetensors by its suffix.

    Raises RuntimeError (torch's) if names or shapes differ from the network's.
    """
    if weights_file.endswith(".safetensors"):
        state = load_file(weights_file)
    else:
        state = torch.load(weights_file, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
