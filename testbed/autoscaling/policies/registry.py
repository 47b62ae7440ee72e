"""Where each policy is found by its kind.

A policy is a frozen dataclass with the methods of `testbed.autoscaling.policy.Policy`, in a file of its own in this
folder or in a package of yours; its fields are the keys of its settings. Where it has them, these are used:

    knows_the_future: ClassVar[bool]            it takes rate_rps, the true rate, and is no policy for a cluster
    start_replicas(settings) -> int | None      what a run under it begins with
    settings_from(given, max_replicas) -> dict  its fields, of settings that are written otherwise
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from testbed.errors import ConfigError
from workloads.registry import Registry

T = TypeVar("T", bound=type)
REGISTRY: Registry[Any] = Registry(
    "policy",
    ConfigError,
    "kis.policies",
    lambda candidate: (
        isinstance(candidate, type) and hasattr(candidate, "decide") and hasattr(candidate, "__dataclass_fields__")
    ),
    "give a dataclass with name, period_s and decide (see testbed.autoscaling.policy)",
)
known_policies = REGISTRY.known


def policy(kind: str) -> Callable[[T], T]:
    """Registers a class under the name that settings have as `kind`."""

    def register(cls: T) -> T:
        REGISTRY.add(kind, cls)
        return cls

    return register


def find_policy(kind: Any) -> Any:
    """The class of that kind, or at that place: `my_module:MyPolicy`. ConfigError if there is none."""
    if not isinstance(kind, str):
        raise ConfigError(f"policy: kind is {kind!r}: known are {', '.join(REGISTRY.known())}")
    return REGISTRY.find(kind)
