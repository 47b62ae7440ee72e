"""`kis repository`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from testbed.cli import options
from testbed.cli.console import console, say
from testbed.cli.flags import Given, configured, flags
from testbed.config import ServeConfig
from testbed.errors import ServingError
from workloads.catalog import find_model


@flags(ServeConfig, usual=["model", "device", *options.service(), "precision", "threads", "weights"])
def repository(
    given: Given,
    folder: Annotated[Path, typer.Argument(help="New or empty folder: the --model-repository of a Triton.")],
    config: Annotated[Path | None, typer.Option(help="Of `kis serve`; flags override it.")] = None,
    backend: Annotated[str, typer.Option(help="python (torch), or onnxruntime for servers that have it.")] = "python",
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="onnxruntime on a GPU: TensorRT runs the network, in tf32 or fp16.")
    ] = False,
) -> None:
    """Also for one that has the ONNX Runtime backend.

    Example: [bold]kis repository models --model resnet50 --backend onnxruntime --device gpu[/bold], start your
    [bold]tritonserver --model-repository models[/bold], then [bold]kis calibrate --server http://host:8000[/bold].
    """
    if folder.exists() and any(folder.iterdir()):
        raise ServingError(f"{folder} is not empty: name a new folder")
    from workloads.repository import BackendOptions, weights_label, write_repository

    kind = _backend(backend)
    settings = configured(ServeConfig, config, given)
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
    with console.status(f"writing {spec.name}"):
        write_repository(folder, spec, settings.service, chosen)
    say(f"{folder / spec.name}: {kind} backend on {chosen.device}; weights: {weights_label(spec, chosen)}")
    if settings.device == "auto":
        say("its instances run on the CPU: give --device gpu for a server with one")


def _backend(name: str) -> Literal["python", "onnxruntime"]:
    if name == "python":
        return "python"
    if name == "onnxruntime":
        return "onnxruntime"
    raise ServingError(f"--backend {name}: give python or onnxruntime")
