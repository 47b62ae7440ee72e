"""`kis repository`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from testbed.cli import options
from testbed.config import ServeConfig
from testbed.errors import ServingError
from workloads.catalog import find_model
from workloads.repository import BackendOptions, weights_label, write_repository


def repository(
    folder: Annotated[Path, typer.Argument(help="New or empty folder: the --model-repository of a Triton.")],
    config: Annotated[Path | None, typer.Option("--config", help="Of `kis serve`; flags override it.")] = None,
    model: options.Model = None,
    backend: Annotated[
        str, typer.Option("--backend", help="python (torch), or onnxruntime for servers that have it.")
    ] = "python",
    device: options.Device = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, tf32, fp16 or bf16.")] = None,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="onnxruntime on a GPU: TensorRT runs the network, in tf32 or fp16.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads of each instance.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="State dict; none: random, timing only.")] = None,
) -> None:
    """Write a model of the catalog as a repository for a Triton of your own, e.g. one with the ONNX Runtime backend.

    Example: [bold]kis repository models --model resnet50 --backend onnxruntime --device gpu[/bold], start your
    [bold]tritonserver --model-repository models[/bold], then [bold]kis calibrate --server http://host:8000[/bold].
    """
    if folder.exists() and any(folder.iterdir()):
        raise ServingError(f"{folder} is not empty: name a new folder")
    kind = _backend(backend)
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "precision": precision,
        "weights": weights,
        "service": options.service_flags(None, instances, max_batch_size, queue_delay_ms),
    }
    settings = options.configured(config, ServeConfig, flags)
    spec = find_model(settings.model)
    chosen = BackendOptions(
        backend=kind,
        device="gpu" if settings.device == "gpu" else "cpu",
        threads=settings.threads or 1,
        precision=settings.precision,
        execution=settings.execution,
        tensorrt=tensorrt,
        gpus=settings.gpus,
        weights_file=settings.weights,
        seed=settings.weights_seed,
        emulated=settings.emulated,
    )
    console = Console()
    with console.status(f"writing {spec.name}"):
        write_repository(folder, spec, settings.service, chosen)
    console.print(f"{folder / spec.name}: {kind} backend on {chosen.device}; weights: {weights_label(spec, chosen)}")
    if settings.device == "auto":
        console.print("its instances run on the CPU: give --device gpu for a server with one", highlight=False)


def _backend(name: str) -> Literal["python", "onnxruntime"]:
    if name == "python":
        return "python"
    if name == "onnxruntime":
        return "onnxruntime"
    raise ServingError(f"--backend {name}: give python or onnxruntime")
