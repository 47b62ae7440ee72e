"""The torch networks as ONNX files, for servers that have Triton's ONNX Runtime backend. Needs torch and onnxscript.

As a command, for `workloads.repository`:
python -m workloads.onnx_export MODEL_SPEC_JSON FILE PRECISION SEED [WEIGHTS_FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from workloads.catalog import ModelSpec, TensorSpec
from workloads.networks import build_network


class _InHalf(torch.nn.Module):
    """A network that computes in float16 between inputs and outputs of float32."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.network(
            *(tensor.half() if tensor.is_floating_point() else tensor for tensor in inputs)
        )
        return output.float()


def export_onnx(spec: ModelSpec, path: Path, precision: str, seed: int, weights_file: Path | None) -> None:
    """Write `spec`'s network to `path` with the catalog's tensor names and a free batch dimension.

    precision: fp32 | tf32 | fp16, of weights and of everything between inputs and outputs; tf32 is the server's to do.
    """
    network = build_network(spec, seed, weights_file)
    if precision == "fp16":
        network = _InHalf(network)
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        network,
        tuple(_example(tensor) for tensor in spec.inputs),
        path,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        dynamic_shapes=_dynamic_shapes(network, len(spec.inputs), batch),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _dynamic_shapes(network: torch.nn.Module, inputs: int, batch: object) -> tuple[object, ...]:
    """As the exporter wants them: by parameter of forward(), of which _InHalf has one for all inputs."""
    free = tuple({0: batch} for _ in range(inputs))
    return (free,) if isinstance(network, _InHalf) else free


def _example(tensor: TensorSpec) -> torch.Tensor:
    # Two rows: the exporter takes a dimension of one for a constant.
    dtype = {"FP32": torch.float32, "INT64": torch.int64}[tensor.datatype]
    return torch.ones(2, *tensor.shape, dtype=dtype)


if __name__ == "__main__":
    spec_json, file, wanted, seed_text, *weights = sys.argv[1:]
    model = ModelSpec.model_validate_json(spec_json)
    export_onnx(model, Path(file), wanted, int(seed_text), Path(weights[0]) if weights else None)
