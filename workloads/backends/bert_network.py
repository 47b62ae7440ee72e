"""BERT-base with a classification head, as transformers builds it."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification

from workloads.backends.weights import load_weights


class _Logits(torch.nn.Module):
    """The classifier with plain tensors in and out, as Triton and ONNX want it."""

    def __init__(self, classifier: BertForSequenceClassification) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def build(seed: int, weights_file: str | None) -> torch.nn.Module:
    """In evaluation mode. input_ids, attention_mask int64 [batch, tokens] -> logits float32 [batch, 2].

    Without a file the weights are drawn from `seed`: good for timing, meaningless as answers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = BertForSequenceClassification(BertConfig())
    if weights_file is not None:
        load_weights(classifier, weights_file)
    return _Logits(classifier).eval()
