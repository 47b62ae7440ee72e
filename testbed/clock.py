"""A clock that tells the time of day and never goes back."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """A clock of seconds since 1970, as the machine's clock had it when this was called, that only goes on from there.

    Its times may be compared and subtracted, whatever is done to the machine's clock meanwhile, and may be shown. One
    clock is for one run: two of them differ by as much as the machine's clock was set between their beginnings.
    """
    offset_s = time.time() - time.monotonic()
    return lambda: offset_s + time.monotonic()
