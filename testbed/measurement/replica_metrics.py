"""Replicas as metric rows: states, from the events that a service records; a Deployment's counts, sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from testbed.measurement.metric_log import MetricRow, Sample
from testbed.measurement.sampler import MissedSample
from testbed.serving.service import ReplicaEvent
from workloads.errors import KisError


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


class Replicas(NamedTuple):
    """Of one deployment, now. pending: pods that no node has taken."""

    spec: int
    ready: int
    pending: int


class DeploymentSource:
    """How many replicas a Deployment has, wants and waits for: rows as a simulated cluster run leaves them.

    look: asks the cluster; KisError if it does not answer.
    """

    name = "deployment"

    def __init__(self, model: str, look: Callable[[], Replicas]) -> None:
        self._model, self._look = model, look

    def sample(self) -> list[Sample]:
        """One reading."""
        try:
            counts = self._look()
        except KisError as error:
            raise MissedSample(str(error)) from None
        labels = {"model": self._model}
        return [
            ("deployment", f"{name}_replicas", labels, float(value), "count")
            for name, value in counts._asdict().items()
        ]
