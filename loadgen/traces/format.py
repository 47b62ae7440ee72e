"""What a trace format is, and what is said of a file that is read: a TraceFormat and a TraceReading give Arrivals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from loadgen.schedule import TraceError
from loadgen.traces.source import Source
from workloads.registry import Registry

IntArray = npt.NDArray[np.int64]
Unit = Literal["s", "ms", "us", "ns", "iso"]


@dataclass(frozen=True)
class Arrivals:
    """What a format makes of a file.

    times_ns: of each request by the file's clock, in any order. before_ns: how much earlier than that each came; None:
    it came then. counted_ns: the file has counts of intervals this long, and these times are spread over
    them; None: each is a request's own. start_ns, end_ns: of the recording, on the same clock; None: it begins with
    the first request and ends one ordinary gap after the last. notes: what was found in the file rather than said, in
    words that continue its name.
    """

    times_ns: IntArray
    before_ns: IntArray | None = None
    counted_ns: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    notes: tuple[str, ...] = ()


class TraceFormat(ABC):
    """How a trace is written. in_order: its lines stand in the order of arrival, so that others are worth a word."""

    name: ClassVar[str]
    in_order: ClassVar[bool] = True
    detected_last: ClassVar[bool] = False  # its sign is weaker than that of others

    def __init_subclass__(cls) -> None:
        FORMATS.add(cls.name, cls)

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """What shows beyond doubt that the file is of this format, in words; None: somebody has to name it."""
        return None

    @classmethod
    @abstractmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """Of the whole file; TraceError names the line that is wrong, and what to do."""


FORMATS: Registry[type[TraceFormat]] = Registry.of_subclasses(TraceFormat, "trace format", TraceError, "kis.traces")


def _as_text(value: Any) -> str:
    """What YAML or a flag took for a number or a truth, as the file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class TraceReading(BaseModel):
    """How a trace file is to be read: what nobody says is found in the file, and told."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Annotated[str, AfterValidator(FORMATS.checked)] | None = Field(
        None, description="format of the trace; none: what its lines show beyond doubt"
    )
    column: str | None = Field(
        None, description="column (csv) or field (json_lines; a.b inside another) of the time; none: the only one"
    )
    unit: Unit | None = Field(
        None, description="unit of the trace's times; none: ISO 8601, or epoch times by their size, else seconds"
    )
    where: dict[str, Annotated[str, BeforeValidator(_as_text)]] = Field(
        {}, description="rows of a trace's table that are read: the value that each of these columns must have"
    )
    spread: bool = Field(
        False,
        description="times of a coarse clock are spread evenly within its resolution (seeded): several requests of "
        "one second are not sent at once",
    )
    max_gap_s: float | None = Field(
        None, gt=0, description="longest gap of a trace: longer ones are cut to it (before speed_up)"
    )

    def reading(self) -> dict[str, Any]:
        """These fields alone, of a model that has others beside them."""
        return {name: getattr(self, name) for name in TraceReading.model_fields}

    def told(self) -> dict[str, Any]:
        """What differs from the defaults, for provenance."""
        return self.model_dump(include=set(TraceReading.model_fields), exclude_defaults=True)
