"""Faults of an experiment on a real deployment: its emulated accelerators become slower when their time has come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import ClusterError
from testbed.pipeline.cluster_config import Fault
from testbed.serving.slowness import Slowness
from workloads.files import write_json

FAULTS = "faults.json"  # of a real run: [{"at_s", "slow_down", "struck_s"}], on the clock of its traffic


class FaultInjector:
    """Told of the time again and again, it injects each fault when its time has come."""

    def __init__(self, faults: Sequence[Fault], slowness: Slowness) -> None:
        self._left = sorted(faults, key=lambda one: one.at_s)
        self._slowness = slowness
        self._struck: list[tuple[Fault, float]] = []  # and when, in seconds since 1970

    def at(self, now_s: float) -> None:
        """now_s: of the traffic. ClusterError if a fault cannot be injected."""
        while self._left and self._left[0].at_s <= now_s:
            fault = self._left.pop(0)
            assert fault.slow_down is not None
            self._struck.append((fault, self._slowness.set(fault.slow_down)))

    def write(self, folder: Path, start_unix_s: float) -> None:
        """FAULTS, if any struck. start_unix_s: of the traffic."""
        told = [
            {"at_s": one.at_s, "slow_down": one.slow_down, "struck_s": at - start_unix_s} for one, at in self._struck
        ]
        if told:
            write_json(folder / FAULTS, told)


@contextmanager
def injecting(faults: Sequence[Fault], slowness: Slowness) -> Iterator[FaultInjector]:
    """For the length of a run; before and after it the accelerators are as their profile says.

    If the API is away afterwards, the run is kept all the same: the next one begins with the same.
    """
    slowness.reset()
    try:
        yield FaultInjector(faults, slowness)
    finally:
        with contextlib.suppress(ClusterError):
            slowness.reset()


def read_faults(real: Path) -> tuple[Fault, ...]:
    """The faults of a real run, at the second of its traffic at which they struck."""
    file = real / FAULTS
    told = json.loads(file.read_text()) if file.exists() else []
    return tuple(Fault(at_s=max(0.0, one["struck_s"]), slow_down=one["slow_down"]) for one in told)
