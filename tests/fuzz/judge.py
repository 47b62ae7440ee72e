"""One input given to one reader: what became of it, and whether that may be."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel

from workloads.errors import KisError

CPU_S = 20.0  # of this process, for one input; most take milliseconds
MEMORY_BYTES = 600 << 20  # that one input may add
LONGEST_MESSAGE = 2000
LOOKED_AT = 200_000  # values of what was read
# What `kis` turns into one line and exit status 2 (testbed/cli/main.py).
REFUSALS = (KisError, OSError)


class Hung(BaseException):
    """An input took longer than CPU_S."""


class Outcome(NamedTuple):
    """said: the refusal's words, or what is wrong."""

    what: Literal["read", "refused", "failed"]
    said: str
    cpu_s: float
    memory_bytes: int


def judged(read: Callable[[Path], Any], file: Path) -> Outcome:
    """A failure: another exception, no end, much memory, more than one line, or a number that is none."""
    before = _peak_from_here()
    started_s = time.process_time()
    what, said = _read(read, file)
    cpu_s = time.process_time() - started_s
    memory_bytes = max(0, _peak_bytes() - before)
    if what != "failed" and memory_bytes > MEMORY_BYTES:
        what, said = "failed", f"took {memory_bytes >> 20} MiB"
    return Outcome(what, said, cpu_s, memory_bytes)


def _read(read: Callable[[Path], Any], file: Path) -> tuple[Literal["read", "refused", "failed"], str]:
    try:
        with _limited():
            value = read(file)
            wrong = not_finite(value)
    except REFUSALS as error:
        text = str(error)
        if "\n" in text or "\r" in text:
            return "failed", f"a refusal of several lines: {text[:300]!r}"
        if len(text) > LONGEST_MESSAGE:
            return "failed", f"a refusal of {len(text)} letters: {text[:200]}"
        return "refused", text
    except Hung:
        return "failed", f"no end within {CPU_S:g} s of processor time"
    except (Exception, SystemExit) as error:
        return "failed", f"{type(error).__name__}: {str(error)[:300]} ({_place(error)})"
    return ("failed", f"not finite: {wrong}") if wrong is not None else ("read", "")


def _place(error: BaseException) -> str:
    """The innermost line of ours, and where it was raised."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        places.append((name, trace.tb_lineno))
        trace = trace.tb_next
    ours = [place for place in places if any(f"/{part}/" in place[0] for part in ("testbed", "loadgen", "workloads"))]
    shown = dict.fromkeys([*ours[-1:], *places[-1:]])
    return ", ".join(f"{'/'.join(Path(name).parts[-3:])}:{line}" for name, line in shown)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def end(number: int, frame: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def not_finite(value: Any) -> str | None:
    """Where in what was read a number is NaN or infinite; None: nowhere."""
    waiting, seen = [("", value)], 0
    while waiting and seen < LOOKED_AT:
        where, one = waiting.pop()
        seen += 1
        if isinstance(one, (float, np.floating)):
            if not math.isfinite(one):
                return f"{where} is {one}"
        elif isinstance(one, np.ndarray):
            if one.dtype.kind == "f" and not np.isfinite(one).all():
                return where
            if one.dtype == object:
                waiting += [(where, inner) for inner in one.ravel()[:1000].tolist()]
        elif isinstance(one, pd.DataFrame):
            waiting += [(f"{where}.{name}", one[name].to_numpy()) for name in one if one[name].dtype.kind == "f"]
        elif isinstance(one, BaseModel):
            waiting += [(f"{where}.{name}", inner) for name, inner in vars(one).items()]
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            fields = dataclasses.fields(one)
            waiting += [(f"{where}.{field.name}", getattr(one, field.name)) for field in fields]
        elif isinstance(one, Mapping):
            waiting += [(f"{where}.{str(name)[:40]}", inner) for name, inner in one.items()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += [(f"{where}[]", inner) for inner in one]
    return None


def _peak_from_here() -> int:
    """Begin to count the peak of this process anew; bytes that it has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def at_most(address_space_bytes: int) -> None:
    """Of this process from now on: what goes beyond gets a MemoryError, and this machine stays alive."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))


def scratch() -> str:
    """Where inputs lie for a moment."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
