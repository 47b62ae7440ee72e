"""Who acts: a coordination.k8s.io Lease, as client-go's leader election uses it.

Instants in a lease come from other machines' clocks, so they are not compared with ours: a lease has run out when it
has not changed for its whole duration on our own clock.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Move = Literal["renew", "take", "wait"]


class LeaseRecord(NamedTuple):
    """What the API holds. version changes with every renewal."""

    holder: str
    version: str


class Watcher(NamedTuple):
    """What one candidate has seen: the record, and when it first saw it like this, on its own clock."""

    record: LeaseRecord | None
    changed_s: float


def move(
    watcher: Watcher, record: LeaseRecord | None, me: str, now_s: float, duration_s: float
) -> tuple[Move, Watcher]:
    """What to do with the lease as it is now; None: there is no lease yet.

    renew: it is ours. take: nobody holds it, or its holder has not renewed it for duration_s. wait: another's.
    """
    watcher = watcher if record == watcher.record else Watcher(record, now_s)
    if record is None or record.holder == "":
        return "take", watcher
    if record.holder == me:
        return "renew", watcher
    return ("take" if now_s - watcher.changed_s >= duration_s else "wait"), watcher
