"""Waking at an absolute instant, to some tens of microseconds: a Linux timerfd watched by gevent's loop.

gevent.sleep is good to a millisecond only. Through ctypes, because Python has os.timerfd_create from 3.13 on.
"""

from __future__ import annotations

import ctypes
import os
from time import monotonic_ns

import gevent

_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Puts the calling greenlet to sleep until an instant of CLOCK_MONOTONIC. One greenlet at a time may wait."""

    def __init__(self, spin_ns: int) -> None:
        """spin_ns: the last part of each wait is spent spinning, which is exact but holds up everybody else."""
        self._spin_ns = spin_ns
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        self._spec = _Itimerspec()
        self._reference = ctypes.byref(self._spec)
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._fd, 1)

    def wait_until(self, instant_ns: int) -> None:
        """Return at `instant_ns` or a little later. Always lets the loop serve sockets once, even if it is past."""
        wake_ns = max(instant_ns - self._spin_ns, 1)
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(wake_ns, 1_000_000_000)
        _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None)
        self._hub.wait(self._watcher)
        os.read(self._fd, 8)
        while monotonic_ns() < instant_ns:
            pass

    def close(self) -> None:
        """Give the timer back."""
        self._watcher.stop()
        self._watcher.close()
        os.close(self._fd)
