"""run.json, as far as a client knows it: what was sent to which server, when, and whether the run holds.

`testbed.run_dir.RunManifest` has more keys, of runs whose server or simulation the testbed knows.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loadgen.client_limits import ClientLimits
from loadgen.validity import Verdict
from workloads.catalog import ServiceConfig

VERSION: Literal[1] = 1
_VERSIONED = ("kis-testbed", "tritonclient", "locust", "gevent", "numpy", "torch", "nvidia-pytriton")


class Device(BaseModel):
    """Where the model ran. kind `emulated`: no network ran, the model waited a given profile's time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["cpu", "gpu", "emulated", "unknown"]
    name: str


class ClientManifest(BaseModel):
    """What a load generator knows of its run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = VERSION
    run_id: str
    kind: Literal["real", "simulated"]
    state: Literal["running", "complete", "interrupted"]
    model: str
    weights: str  # e.g. "random, seed 0: timing only"
    device: Device
    service: ServiceConfig
    shapes: dict[str, tuple[int, ...]] = {}  # of the inputs; none: of a run that was made before these were kept
    inputs: dict[str, str] = {}  # what the user had put into them; of the others, data of our own
    batch: int = 1  # rows of each request, of a run whose schedule does not say it
    client: ClientLimits | None = None  # None: of a run that was made before this was kept
    pattern: str
    pattern_parameters: dict[str, Any] = {}
    seed: int
    duration_s: float = Field(gt=0)
    start_unix_ns: int | None = None  # None: simulated
    start_monotonic_ns: int | None = None
    verdict: Verdict | None = None  # None: simulated, or not yet judged
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def versions() -> dict[str, str]:
    """Versions of what decides a measurement; what is not installed is left out."""
    installed = {"python": platform.python_version(), "kernel": platform.release()}
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed
