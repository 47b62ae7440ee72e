"""The answer to a range query of Prometheus."""

from __future__ import annotations

import numpy as np

from loadgen.schedule import TraceError
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.counted import evenly
from loadgen.traces.formats.open_telemetry import documents
from loadgen.traces.source import Source


class Prometheus(TraceFormat):
    """JSON of a Prometheus range query (/api/v1/query_range) of a rate in requests/s: its series are added up. A sample
    is the rate of the step before it; its requests are spread evenly over that."""

    name = "prometheus"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "it is the answer to a range query" if '"matrix"' in "".join(source.head[:10])[:2000] else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        rates, missing = _rates(source, reading)
        times = np.array(sorted(rates))
        if len(times) < 2:
            raise TraceError(f"{source.path} has {len(times)} samples: a rate needs two, of a query with a step")
        step_s = float(np.diff(times).min())
        steps = np.rint((times - times[0]) / step_s).astype(np.int64)
        expected = np.zeros(steps[-1] + 1)
        expected[steps] = [rates[time] * step_s for time in times.tolist()]
        counts = np.diff(np.rint(np.cumsum(expected)), prepend=0.0).astype(np.int64)
        borders_ns = round((times[0] - step_s) * 1e9) + np.rint(np.arange(len(counts) + 1) * step_s * 1e9).astype(
            np.int64
        )
        missing += len(counts) - len(times)
        notes = [f"its samples are rates in requests/s, of {step_s:g} s each: {counts.sum():,} requests"]
        notes += [f"{missing:,} samples are missing, and nothing comes in their steps"] if missing else []
        times_ns = evenly(source, borders_ns, counts)
        return Arrivals(times_ns, start_ns=int(borders_ns[0]), end_ns=int(borders_ns[-1]), notes=tuple(notes))


def _rates(source: Source, reading: TraceReading) -> tuple[dict[float, float], int]:
    """The sum of the series at each time, and how many samples are not numbers."""
    rates: dict[float, float] = {}
    missing = 0
    for _, answer in documents(source):
        try:
            for series in answer["data"]["result"]:
                if any(series["metric"].get(name) != value for name, value in reading.where.items()):
                    continue
                for time, text in series["values"]:
                    rate = float(text)
                    if not np.isfinite(rate):
                        missing += 1
                    elif rate < 0:
                        raise TraceError(f"{source.path}: a rate of {rate:g} at {time}: give a query of requests/s")
                    else:
                        rates[float(time)] = rates.get(float(time), 0.0) + rate
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(
                f"{source.path} is no answer to a range query ({error!r}): give the JSON of /api/v1/query_range"
            ) from None
    return rates, missing
