"""What a Triton pod does before its server starts: `python -m testbed.serving.pod SETTINGS FOLDER [BACKEND]`.

SETTINGS is a configuration file of `kis serve` (a ConfigMap, mounted). FOLDER gets models/, the repository that serves
it, and backends/ where this container has the embedded server; an image of NVIDIA's brings its own. BACKEND runs the
network: python (the default) where the server's container has torch, onnxruntime in NVIDIA's image, which has none.
The emulated accelerator, which is no network, always runs in python.
"""

from __future__ import annotations

import os
import platform
import sys
import zlib
from pathlib import Path
from typing import Literal, get_args

from testbed.config import ServeConfig
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.serving.tritonserver import find_tritonserver, has_tritonserver, make_backend_directory
from workloads.catalog import find_model
from workloads.errors import KisError
from workloads.repository import BackendOptions, write_repository

Backend = Literal["python", "onnxruntime"]
_WRONG = 2


def prepare(settings: Path, folder: Path, pod: str, backend: Backend = "python") -> None:
    """Write what the server of the pod of this name starts from; KisError if the settings cannot be served."""
    config = load_config(settings, ServeConfig)
    spec = find_model(config.model)
    if config.device == "auto" and not spec.emulated:
        raise ConfigError(f"{settings}: device must be cpu or gpu in a pod: it gets what its manifest asks for")
    cores = len(os.sched_getaffinity(0))
    options = BackendOptions(
        backend="python" if spec.emulated else backend,
        device="gpu" if config.device == "gpu" and not spec.emulated else "cpu",
        threads=config.threads or max(1, cores // config.service.instances),
        precision=config.precision,
        execution=config.execution,
        gpus=config.gpus,
        weights_file=config.weights,
        seed=config.weights_seed,
        emulated=config.emulated,
        replica=zlib.crc32(pod.encode()),  # emulated replicas draw from streams of their own
    )
    write_repository(folder / "models", spec, config.service, options)
    if has_tritonserver():
        make_backend_directory(folder / "backends", find_tritonserver())


def main() -> None:
    """One line and exit status 2 for an error that the user can mend: it is what `kubectl logs` shows."""
    settings, folder, *named = sys.argv[1:]
    try:
        prepare(Path(settings), Path(folder), platform.node(), _backend(*named))
    except KisError as error:
        print(f"pod: {error}", file=sys.stderr)
        sys.exit(_WRONG)


def _backend(name: str = "python") -> Backend:
    for known in get_args(Backend):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"unknown backend '{name}': give {' or '.join(get_args(Backend))}")


if __name__ == "__main__":
    main()
