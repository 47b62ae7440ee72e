"""What a pattern is, and the registry in which each is found by its name.

A pattern is a frozen dataclass deriving from Pattern, in a file of its own in this folder or in a package of yours: its
fields are its parameters (each with a unit, a default and a `description`), `rate_rps` is a pure function of time, and
`peak_rps` bounds it. Where it may be held out in a calibration it has `fitted`; where policies learn on it, `families`
and `drawn`. Nothing else needs to be told of it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from workloads.errors import KisError
from workloads.registry import Registry, nearest

FloatArray = npt.NDArray[np.float64]


class PatternError(KisError):
    """A pattern that does not exist, or a parameter that it cannot have."""


def parameter(default: Any, description: str) -> Any:
    """A field of a pattern. description: what it is, with its unit."""
    return dataclasses.field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Pattern(ABC):
    """A rate over time. `default_duration_s` shows the pattern's whole shape at its default parameters."""

    name: ClassVar[str]
    default_duration_s: ClassVar[float] = 60.0
    rank: ClassVar[int] = 100  # its place in lists; those of one rank by name
    families: ClassVar[tuple[str, ...]] = ()  # names of what `drawn` draws
    configurable: ClassVar[bool] = True  # a configuration may name it

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            return  # something that several patterns share
        REGISTRY.add(cls.name, cls)

    @abstractmethod
    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """Requests per second at each time (seconds since the run's start, >= 0); same shape as `t_s`."""

    def at(self, time_s: float) -> float:
        """Requests per second at one time."""
        return float(self.rate_rps(np.array([time_s]))[0])

    @property
    @abstractmethod
    def peak_rps(self) -> float:
        """An upper bound of `rate_rps` that is reached or nearly so (requests per second)."""

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Pattern:
        """With that peak, and its features fitted into the duration: what calibrations hold out."""
        raise PatternError(f"pattern '{cls.name}' has no form of a given peak and duration: it cannot be held out")

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Pattern:
        """One of the family, between two rates (requests per second), with features of about that period."""
        raise PatternError(f"pattern '{cls.name}' draws nothing: policies cannot learn on it")

    @property
    def foreseen_after_s(self) -> float:
        """From when on its future can be told from its past, seconds of the run; infinite: never."""
        return np.inf

    def parameters(self) -> dict[str, Any]:
        """Parameter names and values; `make_pattern(self.name, **self.parameters())` gives an equal pattern."""
        return dataclasses.asdict(self)

    def need(self, holds: bool, rule: str) -> None:
        """PatternError with the rule unless it holds."""
        if not holds:
            given = ", ".join(f"{key}={value}" for key, value in self.parameters().items())
            raise PatternError(f"pattern '{self.name}': {rule} (given: {given})")


REGISTRY: Registry[type[Pattern]] = Registry.of_subclasses(Pattern, "pattern", PatternError, "kis.patterns")
find_pattern = REGISTRY.find


def known_patterns() -> dict[str, type[Pattern]]:
    """By name, those of installed packages too; in the order of lists."""
    return dict(sorted(REGISTRY.known().items(), key=lambda item: (item[1].rank, item[0])))


def families() -> dict[str, type[Pattern]]:
    """What can be drawn, by name: the pattern that draws it."""
    return {family: kind for kind in known_patterns().values() for family in kind.families}


def make_pattern(name: str, **parameters: Any) -> Pattern:
    """The pattern of that name; PatternError names the nearest known name or parameter if there is none."""
    kind = find_pattern(name)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in parameters:
        if key not in known:
            raise PatternError(f"pattern '{name}' has no parameter '{key}': {nearest(key, known)}")
    for field in dataclasses.fields(kind):
        value = parameters.get(field.name)
        if isinstance(field.default, (int, float)) and isinstance(value, str):
            raise PatternError(f"pattern '{name}': {field.name} is '{value}': give a number")
    try:
        return kind(**parameters)
    except (TypeError, ValueError) as error:
        raise PatternError(f"pattern '{name}': a parameter has the wrong type ({error}): give numbers") from None
