"""The model.py of bert."""

from __future__ import annotations

import torch

from workloads.backends.bert_network import build
from workloads.backends.torch_model import TorchModel

TOKENS = 128


class TritonPythonModel(TorchModel):
    """input_ids, attention_mask -> logits."""

    input_names = ("input_ids", "attention_mask")
    output_name = "logits"

    def build(self, seed: int, weights_file: str | None) -> torch.nn.Module:
        """BERT-base with the file's weights, or seeded random ones."""
        return build(seed, weights_file)

    def example(self, batch_size: int, tokens: int | None) -> tuple[torch.Tensor, ...]:
        """Texts that leave the last token to padding: with a mask of ones only, some kernels would not be visited."""
        shape = (batch_size, tokens or TOKENS)
        mask = torch.ones(shape, dtype=torch.int64)
        mask[:, -1] = 0
        return torch.zeros(shape, dtype=torch.int64), mask
