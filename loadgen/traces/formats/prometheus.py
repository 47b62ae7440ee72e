"""The answer to a range query of Prometheus."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from loadgen.schedule import TraceError
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.counted import FloatArray, evenly, whole
from loadgen.traces.formats.json_lines import documents
from loadgen.traces.source import Source

COUNTERS = ("_total", "_count", "_sum", "_bucket")  # ends of their names, which a rate has no more
MOST_STEPS = 10_000_000  # of an answer; Prometheus itself gives 11,000
LATEST_S = 4e9  # a time in nanoseconds has 64 bits
ENOUGH = 5  # samples of a series, to tell a counter
MOSTLY = 0.5  # of its steps rise


class Prometheus(TraceFormat):
    """JSON of a Prometheus range query (/api/v1/query_range) of a rate in requests/s: its series are added up. A sample
    is the rate of the step before it; its requests are spread evenly over that."""

    name = "prometheus"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        beginning = "".join(source.head[:10])[:2000]
        return "it is an answer of Prometheus" if '"resultType"' in beginning or '"errorType"' in beginning else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        series, missing = _series(source, reading)
        if reading.format is None:
            _refuse_counters(source, series)
        times = np.array(sorted({time for one in series.values() for time in one}))
        if len(times) < 2:
            raise TraceError(f"{source.path} has {len(times)} samples: a rate needs two, of a query with a step")
        step_s = float(np.diff(times).min())
        if times[-1] - times[0] > MOST_STEPS * step_s:
            raise TraceError(
                f"{source.path} has a step of {step_s:g} s in {times[-1] - times[0]:g} s: query with a step"
            )
        expected = np.zeros(round((times[-1] - times[0]) / step_s) + 1)
        for one in series.values():
            expected[np.rint((np.array([*one]) - times[0]) / step_s).astype(np.int64)] += [
                rate * step_s for rate in one.values()
            ]
        counts = whole(expected)
        borders_ns = round((times[0] - step_s) * 1e9) + np.rint(np.arange(len(counts) + 1) * step_s * 1e9).astype(
            np.int64
        )
        missing += len(counts) - len(times)
        notes = [f"its samples are rates in requests/s, of {step_s:g} s each: {counts.sum():,} requests"]
        notes += [f"{missing:,} samples are missing, and nothing comes in their steps"] if missing else []
        times_ns = evenly(source, borders_ns, counts)
        ends_ns = int(borders_ns[0]), int(borders_ns[-1])
        return Arrivals(
            times_ns, counted_ns=round(step_s * 1e9), start_ns=ends_ns[0], end_ns=ends_ns[1], notes=tuple(notes)
        )


def _series(source: Source, reading: TraceReading) -> tuple[dict[str, dict[float, float]], int]:
    """Rates by time of each series, by its labels: answers that overlap say the same. And how many are no numbers."""
    found: dict[str, dict[float, float]] = {}
    missing = 0
    for _, answer in documents(source):
        if isinstance(answer, dict) and answer.get("status") == "error":
            raise TraceError(f"{source.path} is an error of Prometheus ({answer.get('error')}): query again")
        try:
            for series in answer["data"]["result"]:
                if any(series["metric"].get(name) != value for name, value in reading.where.items()):
                    continue
                rates = found.setdefault(json.dumps(series["metric"], sort_keys=True), {})
                for time, text in series["values"]:
                    rate = float(text)
                    if not abs(float(time)) < LATEST_S:
                        raise ValueError(f"no time: {time}")
                    if not np.isfinite(rate):
                        missing += 1
                    elif rate < 0:
                        raise TraceError(f"{source.path}: a rate of {rate:g} at {time}: give a query of requests/s")
                    else:
                        rates[float(time)] = rate
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            raise TraceError(
                f"{source.path} is no answer to a range query: give the JSON of /api/v1/query_range"
            ) from None
    return {labels: rates for labels, rates in found.items() if rates}, missing


def _refuse_counters(source: Source, series: Mapping[str, Mapping[float, float]]) -> None:
    """TraceError if a series is a counter's: by its name, or as its values are whole, mostly rise and never fall."""
    for labels, rates in series.items():
        values: FloatArray = np.array([rates[time] for time in sorted(rates)])
        rises = np.diff(values)
        rising = len(values) >= ENOUGH and not (values % 1).any() and (rises >= 0).all() and (rises > 0).mean() > MOSTLY
        if rising or str(json.loads(labels).get("__name__", "")).endswith(COUNTERS):
            raise TraceError(
                f"{source.path}: values from {values[0]:g} to {values[-1]:g} look like a counter's: query its rate, "
                "e.g. sum(rate(NAME[1m])); if they are rates, say --format prometheus"
            )
