"""What a training leaves: the network as policy.onnx, with policy.json."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from testbed.autoscaling.features import VERSION, features_with
from testbed.autoscaling.policy_file import PolicyFile, write_pair
from testbed.kiscaler.evaluation import Evaluation
from testbed.kiscaler.train_config import TrainConfig


def export(network: torch.nn.Module, config: TrainConfig, evaluation: Evaluation, folder: Path) -> None:
    """policy.onnx and policy.json, which are replaced together (policy_file.py). network: features -> logits."""
    features = tuple(features_with(config.base))
    exported: Any = io.BytesIO()  # torch takes one, though its types do not say so
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.cpu().eval(),
            (torch.zeros(1, len(features)),),
            exported,
            input_names=["features"],
            output_names=["logits"],
            dynamic_axes={"features": {0: "n"}, "logits": {0: "n"}},
            dynamo=False,
        )
    beside = PolicyFile(
        features_version=VERSION,
        features=features,
        sha256=hashlib.sha256(exported.getvalue()).hexdigest(),
        max_step=config.max_step,
        step_s=config.step_s,
        base=config.base,
        slo_penalties=config.ranges.slo_penalty,
        trained={
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "method": config.method,
            "steps": evaluation.steps,
            "control": config.control,
            "evaluation": evaluation._asdict(),
            "configuration": config.model_dump(mode="json"),
        },
    )
    write_pair(folder / "policy.onnx", exported.getvalue(), beside)
