"""What the controller tells Prometheus of itself, and one JSON line a turn."""

from __future__ import annotations

import copy
import json
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge

from testbed.autoscaling.live.activator import ACTIVATOR
from testbed.controller.health import Pulse, serve
from testbed.controller.loop import Turn
from testbed.log_line import print_line


class Exporter:
    """Metrics of one controlled deployment. port 0: no page. pulses: for /healthz beside the page."""

    def __init__(
        self, deployment: str, policy: str, pulses: Sequence[Pulse], port: int = 0, log: TextIO = sys.stdout
    ) -> None:
        self.registry = CollectorRegistry()
        self._log, self._deployment, self._policy = log, deployment, policy
        labels: Any = {"labelnames": ("deployment", "policy"), "registry": self.registry}
        self._wanted = Gauge("kis_controller_wanted_replicas", "What the policy answered last", **labels)
        self._spec = Gauge("kis_controller_spec_replicas", "The deployment's number of replicas", **labels)
        self._ready = Gauge("kis_controller_ready_replicas", "Pods that take requests", **labels)
        self._pending = Gauge("kis_controller_pending_pods", "Pods that have not started yet", **labels)
        self._silent = Gauge("kis_controller_silent_pods", "Ready pods that told nothing, or nonsense", **labels)
        self._leads = Gauge("kis_controller_acting", "1: this process patches; 0: it waits, or is a shadow", **labels)
        self._turns = Counter("kis_controller_decisions", "Decisions", **labels)
        self._patches = Counter("kis_controller_patches", "Scale patches that the API took", **labels)
        self._holds = Counter("kis_controller_holds", "Decisions that were held back, whatever for", **labels)
        self._lines, self._writes = deque[str](maxlen=1), threading.Lock()
        self._begin()
        if port:
            serve(port, self.registry, pulses, lambda: self.last)

    def also(self, deployment: str, policy: str) -> Exporter:
        """Of another deployment that this process controls: on the same page, in the same log."""
        other = copy.copy(self)
        other._deployment, other._policy = deployment, policy
        other._begin()
        return other

    def _begin(self) -> None:
        for counter in (self._turns, self._patches, self._holds):  # from 0 on: a rate needs a value before the first
            counter.labels(self._deployment, self._policy)

    @property
    def last(self) -> str | None:
        """The newest line of the log, as JSON."""
        return self._lines[-1] if self._lines else None

    def tell(self, turn: Turn, failures: dict[str, str]) -> None:
        """Metrics and a log line for one turn. failures: what told nothing, and why."""
        labels = (self._deployment, self._policy)
        self._leads.labels(*labels).set(turn.acted)
        self._turns.labels(*labels).inc()
        if turn.wanted is not None:
            self._wanted.labels(*labels).set(turn.wanted)
        if turn.spec_replicas is not None:
            self._spec.labels(*labels).set(turn.spec_replicas if turn.replicas is None else turn.replicas)
        if turn.ready is not None and turn.pending is not None:
            self._ready.labels(*labels).set(turn.ready)
            self._pending.labels(*labels).set(turn.pending)
            self._silent.labels(*labels).set(len(failures.keys() - {ACTIVATOR}))
        if turn.replicas is not None and turn.acted:
            self._patches.labels(*labels).inc()
        if turn.refusal:
            self._holds.labels(*labels).inc()
        line: dict[str, Any] = {"deployment": self._deployment, "policy": self._policy}
        line |= {**turn._asdict(), "not_ready": dict(turn.not_ready)}
        if failures:
            line["not_scraped"] = failures
        with self._writes:  # a line stays whole
            self._lines.append(json.dumps(line))
            print_line(self._log, **line)
