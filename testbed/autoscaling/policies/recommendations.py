"""What a policy has wanted lately, for those that scale down to the largest of it."""

from __future__ import annotations

Recommendations = tuple[tuple[float, int], ...]  # when (seconds), and how many replicas


def kept(before: Recommendations, now_s: float, delay_s: float, wanted: int) -> Recommendations:
    """Those of the last delay_s, and the one of now."""
    return (*(recommendation for recommendation in before if recommendation[0] > now_s - delay_s), (now_s, wanted))
