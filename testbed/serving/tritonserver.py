"""The tritonserver binary of the nvidia-pytriton wheel: where it is, and how it is started."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import ServingError

# Longer than any batch: with a short one, Triton drops accepted requests and leaves its stubs behind.
EXIT_TIMEOUT_S = 60
METRICS_INTERVAL_MS = 500
# No extra of ours can name the wheel: pyproject.toml says why.
INSTALL = "pip install --no-deps nvidia-pytriton==0.7.0"
_ELSEWHERE = "start a Triton server elsewhere and give its address with --server http://host:8000"


@dataclass(frozen=True)
class Tritonserver:
    """Files of the embedded server."""

    binary: Path
    python_backend: tuple[Path, ...]  # what the python backend's folder must hold, for this Python


@dataclass(frozen=True)
class Ports:
    """Ports of one server on the loopback address."""

    http: int
    grpc: int
    metrics: int


def has_tritonserver() -> bool:
    """True if the wheel with the embedded server is installed."""
    return importlib.util.find_spec("pytriton") is not None


def find_tritonserver() -> Tritonserver:
    """The embedded server; ServingError if this platform or this Python has none."""
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        system = f"{platform.system()} {platform.machine()}"
        if system == "Linux x86_64":
            raise ServingError(f"no tritonserver in this environment: {INSTALL}")
        raise ServingError(f"no tritonserver for {system} (the embedded one is for Linux x86_64): {_ELSEWHERE}")
    root = Path(package.origin).parent / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = root / "backends" / "python"
    files = (
        backend / "libtriton_python.so",
        backend / "triton_python_backend_utils.py",
        root / "python_backend_stubs" / version / "triton_python_backend_stub",
    )
    binary = root / "bin" / "tritonserver"
    for file in (binary, *files):
        if not file.exists():
            raise ServingError(
                f"the nvidia-pytriton wheel has no {file.name} for Python {version}: "
                f"use Python 3.11 to 3.13, or {_ELSEWHERE}"
            )
    _check_shared_python(version)
    return Tritonserver(binary, files)


def make_backend_directory(folder: Path, server: Tritonserver) -> Path:
    """`folder`/python with symlinks to the wheel's files: the wheel itself keeps its stubs elsewhere."""
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    for file in server.python_backend:
        link = python / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return folder


def server_command(
    server: Tritonserver,
    backends: Path,
    repository: Path,
    ports: Ports,
    *,
    shm_prefix: str,
    gpu: bool,
    latency_summaries: bool = False,
) -> list[str]:
    """The command line of one server on the loopback address. latency_summaries: percentiles on its metrics page."""
    return [
        str(server.binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        "--disable-auto-complete-config",  # completing would start one more interpreter, which imports torch first
        "--http-address=127.0.0.1",
        f"--http-port={ports.http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={ports.grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={ports.metrics}",
        f"--metrics-interval-ms={METRICS_INTERVAL_MS}",
        f"--allow-gpu-metrics={str(gpu).lower()}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        *(["--metrics-config=summary_latencies=true"] if latency_summaries else []),
    ]


def server_environment(threads: int, gpu: bool) -> dict[str, str]:
    """The environment of one server: the stub embeds the Python that is first on PATH, with its own library."""
    inherited = dict(os.environ)
    libraries = [sysconfig.get_config_var("LIBDIR"), str(Path(sys.base_prefix) / "lib")]  # a Python may have moved
    if gpu:  # some drivers are found only through it; without a GPU it can only bring wrong libraries
        libraries.append(inherited.get("LD_LIBRARY_PATH"))
        inherited.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # NVML's, so that the first GPU is the same one
    return inherited | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(path for path in libraries if path),
        "OMP_NUM_THREADS": str(threads),
    }


def _check_shared_python(version: str) -> None:
    library = f"libpython{version}.so.1.0"
    # A Python that was moved (into a pod, say) is not where it was built for: then the loader is told where it is.
    folders = [
        sysconfig.get_config_var("LIBDIR"),
        str(Path(sys.base_prefix) / "lib"),
        *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep),
    ]
    if not any((Path(folder) / library).exists() for folder in folders if folder) and not ctypes.util.find_library(
        f"python{version}"
    ):
        raise ServingError(
            f"this Python has no {library}, which Triton's python backend embeds: on Debian and Ubuntu, "
            f"apt-get install libpython{version}; else use a Python built with --enable-shared"
        )
