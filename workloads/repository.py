"""ModelSpec + ServiceConfig -> a Triton model repository on disk.

<folder>/<model>/config.pbtxt
<folder>/<model>/1/model.py            the family's backend, with the files it imports in 1/workloads/
<folder>/<model>/1/model.onnx          instead of them, for the ONNX Runtime backend
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workloads.accelerators import accelerator
from workloads.catalog import CatalogError, DynamicBatching, ModelSpec, ServiceConfig, TensorSpec
from workloads.emulated_profile import EmulatedProfile

PACKAGE = Path(__file__).parent
Precision = Literal["fp32", "tf32", "fp16", "bf16"]
Execution = Literal["graph", "eager"]  # on a GPU: a captured CUDA graph a batch size, or kernel by kernel


class BackendOptions(BaseModel):
    """How a model's instances run: everything that is neither the model nor its batching."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backend: Literal["python", "onnxruntime"] = "python"
    device: Literal["cpu", "gpu"] = "cpu"
    precision: Precision = "fp32"
    execution: Execution = "graph"
    tensorrt: bool = Field(False, description="ONNX Runtime on a GPU: use TensorRT")
    gpus: tuple[int, ...] = Field(
        (0,), min_length=1, description="CUDA numbers of the GPUs over which instances are spread"
    )
    threads: int = Field(1, ge=1, description="CPU threads of each instance; instances x threads must fit the cores")
    weights_file: Path | None = Field(None, description="None: random weights from `seed`")
    seed: int = Field(0, ge=0)
    batch_log_dir: Path | None = Field(None, description="None: no log of batches")
    emulated: EmulatedProfile | None = None
    replica: int = Field(0, ge=0, description="separates the random streams of emulated replicas")


def write_repository(folder: Path, spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> Path:
    """Write the repository that serves `spec`, and return `folder`.

    Raises CatalogError if the options cannot serve this model.
    """
    _check(spec, service, options)
    version = folder / spec.name / "1"
    version.mkdir(parents=True, exist_ok=True)
    if options.backend == "onnxruntime":
        _export(spec, version / "model.onnx", options)
    else:
        shutil.copyfile(PACKAGE / "backends" / f"{spec.family}.py", version / "model.py")
        _copy_backends(version / PACKAGE.name)
    (folder / spec.name / "config.pbtxt").write_text(model_config(spec, service, options))
    return folder


def model_config(spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> str:
    """The text of config.pbtxt."""
    blocks = [
        f"name: {_quote(spec.name)}",
        f"backend: {_quote(options.backend)}",
        f"max_batch_size: {service.max_batch_size}",
        *(_tensor("input", tensor) for tensor in spec.served_inputs(service)),
        *(_tensor("output", tensor) for tensor in spec.outputs),
        _instance_group(spec, service, options),
    ]
    if service.dynamic_batching is not None:
        blocks.append(_dynamic_batching(service.dynamic_batching))
    if options.backend == "onnxruntime" and options.device == "gpu":
        blocks.append(accelerator(spec.inputs, service.max_batch_size, options.precision, options.tensorrt))
    blocks += [
        f"parameters {{ key: {_quote(key)} value {{ string_value: {_quote(value)} }} }}"
        for key, value in _parameters(spec, service, options).items()
    ]
    return "\n".join(blocks) + "\n"


def weights_label(spec: ModelSpec, options: BackendOptions) -> str:
    """What the model's answers and times are worth, for reports."""
    if spec.emulated:
        return "none: emulated, the model only waits"
    if options.weights_file is None:
        return f"random, seed {options.seed}: timing only"
    _check_weights(options.weights_file)
    with options.weights_file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{options.weights_file.name}, sha256 {digest[:12]}"


def _check(spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> None:
    if options.weights_file is not None:
        _check_weights(options.weights_file)
    _check_buckets(spec, service, options)
    if options.tensorrt and (options.backend != "onnxruntime" or options.device != "gpu"):
        raise CatalogError("TensorRT runs exported networks on a GPU: use the onnxruntime backend and device gpu")
    if options.backend == "onnxruntime" and options.device == "gpu":
        accelerator(spec.inputs, service.max_batch_size, options.precision, options.tensorrt)  # for its error
    elif options.backend == "onnxruntime" and options.precision not in ("fp32", "tf32"):
        raise CatalogError(f"ONNX Runtime runs {options.precision} on a GPU only: use fp32 or the python backend")
    if options.device == "gpu" and not spec.emulated and service.instances % len(options.gpus):
        raise CatalogError(
            f"{service.instances} instances cannot be spread evenly over {len(options.gpus)} GPUs: give a multiple"
        )
    if not spec.emulated:
        return
    if options.backend != "python":
        raise CatalogError(f"model '{spec.name}' runs no network: use the python backend, not {options.backend}")
    if options.emulated is None:
        raise CatalogError(f"model '{spec.name}' needs the profile to emulate: give its times by batch size")
    if len(options.emulated.mean_s) < service.max_batch_size:
        raise CatalogError(
            f"the emulated profile has times for batches up to {len(options.emulated.mean_s)}, "
            f"max_batch_size is {service.max_batch_size}: give more times, or lower max_batch_size"
        )


def _check_buckets(spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> None:
    if not service.length_buckets:
        return
    if spec.max_tokens is None:
        raise CatalogError(f"requests to '{spec.name}' have no length: leave length_buckets out")
    if service.length_buckets[-1] > spec.max_tokens:
        raise CatalogError(
            f"length bucket {service.length_buckets[-1]} is beyond what '{spec.name}' takes: {spec.max_tokens} tokens"
        )
    if options.backend != "python":
        raise CatalogError("only the python backend pads to length_buckets: use it, or leave them out")


def _check_weights(weights_file: Path) -> None:
    if not weights_file.is_file():
        raise CatalogError(f"no weights file {weights_file}: give a torch state dict or safetensors file, or none")


def _export(spec: ModelSpec, path: Path, options: BackendOptions) -> None:
    """In a process of its own: torch is not part of the light core, and would stay in this process's memory."""
    # TensorRT chooses the precision of its kernels by itself: it is given the network in fp32.
    precision = "fp32" if options.tensorrt else options.precision
    command = [sys.executable, "-m", "workloads.onnx_export", spec.model_dump_json(), str(path), precision]
    command.append(str(options.seed))
    if options.weights_file is not None:
        command.append(str(options.weights_file))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise CatalogError(f"cannot export '{spec.name}' to ONNX: {reason[0]}: it needs the `serve` extra")


def _copy_backends(package: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE / "backends", package / "backends", dirs_exist_ok=True, ignore=ignore)
    shutil.copyfile(PACKAGE / "__init__.py", package / "__init__.py")


def _parameters(spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> dict[str, str]:
    if options.backend == "onnxruntime":
        return {"intra_op_thread_count": str(options.threads)}
    values = {
        "threads": str(options.threads),
        "seed": str(options.seed),
        "replica": str(options.replica),
        "precision": options.precision,
        "execution": options.execution,
    }
    if service.length_buckets:
        values["length_buckets"] = ",".join(map(str, service.length_buckets))
    if options.weights_file is not None:
        values["weights_file"] = str(options.weights_file.resolve())
    if options.batch_log_dir is not None:
        values["batch_log_dir"] = str(options.batch_log_dir.resolve())
    if spec.emulated and options.emulated is not None:
        emulated, file = options.emulated, options.emulated.slowness_file
        if file is not None:  # the server has another working folder; a link is followed each time it is read
            emulated = emulated.model_copy(update={"slowness_file": file.absolute()})
        values["emulated_profile"] = emulated.model_dump_json()
    return values


def _tensor(kind: str, tensor: TensorSpec) -> str:
    dims = ", ".join(map(str, tensor.shape))
    # Triton puts requests of different lengths into one batch only where the backend is said to cope with it.
    ragged = " allow_ragged_batch: true" if kind == "input" and -1 in tensor.shape else ""
    return f"{kind} {{ name: {_quote(tensor.name)} data_type: TYPE_{tensor.datatype} dims: [ {dims} ]{ragged} }}"


def _instance_group(spec: ModelSpec, service: ServiceConfig, options: BackendOptions) -> str:
    if options.device == "gpu" and not spec.emulated:
        # Triton makes `count` instances on each GPU of the list, and on every GPU without one.
        count, gpus = service.instances // len(options.gpus), ", ".join(map(str, options.gpus))
        return f"instance_group {{ count: {count} kind: KIND_GPU gpus: [ {gpus} ] }}"
    return f"instance_group {{ count: {service.instances} kind: KIND_CPU }}"


def _dynamic_batching(rules: DynamicBatching) -> str:
    fields = [f"max_queue_delay_microseconds: {round(rules.max_queue_delay_s * 1e6)}"]
    if rules.preferred_batch_sizes:
        fields.insert(0, f"preferred_batch_size: [ {', '.join(map(str, rules.preferred_batch_sizes))} ]")
    # A queue policy, even of default values, is worth leaving out: a limit in it turns Triton's prefetching off.
    if rules.default_timeout_s > 0 or rules.max_queue_size > 0 or rules.allow_timeout_override:
        fields.append(
            f"default_queue_policy {{ timeout_action: {rules.timeout_action} "
            f"default_timeout_microseconds: {round(rules.default_timeout_s * 1e6)} "
            f"allow_timeout_override: {str(rules.allow_timeout_override).lower()} "
            f"max_queue_size: {rules.max_queue_size} }}"
        )
    return "dynamic_batching {\n  " + "\n  ".join(fields) + "\n}"


def _quote(text: str) -> str:
    return json.dumps(text)
