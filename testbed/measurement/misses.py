"""When a request misses its latency target: one definition for rewards, searches, evaluations, plans and reports.

A request's deadline is when it was due to be sent, plus the target. It misses if it is not answered by then: answered
later, failed, refused, given up, never sent, or still waiting. From its answer, its failure or its deadline on it is
*decided*; shares are of the decided requests. Of a log, in which all have ended: loadgen.request_log.RequestLog.missed.
"""

from __future__ import annotations


def slo_violation_rate(missed: int, decided: int) -> float | None:
    """Share of the decided requests that missed; None: none is decided. Nothing answered in time is 1."""
    return missed / decided if decided else None
