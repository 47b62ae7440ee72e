"""A progress reporter that remembers."""

from __future__ import annotations


class RecordingReporter:
    """What a user reads, phase by phase. most: the largest share that may come."""

    def __init__(self, most: float = 1.0) -> None:
        self.phases: list[str] = []
        self._most = most

    def phase(self, text: str) -> None:
        """A new phase."""
        self.phases.append(text)

    def progress(self, share: float) -> None:
        """A share, never out of range."""
        assert 0 <= share <= self._most
