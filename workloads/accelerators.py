"""What Triton's ONNX Runtime backend is told of a GPU: precision, and TensorRT if it is to run the network.

The keys are those of the backend's README and of ONNX Runtime's CUDA and TensorRT execution providers.
"""

from __future__ import annotations

from workloads.catalog import CatalogError, TensorSpec

CUDA_PRECISIONS = ("fp32", "tf32", "fp16")  # of bf16 not all layers have kernels
TENSORRT_PRECISIONS = {"tf32": "FP32", "fp16": "FP16"}  # TensorRT rounds fp32 to tf32 by itself


def accelerator(inputs: tuple[TensorSpec, ...], max_batch_size: int, precision: str, tensorrt: bool) -> str:
    """The `optimization` block of config.pbtxt. CatalogError: a precision that cannot be asked for there."""
    known = tuple(TENSORRT_PRECISIONS) if tensorrt else CUDA_PRECISIONS
    if precision not in known:
        raise CatalogError(
            f"{'TensorRT' if tensorrt else 'ONNX Runtime'} is asked for {' or '.join(known)} here, not for "
            f"{precision}: choose one of them, or the python backend"
        )
    if not tensorrt:
        # ONNX Runtime lets matrix products round to tf32 unless it is told not to.
        return _block("cuda", {"use_tf32": "0" if precision == "fp32" else "1"})
    # One engine for all batch sizes: without these shapes another one is built at each new size, under load.
    sizes = {"min": 1, "opt": max_batch_size, "max": max_batch_size}
    shapes = {f"trt_profile_{name}_shapes": _shapes(inputs, size) for name, size in sizes.items()}
    return _block("tensorrt", {"precision_mode": TENSORRT_PRECISIONS[precision], **shapes})


def _shapes(inputs: tuple[TensorSpec, ...], batch_size: int) -> str:
    return ",".join(f"{tensor.name}:{'x'.join(map(str, (batch_size, *tensor.shape)))}" for tensor in inputs)


def _block(name: str, parameters: dict[str, str]) -> str:
    text = " ".join(f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items())
    return f'optimization {{ execution_accelerators {{ gpu_execution_accelerator: [ {{ name: "{name}" {text} }} ] }} }}'
