"""How replicas share a GPU. A mode is one class here, or one of yours: `sharing: my_module:MyMode`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from workloads.errors import KisError
from workloads.registry import Registry


class SharingMode(ABC):
    """A rule for GPUs of one kind. The event loop is given its numbers alone."""

    name: ClassVar[str]
    divides: ClassVar[bool] = True  # a GPU has several shares
    own_memory: ClassVar[bool] = False  # a share has its part of the memory for itself, not the GPU all of it

    def __init_subclass__(cls) -> None:
        MODES.add(cls.name, cls)

    @classmethod
    @abstractmethod
    def factors(cls, shares: int, measured: tuple[float, ...]) -> tuple[float, ...]:
        """Factor on a batch's time while 1, 2, ... replicas of the GPU are busy; the last holds beyond.

        measured: on replicas that share such a GPU, empty if nobody did. KisError: it must be measured, or given.
        """


MODES: Registry[type[SharingMode]] = Registry.of_subclasses(SharingMode, "way to share a GPU", KisError, "kis.sharing")


class Exclusive(SharingMode):
    """A GPU for each replica."""

    name = "exclusive"
    divides = False

    @classmethod
    def factors(cls, shares: int, measured: tuple[float, ...]) -> tuple[float, ...]:
        """See SharingMode."""
        return (1.0,)


class Mig(SharingMode):
    """Slices that know nothing of each other: a profile is of a slice."""

    name = "mig"
    own_memory = True

    @classmethod
    def factors(cls, shares: int, measured: tuple[float, ...]) -> tuple[float, ...]:
        """See SharingMode."""
        return (1.0,)


class TimeSlicing(SharingMode):
    """Replicas take turns: as many busy ones, so many times as long, unless it was measured."""

    name = "time_slicing"

    @classmethod
    def factors(cls, shares: int, measured: tuple[float, ...]) -> tuple[float, ...]:
        """See SharingMode."""
        return measured or tuple(float(k) for k in range(1, shares + 1))


class Mps(SharingMode):
    """Replicas' kernels run side by side: by how much they slow each other is the networks' own."""

    name = "mps"

    @classmethod
    def factors(cls, shares: int, measured: tuple[float, ...]) -> tuple[float, ...]:
        """See SharingMode."""
        if not measured:
            raise KisError(
                "GPUs shared by mps need `interference`, or a profile calibrated with 1, 2, ... replicas on one GPU"
            )
        return measured
