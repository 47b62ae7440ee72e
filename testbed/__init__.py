"""Serve, measure, calibrate, simulate, compare: from one real Triton service to a simulator that can be trusted.

What is public in Python is named here and described in docs/python.md. It is imported when it is first used: a process
that only samples or serves does not load a simulator.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen.patterns import Bursty, Constant, Fluctuating, Periodic, Ramp
    from testbed.api import (
        Cluster,
        ClusterRun,
        Profile,
        Service,
        ServiceRun,
        compare,
        example_profile,
        plan,
        read_trace,
        simulate,
    )
    from workloads.errors import KisError

__all__ = [
    "Bursty",
    "Cluster",
    "ClusterRun",
    "Constant",
    "Fluctuating",
    "KisError",
    "Periodic",
    "Profile",
    "Ramp",
    "Service",
    "ServiceRun",
    "compare",
    "example_profile",
    "plan",
    "read_trace",
    "simulate",
]


_PATTERNS = ("Bursty", "Constant", "Fluctuating", "Periodic", "Ramp")
_ELSEWHERE = {**dict.fromkeys(_PATTERNS, "loadgen.patterns"), "KisError": "workloads.errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'testbed' has no attribute '{name}'")
    return getattr(import_module(_ELSEWHERE.get(name, "testbed.api")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
