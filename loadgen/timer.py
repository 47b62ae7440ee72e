"""Waking a greenlet at an absolute instant, to some tens of microseconds: a Linux timerfd watched by gevent's loop.

gevent.sleep is good to a millisecond only.
"""

from __future__ import annotations

from time import monotonic_ns

import gevent

from loadgen.timerfd import TimerFd


class Alarm:
    """Puts the calling greenlet to sleep until an instant of CLOCK_MONOTONIC. One greenlet at a time may wait."""

    def __init__(self, spin_ns: int) -> None:
        """spin_ns: the last part of each wait is spent spinning, which is exact but holds up everybody else."""
        self._spin_ns = spin_ns
        self._timer = TimerFd()
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._timer.fd, 1)

    def wait_until(self, instant_ns: int) -> None:
        """Return at `instant_ns` or a little later. Always lets the loop serve sockets once, even if it is past."""
        self._timer.set(instant_ns - self._spin_ns)
        self._hub.wait(self._watcher)
        self._timer.consume()
        while monotonic_ns() < instant_ns:
            pass

    def close(self) -> None:
        """Give the timer back."""
        self._watcher.stop()
        self._watcher.close()
        self._timer.close()
