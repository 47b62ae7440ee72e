"""Waking at an absolute instant of CLOCK_MONOTONIC: a Linux timerfd, without an event loop.

Through ctypes, because Python has os.timerfd_create from 3.13 on. loadgen.issuer waits for the same timer in gevent's
loop; `BlockingAlarm` holds up its thread, so that a process without gevent can find out how late such wake-ups are.
"""

from __future__ import annotations

import ctypes
import os
import select
from time import monotonic_ns

SPIN_S = 100e-6  # last part of each wait that is spent spinning
_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFd:
    """A timer whose file descriptor becomes readable at an instant."""

    def __init__(self) -> None:
        """OSError where the system has no timerfd, or no file descriptor left."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timerfd_create"):
            raise OSError("no timerfd: Linux has it")
        self.fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        self._spec = _Itimerspec()
        self._reference = ctypes.byref(self._spec)

    def set(self, instant_ns: int) -> None:
        """Readable from `instant_ns` on; at once if that is past."""
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(instant_ns, 1), 1_000_000_000)
        self._libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, self._reference, None)

    def consume(self) -> None:
        """Not readable any more, until it is set again."""
        os.read(self.fd, 8)

    def close(self) -> None:
        """Give the file descriptor back."""
        os.close(self.fd)


class BlockingAlarm:
    """Puts the calling thread to sleep until an instant, as loadgen.issuer.Alarm does a greenlet."""

    def __init__(self) -> None:
        """OSError as for TimerFd."""
        self._timer = TimerFd()
        self._poll = select.poll()
        self._poll.register(self._timer.fd, select.POLLIN)

    def wait_until(self, instant_ns: int) -> None:
        """Return at `instant_ns` of CLOCK_MONOTONIC, or a little later."""
        self._timer.set(instant_ns - round(SPIN_S * 1e9))
        self._poll.poll()
        self._timer.consume()
        while monotonic_ns() < instant_ns:
            pass

    def close(self) -> None:
        """Give the timer back."""
        self._timer.close()
