"""A progress reporter that remembers."""

from __future__ import annotations


class RecordingReporter:
    """What a user reads, phase by phase."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, text: str) -> None:
        """A new phase."""
        self.phases.append(text)

    def progress(self, share: float) -> None:
        """A share, never out of range."""
        assert 0 <= share <= 1
