"""Schedule: the absolute, seeded arrival times of a run. What makes one: a pattern and a seed, or a trace."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loadgen.artifact import ArtifactError, read_table, write_table
from loadgen.patterns import Pattern, PatternError
from workloads.errors import KisError

KIND, VERSION = "schedule", 1
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class TraceError(KisError):
    """A trace that is not one: out of order, garbled, or empty."""


@dataclass(frozen=True)
class Schedule:
    """Arrivals on the run clock (nanoseconds since the run's start), ascending; the row number is the request id.

    scheduled_ns: int64[n]; model: str[n] names the model that each request asks for; duration_s: the span that the
    schedule covers (the last arrival may be earlier); provenance: pattern, parameters, seed or trace. tokens: int64[n],
    how long each request is; None: all have the model's one shape. rows: int64[n], of each request, its own batch size;
    None: one.
    """

    scheduled_ns: IntArray
    model: npt.NDArray[np.object_]
    duration_s: float
    provenance: dict[str, Any] = field(default_factory=dict)
    tokens: IntArray | None = None
    rows: IntArray | None = None

    def __post_init__(self) -> None:
        if len(self.model) != len(self.scheduled_ns):
            raise ArtifactError(f"a schedule with {len(self.scheduled_ns)} times has {len(self.model)} models")
        if self.tokens is not None and len(self.tokens) != len(self):
            raise ArtifactError(f"a schedule with {len(self)} times has {len(self.tokens)} lengths")
        if self.rows is not None and len(self.rows) != len(self):
            raise ArtifactError(f"a schedule with {len(self)} times has rows of {len(self.rows)} requests")
        if len(self) and (self.scheduled_ns[0] < 0 or (np.diff(self.scheduled_ns) < 0).any()):
            raise ArtifactError("a schedule's times must be >= 0 and ascending")

    def __len__(self) -> int:
        return len(self.scheduled_ns)

    def same_requests(self, other: Schedule) -> bool:
        """Do the same requests come at the same times?"""
        pairs = ((self.tokens, other.tokens), (self.rows, other.rows))
        return (
            np.array_equal(self.scheduled_ns, other.scheduled_ns)
            and np.array_equal(self.model, other.model)
            and all(
                mine is theirs if mine is None or theirs is None else np.array_equal(mine, theirs)
                for mine, theirs in pairs
            )
        )

    @property
    def scheduled_s(self) -> FloatArray:
        """Arrival times in seconds."""
        return self.scheduled_ns / 1e9

    @property
    def rate_rps(self) -> float:
        """Mean rate over the whole span."""
        return len(self) / self.duration_s

    def peak_rps(self, window_s: float) -> float:
        """Largest rate in any window of that length that begins with an arrival."""
        ends = np.searchsorted(self.scheduled_ns, self.scheduled_ns + round(window_s * 1e9))
        return float((ends - np.arange(len(self))).max()) / window_s if len(self) else 0.0

    def of_model(self, model: str) -> Schedule:
        """The same arrivals, all for that model."""
        return replace(self, model=np.full(len(self), model, dtype=object))

    def until(self, duration_s: float | None) -> Schedule:
        """What arrives before duration_s; all of it if that is None, or beyond the schedule's end."""
        if duration_s is None or duration_s >= self.duration_s:
            return self
        return self.taken(slice(int(np.searchsorted(self.scheduled_s, duration_s))), duration_s)

    def since(self, start_s: float) -> Schedule:
        """What arrives from start_s on, as the run's beginning."""
        first = int(np.searchsorted(self.scheduled_s, start_s))
        kept = self.taken(slice(first, None), self.duration_s - start_s)
        return replace(kept, scheduled_ns=kept.scheduled_ns - round(start_s * 1e9))

    def taken(self, which: slice, duration_s: float) -> Schedule:
        """Some of the requests, at their times."""
        tokens, rows = (None if each is None else each[which] for each in (self.tokens, self.rows))
        return Schedule(self.scheduled_ns[which], self.model[which], duration_s, self.provenance, tokens, rows)

    def write(self, path: Path) -> None:
        """Write schedule.parquet."""
        import pyarrow as pa  # noqa: PLC0415 - configurations import this module

        columns = {"scheduled_ns": pa.array(self.scheduled_ns, pa.int64()), "model": pa.array(self.model, pa.string())}
        if self.tokens is not None:
            columns["tokens"] = pa.array(self.tokens, pa.int64())
        if self.rows is not None:
            columns["rows"] = pa.array(self.rows, pa.int64())
        table = pa.table(columns)
        write_table(path, table, KIND, VERSION, {**self.provenance, "duration_s": self.duration_s})

    @classmethod
    def read(cls, path: Path) -> Schedule:
        """Read schedule.parquet."""
        import pyarrow as pa  # noqa: PLC0415 - as above

        columns = (pa.field("scheduled_ns", pa.int64(), nullable=False), pa.field("model", pa.string(), nullable=False))
        more = [pa.field(name, pa.int64(), nullable=False) for name in ("tokens", "rows")]
        table, provenance = read_table(path, KIND, VERSION, columns, more)
        model = table["model"].to_numpy(zero_copy_only=False).astype(object)
        duration_s = provenance.pop("duration_s", None)
        if not isinstance(duration_s, int | float) or not duration_s > 0:
            raise ArtifactError(f"{path}: its duration_s is {duration_s!r}: make the run again, or restore the file")
        of_requests = (table[name].to_numpy() if name in table.column_names else None for name in ("tokens", "rows"))
        return cls(table["scheduled_ns"].to_numpy(), model, duration_s, provenance, *of_requests)


def from_seconds(times_s: FloatArray, duration_s: float, model: str, provenance: dict[str, Any]) -> Schedule:
    """Schedule of ascending times in seconds, rounded down to whole microseconds; every request asks for `model`."""
    scheduled_ns = np.floor(np.asarray(times_s, dtype=np.float64) * 1e6).astype(np.int64) * 1000
    return Schedule(scheduled_ns, np.full(len(scheduled_ns), model, dtype=object), float(duration_s), provenance)


def poisson_schedule(
    pattern: Pattern,
    duration_s: float,
    seed: int,
    model: str,
    *,
    factor: float = 1.0,
    stretch: float = 1.0,
    start_s: float = 0.0,
) -> Schedule:
    """Arrivals of a non-homogeneous Poisson process whose intensity is the pattern's rate, on [0, duration_s).

    factor: on the rate. stretch: how much longer everything in the pattern takes. start_s: how far into the stretched
    pattern the schedule begins.

    Exact, by thinning (Lewis and Shedler 1979): a homogeneous process at the peak rate, of which an arrival at t is
    kept with probability rate(t) / peak. The same pattern, duration, seed and model give the same schedule.
    Raises PatternError if duration_s is not positive.
    """
    if not duration_s > 0:
        raise PatternError(f"duration_s is {duration_s}: a schedule needs a duration > 0")
    rng = np.random.default_rng(seed)
    # Given their number, the arrivals of a homogeneous process are uniform.
    times_s = np.sort(rng.uniform(0.0, duration_s, rng.poisson(factor * pattern.peak_rps * duration_s)))
    kept = rng.uniform(0.0, pattern.peak_rps, len(times_s)) < pattern.rate_rps((start_s + times_s) / stretch)
    provenance = {"pattern": pattern.name, "parameters": pattern.parameters(), "seed": seed}
    return from_seconds(times_s[kept], duration_s, model, provenance)
