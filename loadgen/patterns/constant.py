"""The same rate all the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter


@dataclass(frozen=True)
class Constant(Pattern):
    """The same rate all the time."""

    name: ClassVar[str] = "constant"
    rank: ClassVar[int] = 0
    rate: float = parameter(50.0, "rate, requests/s")

    def __post_init__(self) -> None:
        self.need(self.rate > 0, "rate must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return np.full(np.shape(t_s), self.rate)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.rate

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Constant:
        """See Pattern."""
        return cls(rate=peak_rps)
