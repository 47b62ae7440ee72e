"""Replica states as metric rows, from the events that a service records."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.measurement.source import MetricRow
from testbed.serving.service import ReplicaEvent


def replica_rows(events: Iterable[ReplicaEvent], start_monotonic_ns: int) -> list[MetricRow]:
    """Rows of source `replica` on the run clock: one `state` row an event, and `start_up_seconds` where it has one.

    Replicas that were started before the run have negative times.
    """
    rows: list[MetricRow] = []
    for event in events:
        time_ns = event.time_ns - start_monotonic_ns
        label = {"replica": event.replica}
        rows.append((time_ns, "replica", "state", label | {"state": event.state}, 1.0, "state"))
        if event.start_up_s is not None:
            rows.append((time_ns, "replica", "start_up_seconds", label, event.start_up_s, "s"))
    return rows
