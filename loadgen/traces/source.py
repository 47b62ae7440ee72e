"""A trace's file: its first lines, its lines, its table; gzipped or not, never whole in memory."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TextIO, cast

import numpy as np
import numpy.typing as npt

from loadgen.schedule import TraceError

if TYPE_CHECKING:
    import pandas as pd

HEAD = 1 << 16  # characters, by which a format is recognised
LONGEST = 1 << 28  # bytes of a line, or of one JSON value over all lines
ROWS = 1 << 17  # of a table in memory
SHOWN = 40  # letters of a wrong text
_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # as PowerShell writes
_PACKED = {
    b"PK\x03\x04": "a zip file or a workbook: unpack it, or save it as CSV",
    b"BZh": "a bzip2 file: unpack it, or pack it with gzip",
    b"\xfd7zX": "an xz file: unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it, or pack it with gzip",
    b"PAR1": "a Parquet file: write its times as CSV",
}


class Rows(NamedTuple):
    """Some rows of a table. frame: texts, by column in lower case; numbers: of each row in the table, from 0."""

    frame: pd.DataFrame
    numbers: npt.NDArray[np.int64]


class _Bounded(io.RawIOBase):
    """A file's bytes; TraceError of a line that has no end: a few bytes of a gzip file can stand for gigabytes."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._since = file, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._file.read(len(buffer))
        buffer[: len(got)] = got
        last = max(got.rfind(b"\n"), got.rfind(b"\r"))
        self._since = self._since + len(got) if last < 0 else len(got) - last
        if self._since > LONGEST:
            raise TraceError(f"{self._path} has a line of more than {LONGEST >> 20} MiB: give one request a line")
        return len(got)

    def close(self) -> None:
        self._file.close()
        super().close()


class Source:
    """A trace's file. head: its first lines, without blank ones and comments (#)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            first = file.read(4)
        packed = next((what for magic, what in _PACKED.items() if first.startswith(magic)), None)
        if packed is not None:
            raise TraceError(f"{path} is {packed}")
        self._gzipped = first.startswith(_GZIP)
        self._encoding = "utf-16" if first.startswith(_UTF_16) else "utf-8-sig"
        with self.open() as text:
            beginning = text.read(HEAD)
        if "\0" in beginning:
            raise TraceError(f"{path} is not a text file: give a log, a CSV or a list of times")
        numbered = [(n, line.strip()) for n, line in enumerate(beginning.splitlines(), 1)]
        told = [(n, line) for n, line in numbered if line and not line.startswith("#")]
        self._first_number = told[0][0] if told else 1
        self.head = tuple(line for _, line in told)

    def open(self) -> TextIO:
        """As text, from its beginning. Letters of another encoding are no matter: times have none."""
        file = cast(IO[bytes], (gzip.open if self._gzipped else open)(self.path, "rb"))
        bounded = io.BufferedReader(_Bounded(file, self.path), 1 << 16)
        return io.TextIOWrapper(bounded, encoding=self._encoding, errors="replace", newline="")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line that is neither blank nor a comment."""
        with self.open() as text:
            for number, line in enumerate(text, 1):
                stripped = line.strip()
                if stripped and not stripped.startswith("#"):
                    yield number, stripped

    def wrong(self, number: int, text: str, what: str, to_do: str) -> TraceError:
        """The error of a line."""
        return TraceError(f"{self.path}, line {number}: '{text[:SHOWN]}' {what}: {to_do}")

    @cached_property
    def separator(self) -> str:
        """Of the first line's columns: what makes most of them."""
        first = self.head[0] if self.head else ""
        return max(",;\t|", key=lambda each: len(next(csv.reader([first], delimiter=each), [])))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The headings in the first line, in lower case."""
        first = next(csv.reader([self.head[0]], delimiter=self.separator), []) if self.head else []
        return tuple(column.strip().lower() for column in first)

    def samples(self) -> list[list[str]]:
        """A few rows below the headings."""
        rows = csv.reader(self.head[1:100], delimiter=self.separator)
        return [row for row in rows if len(row) == len(self.columns)][:-1] or [next(rows, [])]

    def rows(self, columns: Sequence[str], where: Mapping[str, str]) -> Iterator[Rows]:
        """The columns of the rows that have the values of `where`; TraceError if a column is not there, or if rows have
        more fields than there are headings."""
        import pandas as pd  # noqa: PLC0415 - half a second, and configurations import this module

        wanted = {name.lower(): value for name, value in where.items()}
        places = {name: self._place(name) for name in dict.fromkeys([*map(str.lower, columns), *wanted])}
        order = sorted(set(places.values()))
        self._check_widths()
        begun, found = 0, not wanted
        with self.open() as text:
            try:
                for frame in pd.read_csv(
                    text,
                    sep=self.separator,
                    header=None,
                    index_col=False,
                    skiprows=self._first_number,
                    usecols=order,
                    dtype="str",
                    na_filter=False,
                    chunksize=ROWS,
                ):
                    if not set(order) <= set(frame.columns):
                        raise ValueError("Usecols")  # as pandas says in other cases
                    named = pd.DataFrame({name: frame[place].str.strip() for name, place in places.items()})
                    kept = np.full(len(named), True)
                    for name, value in wanted.items():
                        kept &= (named[name] == value).to_numpy(dtype=bool)
                    found |= bool(kept.any())
                    yield Rows(named[kept], begun + np.flatnonzero(kept))
                    begun += len(named)
            except pd.errors.EmptyDataError:
                return
            except pd.errors.ParserError as error:
                why = str(error).removeprefix("Error tokenizing data. C error: ").strip()
                raise TraceError(f"{self.path}: {why}: mend or remove that line") from None
            except ValueError as error:
                if "Usecols" not in str(error):
                    raise
                fewer = "its rows have fewer fields than there are headings"
                raise TraceError(f"{self.path}: {fewer}: mend them") from None
        if not found:
            chosen = ", ".join(f"{name} = {value}" for name, value in where.items())
            raise TraceError(f"{self.path}: no row has {chosen}: see `where`, whose values must be equal to the letter")

    def line_of(self, row: int) -> int:
        """The line in which a row of the table begins: for a message, as the file is read again."""
        with self.open() as text:
            rows = csv.reader(text, delimiter=self.separator)
            for _ in range(self._first_number):
                next(text)
            before = self._first_number
            for fields in rows:
                if any(field.strip() for field in fields):
                    if not row:
                        break
                    row -= 1
                before = self._first_number + rows.line_num
        return before + 1

    def _check_widths(self) -> None:
        """TraceError if one of the first rows has a value that no heading stands above: others may be shifted."""
        for place, row in enumerate(csv.reader(self.head[1:], delimiter=self.separator)):
            if any(field.strip() for field in row[len(self.columns) :]):
                number, wide = self.line_of(place), f"has {len(row)} fields below {len(self.columns)} headings"
                raise self.wrong(number, self.separator.join(row), wide, "quote what has a separator in it")

    def _place(self, name: str) -> int:
        if name not in self.columns:
            found = ", ".join(self.columns)[:80]
            raise TraceError(f"{self.path}, line {self._first_number}: no column '{name}' (found: {found})")
        return self.columns.index(name)
