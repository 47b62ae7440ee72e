"""The torch networks as ONNX files, for servers that have Triton's ONNX Runtime backend. Needs torch and onnxscript.

As a command, for `workloads.repository`: python -m workloads.onnx_export MODEL_SPEC_JSON FILE SEED [WEIGHTS_FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from workloads.backends.bert_network import build_bert
from workloads.backends.resnet_network import build_resnet50
from workloads.catalog import CatalogError, ModelSpec, TensorSpec

_BUILDERS = {"resnet": build_resnet50, "bert": build_bert}


def export_onnx(spec: ModelSpec, path: Path, seed: int, weights_file: Path | None) -> None:
    """Write `spec`'s network to `path` with the catalog's tensor names and a free batch dimension."""
    if spec.family not in _BUILDERS:
        raise CatalogError(f"model '{spec.name}' runs no network, so it has no ONNX form: use the python backend")
    network = _BUILDERS[spec.family](seed, None if weights_file is None else str(weights_file))
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        network,
        tuple(_example(tensor) for tensor in spec.inputs),
        path,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        dynamic_shapes=tuple({0: batch} for _ in spec.inputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _example(tensor: TensorSpec) -> torch.Tensor:
    # Two rows: the exporter takes a dimension of one for a constant.
    dtype = {"FP32": torch.float32, "INT64": torch.int64}[tensor.datatype]
    return torch.ones(2, *tensor.shape, dtype=dtype)


if __name__ == "__main__":
    spec_json, file, seed_text, *weights = sys.argv[1:]
    export_onnx(
        ModelSpec.model_validate_json(spec_json), Path(file), int(seed_text), Path(weights[0]) if weights else None
    )
