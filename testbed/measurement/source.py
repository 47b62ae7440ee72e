"""What the sampler samples: a Source gives the rows of one reading. Add a new kind of metric as a Source of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# (source, name, labels, value, unit); the names in use are listed in metric_log.py.
Sample = tuple[str, str, dict[str, str], float, str]

# A sample at its time: (time_ns, source, name, labels, value, unit), what MetricLog.from_rows takes.
MetricRow = tuple[int, str, str, dict[str, str], float, str]


class Source(Protocol):
    """Something that can be read again and again, from one thread of its own."""

    @property
    def name(self) -> str:
        """The `source` column of its rows."""

    def sample(self) -> list[Sample]:
        """Read once. What does not exist (no GPU) has no row; what should have answered and did not raises."""


class MissedSample(Exception):  # noqa: N818 - a reading that was missed, in whole or in part; the run goes on
    """A reading that failed, with the rows of those parts that did answer."""

    def __init__(self, reason: str, rows: Sequence[Sample] = ()) -> None:
        super().__init__(reason)
        self.rows = list(rows)
