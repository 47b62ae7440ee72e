"""A policy: (what is seen, what it remembers) -> how many replicas; and where each is found by its kind.

Policies are values without clock or cluster. What one remembers is a value too, handed in and handed back, so that a
controller can be restarted.

A policy is a frozen dataclass with the methods of `Policy`, in a file of its own in policies/ or in a package of yours;
its fields are the keys of its settings. Where it has them, these are used:

    knows_the_future: ClassVar[bool]            it takes rate_rps, the true rate, and is no policy for a cluster
    start_replicas(settings) -> int | None      what a run under it begins with
    settings_from(given, max_replicas) -> dict  its fields, of settings that are written otherwise
    suggested(trial, service, given) -> dict    what `kis tune` tries, and first_tried(service) -> list of what it
                                                tries first (testbed/autoscaling/search.py)
    told: ClassVar[str]                         what it rests on, for tables: of the service and of its metrics
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from testbed.autoscaling.hpa.controller import Held as HpaHeld
from testbed.autoscaling.observation import Observation
from testbed.errors import ConfigError
from workloads.registry import Registry

Held = HpaHeld | Literal["budget"]


class Decision(NamedTuple):
    """replicas: wanted from now on. memory: hand it to the next call. reason: one line for logs.

    load: the metric over its target, the largest of several; None: not known, or there is no such. held: what kept it
    from going further up. A run's post-mortem tells both.
    """

    replicas: int
    memory: Any
    reason: str
    load: float | None = None
    held: Held | None = None


class Policy(Protocol):
    """Asked every period_s; memory is None at the first call."""

    @property
    def name(self) -> str:
        """For tables and files."""

    @property
    def period_s(self) -> float:
        """Seconds from one decision to the next."""

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """How many replicas there should be."""


Recommendations = tuple[tuple[float, int], ...]  # when (seconds), and how many replicas


def kept(before: Recommendations, now_s: float, delay_s: float, wanted: int) -> Recommendations:
    """What a policy has wanted in the last delay_s, and wants now: for those that scale down to the largest of it."""
    return (*(recommendation for recommendation in before if recommendation[0] > now_s - delay_s), (now_s, wanted))


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
