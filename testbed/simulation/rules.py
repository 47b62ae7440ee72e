"""BatchingRules: all that the kernel must know of one service's scheduler, in nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from testbed.simulation.state import MISSED_ENDS
from workloads.catalog import DynamicBatching, ServiceConfig


@dataclass(frozen=True)
class BatchingRules:
    """How one replica forms batches, after Triton's dynamic batcher; docs/explanation/batching.md states the rules.

    dynamic=False is a model without `dynamic_batching`: each request is a batch of its own, and delay, timeout and
    queue limit do not exist. An empty preferred set means {max_batch_size}. 0 means: no timeout, no queue limit.
    """

    max_batch_size: int = 8
    instances: int = 1
    dynamic: bool = True
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_ns: int = 0
    default_timeout_ns: int = 0
    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    max_queue_size: int = 0
    allow_timeout_override: bool = False
    inter_batch_gap_ns: int = 0
    timer_slack_ns: int = 0  # how late the batcher wakes from a timed sleep

    def __post_init__(self) -> None:
        if self.max_batch_size < 1 or self.instances < 1:
            raise ValueError(
                f"max_batch_size ({self.max_batch_size}) and instances ({self.instances}) must be 1 or more"
            )
        for size in self.preferred_batch_sizes:
            if not 1 <= size <= self.max_batch_size:
                raise ValueError(f"preferred batch size {size} is outside 1..max_batch_size ({self.max_batch_size})")
        for name in (
            "max_queue_delay_ns",
            "default_timeout_ns",
            "max_queue_size",
            "inter_batch_gap_ns",
            "timer_slack_ns",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is negative: {getattr(self, name)}")

    @classmethod
    def of(cls, service: ServiceConfig, inter_batch_gap_ns: int, timer_slack_ns: int = 0) -> BatchingRules:
        """The rules of a service; delay and timeout in whole microseconds, as Triton's configuration holds them."""
        dynamic = service.dynamic_batching
        if dynamic is None:
            return cls(service.max_batch_size, service.instances, dynamic=False, inter_batch_gap_ns=inter_batch_gap_ns)
        return cls(
            max_batch_size=service.max_batch_size,
            instances=service.instances,
            preferred_batch_sizes=dynamic.preferred_batch_sizes,
            max_queue_delay_ns=round(dynamic.max_queue_delay_s * 1e6) * 1000,
            default_timeout_ns=round(dynamic.default_timeout_s * 1e6) * 1000,
            timeout_action=dynamic.timeout_action,
            max_queue_size=dynamic.max_queue_size,
            allow_timeout_override=dynamic.allow_timeout_override,
            inter_batch_gap_ns=inter_batch_gap_ns,
            timer_slack_ns=timer_slack_ns,
        )

    @property
    def preferred(self) -> tuple[int, ...]:
        """The preferred sizes in ascending order, never empty."""
        return tuple(sorted(set(self.preferred_batch_sizes))) or (self.max_batch_size,)

    @property
    def prefetches(self) -> bool:
        """Triton queues batches ahead of its instances only if no request can time out or be refused."""
        return self.default_timeout_ns == 0 and self.max_queue_size == 0 and not self.allow_timeout_override


def queue_notes(all_rules: Iterable[DynamicBatching | None]) -> list[str]:
    """What a reader of simulated latencies must know where some of the services have a queue policy."""
    limited = [rules for rules in all_rules if rules is not None and not _prefetches(rules)]
    if not limited:
        return []
    waits = (
        "stands still for up to 0.5 s if its queue is full, and refuses all requests"
        if any(rules.max_queue_size for rules in limited)
        else "waits for the next request"
    )
    notes = [
        f"with a queue limit or timeout, Triton's batcher misses the end of some batches and {waits}; "
        f"{MISSED_ENDS:.0%} of them is taken, and not measured: a real server may refuse fewer or many more"
    ]
    if any(rules.allow_timeout_override for rules in limited):
        notes.append("allow_timeout_override: no simulated or replayed request sets a queue timeout of its own")
    return notes


def _prefetches(rules: DynamicBatching) -> bool:
    return BatchingRules.of(ServiceConfig(max_batch_size=2**31, dynamic_batching=rules), 0).prefetches
