"""Samples every Source at absolute times while a run goes on, and gives the MetricLog when it is over.

    with Sampler([TritonSource(...), GpuSource(), ProcessSource(...)], run.raw / "metrics.jsonl") as sampler:
        ...  # replay
    log = sampler.finish(start_monotonic_ns, replica_rows(...))

Every source has a thread, so that a server that stalls costs its own readings and no others. A source is read at
start, start + period, ..., and once more when the sampler stops, so that differences of cumulative counters cover the
whole run. A row's time is the middle of its reading (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Protocol

from testbed.measurement.metric_log import MetricLog, MetricRow, Sample
from testbed.measurement.sample_stream import SampleStream

_STOP_WITHIN_S = 10.0  # a source that takes longer for its last reading is left behind, and said to be


class Source(Protocol):
    """Something that can be read again and again, from one thread of its own. Add a new kind of metric as one."""

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


@dataclass(frozen=True)
class SourceHealth:
    """How one source did: `taken` readings without fault, `missed` ones in whole or in part, and why the first."""

    taken: int = 0
    missed: int = 0
    first_reason: str | None = None

    @property
    def lost_share(self) -> float:
        """missed / (taken + missed); NaN before the first reading."""
        return self.missed / (self.taken + self.missed) if self.taken + self.missed else math.nan


class Sampler:
    """Context manager round a run. `stream` is the file that receives the readings as they come."""

    def __init__(self, sources: Sequence[Source], stream: Path, period_s: float = 1.0) -> None:
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources must differ in name: {names}")
        self._sources = tuple(sources)
        self._stream_file = stream
        self._period_s = period_s
        self._readings = {name: SourceHealth() for name in names}
        self._lock = Lock()  # guards the stream and the counts
        self._stopping = Event()
        self._stopped = False
        self._threads: list[tuple[Source, Thread]] = []

    def __enter__(self) -> Sampler:
        """Begin to sample."""
        self._stream = SampleStream(self._stream_file)
        begin_ns = time.monotonic_ns()
        for source in self._sources:
            thread = Thread(target=self._watch, args=(source, begin_ns), name=f"sample {source.name}", daemon=True)
            self._threads.append((source, thread))
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the closing reading of every source, and stop."""
        self._stopping.set()
        until = time.monotonic() + _STOP_WITHIN_S
        for source, thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self._count(source, missed=1, reason=f"still reading {_STOP_WITHIN_S:g} s after the end")
        with self._lock:
            self._stopped = True
            self._stream.close()

    @property
    def readings(self) -> dict[str, SourceHealth]:
        """By source: how many readings were taken and missed, for the verdict and the notes of the run."""
        with self._lock:
            return dict(self._readings)

    def finish(self, start_monotonic_ns: int, rows: Iterable[MetricRow] = ()) -> MetricLog:
        """The log on the run clock, together with `rows` from elsewhere (replica states). Call it after the `with`.

        Readings before `start_monotonic_ns` have negative times. The provenance holds the period, the readings taken
        and missed by source, and a disk that refused readings.
        """
        if not self._stopped:
            raise RuntimeError("finish() is for after the sampler's `with` block")
        readings = {
            name: {"taken": r.taken, "missed": r.missed, "first_reason": r.first_reason}
            for name, r in self.readings.items()
        }
        provenance: dict[str, Any] = {"period_s": self._period_s, "readings": readings}
        if self._stream.failure:
            provenance["stream_failure"] = self._stream.failure
        return MetricLog.from_rows([*self._stream.rows(start_monotonic_ns), *rows], provenance)

    def _watch(self, source: Source, begin_ns: int) -> None:
        period_ns = round(self._period_s * 1e9)
        due_ns, last = begin_ns, False
        while not last:
            last = self._stopping.wait(max(0, due_ns - time.monotonic_ns()) / 1e9)
            self._read(source)
            late_ns = time.monotonic_ns() - due_ns
            skipped = 0 if last else late_ns // period_ns
            if skipped:
                reason = f"a reading was over {late_ns / 1e9:.1f} s after it was due: {skipped} skipped"
                self._count(source, missed=skipped, reason=reason)
            due_ns += (skipped + 1) * period_ns

    def _read(self, source: Source) -> None:
        began_ns = time.monotonic_ns()
        samples: list[Sample] = []
        reason = None
        try:
            samples = source.sample()
        except MissedSample as miss:
            samples, reason = miss.rows, str(miss)
        except Exception as error:  # whatever a source does, the run goes on, and its log says what was missed
            reason = f"{type(error).__name__}: {error}"
        middle_ns = (began_ns + time.monotonic_ns()) // 2
        samples = [sample for sample in samples if math.isfinite(sample[3])]
        if samples:
            with self._lock:
                if not self._stopped:
                    self._stream.append(middle_ns, samples)
        self._count(source, taken=int(reason is None), missed=int(reason is not None), reason=reason)

    def _count(self, source: Source, *, taken: int = 0, missed: int = 0, reason: str | None = None) -> None:
        with self._lock:
            so_far = self._readings[source.name]
            self._readings[source.name] = SourceHealth(
                so_far.taken + taken, so_far.missed + missed, so_far.first_reason or reason
            )
