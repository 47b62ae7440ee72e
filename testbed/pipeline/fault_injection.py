"""Faults of an experiment on a real deployment: its emulated accelerators become slower when their time has come.

They are made by a thread with a schedule of its own, on the clock of the traffic: neither a display nor a fault whose
API call takes long or fails has a part in when the others strike, or in the run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadgen.artifact import read_json
from testbed.errors import ClusterError
from testbed.log_line import of_error
from testbed.pipeline.cluster_config import Fault
from testbed.serving.slowness import PodSlowness
from workloads.files import write_json

FAULTS = "faults.json"  # of a real run: [{"at_s", "slow_down", "struck_s"}], on the clock of its traffic
LOOK_S = 0.05  # for the start of the traffic


class FaultInjector:
    """Makes each fault when its time has come, in a thread, until it is ended.

    start_ns: CLOCK_MONOTONIC of the start of the traffic; None: it has not started.
    """

    def __init__(self, faults: Sequence[Fault], slowness: PodSlowness, start_ns: Callable[[], int | None]) -> None:
        self._faults = sorted(faults, key=lambda fault: fault.at_s)
        self._slowness, self._start_ns = slowness, start_ns
        self._struck: list[tuple[Fault, float]] = []  # and when, in seconds from the start
        self._error = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def start(self) -> None:
        """Begin to wait for the traffic."""
        self._thread.start()

    def end(self) -> None:
        """Make no more; one that is being made is waited for."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            start_s = self._wait_for_start()
            for fault in self._faults:
                if start_s is None or self._end.wait(max(0.0, start_s + fault.at_s - time.monotonic())):
                    return
                assert fault.slow_down is not None
                self._struck.append((fault, self._slowness.set(fault.slow_down) - start_s))
        except Exception as error:  # whatever it is, it does not end the run: missed() tells it
            self._error = str(error) if isinstance(error, ClusterError) else of_error(error)

    def _wait_for_start(self) -> float | None:
        """None: it was ended before."""
        while (start_ns := self._start_ns()) is None:
            if self._end.wait(LOOK_S):
                return None
        return start_ns / 1e9

    def missed(self) -> tuple[str, ...]:
        """After the end: each fault that was not made, and why. A run without its faults is not the one asked for."""
        why = self._error or "the run was over before"
        return tuple(
            f"the fault of second {fault.at_s:g} (slow_down {fault.slow_down:g}) was not made: {why}"
            for fault in self._faults[len(self._struck) :]
        )

    def write(self, folder: Path) -> None:
        """After the end: FAULTS, if any struck."""
        struck = [{"at_s": fault.at_s, "slow_down": fault.slow_down, "struck_s": at_s} for fault, at_s in self._struck]
        if struck:
            write_json(folder / FAULTS, struck)


@contextmanager
def injecting(
    faults: Sequence[Fault], slowness: PodSlowness, start_ns: Callable[[], int | None]
) -> Iterator[FaultInjector]:
    """For the length of a run; before and after it the accelerators are as their profile says.

    start_ns: see FaultInjector. If the API is away afterwards, the run is kept all the same: the next one begins with
    the same.
    """
    slowness.reset()
    injector = FaultInjector(faults, slowness, start_ns)
    injector.start()
    try:
        yield injector
    finally:
        injector.end()
        with contextlib.suppress(ClusterError):
            slowness.reset()


def read_faults(real: Path) -> tuple[Fault, ...]:
    """The faults of a real run, at the second of its traffic at which they struck."""
    file = real / FAULTS
    struck = read_json(file, "restore it, or make the run again") if file.exists() else []
    return tuple(Fault(at_s=max(0.0, fault["struck_s"]), slow_down=fault["slow_down"]) for fault in struck)
