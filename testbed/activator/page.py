"""What the activator tells Prometheus, and `kis controller`, of each deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from testbed.activator.front import REFUSALS, Front
from testbed.autoscaling.live.activator import HELD, SENT


class Counts(Collector):
    """The counts of some deployments, read when they are asked for: forwarding pays for none of it."""

    def __init__(self, fronts: Sequence[Front]) -> None:
        self._fronts = fronts

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        label = ["deployment"]
        sent = CounterMetricFamily(SENT, "Requests that clients have sent", labels=label)
        held = GaugeMetricFamily(HELD, "Connections that wait for a pod with something to send", labels=label)
        clients = GaugeMetricFamily("kis_activator_connections", "Connections of clients", labels=label)
        pods = GaugeMetricFamily("kis_activator_ready_pods", "Pods that connections go to", labels=label)
        broken = CounterMetricFamily(
            "kis_activator_broken", "Connections that a pod broke with a request on its way", labels=label
        )
        refused = CounterMetricFamily(
            "kis_activator_refused", "Connections that no pod took", labels=["deployment", "why"]
        )
        for front in self._fronts:
            sent.add_metric([front.name], front.requests)
            held.add_metric([front.name], front.held)
            clients.add_metric([front.name], len(front.clients))
            pods.add_metric([front.name], len(front.pods))
            broken.add_metric([front.name], front.broken)
            for why in REFUSALS:
                refused.add_metric([front.name, why], front.refused[why])
        yield from (sent, held, clients, pods, broken, refused)
