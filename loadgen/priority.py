"""The client before everybody else on its machine, where the system lets it."""

from __future__ import annotations

import os


def take_realtime() -> bool:
    """Run this thread in the lowest real-time priority (SCHED_RR): whatever is measured on the same machine then waits
    for the client, not the client for it. Processes that it starts are ordinary ones.

    False: the system does not allow it (it takes root or CAP_SYS_NICE), or has no such thing.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):
        return False
    return True
