"""Serve, measure, calibrate, simulate, compare: from one real Triton service to a simulator that can be trusted.

What is public in Python is named here and described in docs/python.md. It is imported when it is first used: a process
that only samples or serves does not load a simulator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.api import (
        Bursty,
        Cluster,
        ClusterRun,
        Constant,
        Fluctuating,
        KisError,
        Periodic,
        Profile,
        Ramp,
        Service,
        ServiceRun,
        compare,
        example_profile,
        plan,
        read_trace,
        simulate,
    )

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'testbed' has no attribute '{name}'")
    from testbed import api  # noqa: PLC0415 - see above

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
