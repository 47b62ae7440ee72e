"""Texts of times -> nanoseconds: ISO 8601 with any zone and fraction, or numbers of a unit."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from loadgen.schedule import TraceError
from loadgen.traces.format import IntArray, Unit
from loadgen.traces.source import ROWS, Source

if TYPE_CHECKING:
    import pandas as pd

NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "iso": "ISO 8601"}
EARLIEST, LATEST = 1830, 2110  # years
FARTHEST_US = 2**62 / 1e3  # from 0: the difference of two times in nanoseconds has 64 bits, too
_ENDINGS: dict[str, Unit] = {"_ns": "ns", "_us": "us", "_ms": "ms", "_s": "s", "unixnano": "ns"}  # of names
# An epoch time of our days is 1.7e9 s. As seconds, these would be of the year 5138 and later.
_EPOCH: tuple[tuple[float, Unit], ...] = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))


class Clock:
    """Reads times, numbers to the microsecond. unit: of numbers, or iso; None: the first text shows it.

    ISO times without a zone are of UTC, as numbers from 1970 are; numbers may have any other origin, too.
    """

    def __init__(self, source: Source, unit: Unit | None = None) -> None:
        self._source = source
        self.unit = unit
        self._least = 0.0  # that a number can be, if its unit was found by the first one's size

    @property
    def words(self) -> str:
        """What the times are."""
        return UNITS[self.unit or "s"]

    def of_column(self, texts: pd.Series[str], rows: IntArray) -> IntArray:
        """Nanoseconds; TraceError names the line of one that is no time. rows: number of each row in the table."""
        times_ns, bad = self._read(texts)
        if bad is not None:
            raise self._wrong(self._source.line_of(int(rows[bad])), str(texts.iloc[bad]))
        return times_ns

    def of_lines(self, texts: Iterable[tuple[int, str]]) -> IntArray:
        """The same of texts with the numbers of their lines."""
        import pandas as pd  # noqa: PLC0415 - half a second, and configurations import this module

        parts: list[IntArray] = []
        numbers, waiting = array("q"), list[str]()

        def read() -> None:
            times_ns, bad = self._read(pd.Series(waiting, dtype="str"))
            if bad is not None:
                raise self._wrong(numbers[bad], waiting[bad])
            parts.append(times_ns)
            waiting.clear()
            del numbers[:]

        for number, text in texts:
            numbers.append(number)
            waiting.append(
                text if text.isascii() else text.encode("utf-8", "replace").decode()
            )  # half a pair of UTF-16
            if len(waiting) == ROWS:
                read()
        if waiting:
            read()
        return joined(parts)

    def _read(self, texts: pd.Series[str]) -> tuple[IntArray, int | None]:
        """Times, and the place of the first text that is none."""
        import pandas as pd  # noqa: PLC0415 - half a second, and configurations import this module

        if not len(texts):
            return np.empty(0, np.int64), None
        if self._source.separator == ";":
            texts = texts.str.replace(",", ".", regex=False)  # where ; stands between columns, a decimal comma may be
        if self.unit is None:
            self.unit = unit_of(texts.iloc[0])
            self._least = next((least for least, unit in _EPOCH if unit == self.unit), 0.0)
        if self.unit == "iso":
            texts = texts.str.replace(" UTC", "Z", regex=False)  # as BigQuery writes
            read = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
            # Nanoseconds in 62 bits go from 1824 to 2116; pandas reads more years than that.
            wrong = (read.isna() | (read.dt.year < EARLIEST) | (read.dt.year > LATEST)).to_numpy()
            read = read.mask(wrong, pd.Timestamp(0, tz="UTC")).dt.as_unit("ns")
            times_ns = read.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        else:
            numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            per_us = NS[self.unit] / 1e3
            wrong = ~(np.abs(numbers) < FARTHEST_US / per_us) | (np.abs(numbers) < self._least)
            microseconds = np.where(wrong, 0.0, numbers) * per_us
            times_ns = np.rint(microseconds).astype(np.int64) * 1000
        return times_ns, int(np.argmax(wrong)) if wrong.any() else None

    def _wrong(self, number: int, text: str) -> TraceError:
        if self.unit == "iso":
            return self._source.wrong(number, text, "is not a time", "give e.g. 2024-01-31T10:00:00Z")
        what = "is not a number"
        if _is_number(text):
            what = "is too small" if abs(float(text)) < self._least else "is too far from 0"
        return self._source.wrong(number, text, what, f"times in {self.words} are expected")


def unit_of(text: str) -> Unit:
    """By its looks: numbers as large as an epoch time in ms, us or ns are that, others are seconds."""
    if not _is_number(text):
        return "iso"
    return next((unit for least, unit in _EPOCH if abs(float(text)) >= least), "s")


def unit_in(name: str) -> tuple[str, Unit | None]:
    """A column's name in lower case without the unit that it may end in, and the unit: arrival_ms is arrival, ms."""
    lower = name.lower()
    ending = next((each for each in _ENDINGS if lower.endswith(each)), "")
    return lower.removesuffix(ending), _ENDINGS.get(ending)


def is_time(text: str) -> bool:
    """A date with a time of day, in ISO 8601."""
    import pandas as pd  # noqa: PLC0415 - half a second, and configurations import this module

    long_enough = len(text) >= len("2024-01-01 00:00") and text[4:5] == "-"
    return long_enough and bool(pd.notna(pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)))


def joined(parts: Sequence[npt.NDArray[np.int64]]) -> IntArray:
    """One array; empty of none."""
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
