"""Waiting for an instant of CLOCK_MONOTONIC to within some microseconds, without torturing the processor."""

from __future__ import annotations

import ctypes
import time

SPIN_NS = 100_000
_PR_SET_TIMERSLACK = 29
_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


def wait_until(deadline_ns: int) -> None:
    """Return at `deadline_ns` (time.monotonic_ns), or at once if it has passed.

    Sleeps to 100 us before the deadline, and spins the rest: a wake-up is some 50 us late, often more.
    """
    wake_ns = deadline_ns - SPIN_NS
    if wake_ns > time.monotonic_ns():
        # Slack belongs to the calling thread, and who calls is the backend's choice: set it each time (1 us).
        _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
        wake = _Timespec(*divmod(wake_ns, 1_000_000_000))
        while _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(wake), None):
            pass  # a signal cut it short; the wake-up time is absolute
    while time.monotonic_ns() < deadline_ns:
        pass
