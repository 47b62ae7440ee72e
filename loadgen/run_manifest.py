"""run.json, as far as a client knows it: what was sent to which server, when, and whether the run holds.

`testbed.run_dir.RunManifest` has more keys, of runs whose server or simulation the testbed knows.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loadgen.validity import Verdict
from workloads.catalog import ServiceConfig

VERSION: Literal[1] = 1
_VERSIONED = ("kis-testbed", "tritonclient", "locust", "gevent", "numpy", "torch", "nvidia-pytriton")


class Device(BaseModel):
    """Where the model ran. kind `emulated`: no network ran, the model waited a given profile's time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cpu", "gpu", "emulated", "unknown"]
    name: str


class ClientLimits(BaseModel):
    """How long a client waits for an answer, and how many requests it has under way at most; a simulated one too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_s: float = Field(10.0, gt=0, description="of each request, from when it was sent")
    max_in_flight: int = Field(1024, ge=1, description="requests beyond it are dropped, and counted")


class ClientManifest(BaseModel):
    """What a load generator knows of its run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    run_id: str
    kind: Literal["real", "simulated"]
    state: Literal["running", "complete", "interrupted"]
    model: str
    weights: str  # e.g. "random, seed 0: timing only"
    device: Device
    service: ServiceConfig
    shapes: dict[str, tuple[int, ...]] = {}  # of the inputs; none: of a run that was made before these were kept
    client: ClientLimits | None = None  # None: of a run that was made before this was kept
    pattern: str
    pattern_parameters: dict[str, Any] = {}
    seed: int
    duration_s: float
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
