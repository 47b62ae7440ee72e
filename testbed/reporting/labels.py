"""The words of the report: numbers as text, names of runs, the claim in a sentence."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import floor, isfinite, log10
from typing import Any

from markupsafe import Markup

from loadgen.patterns import known_patterns
from testbed import words
from testbed.calibration.profile import Capacity
from testbed.reporting.summary import ComparisonRow, GroupSummary

NOT_MEASURED = "not measured"
_GROUP = "\u202f"  # between thousands
counted = partial(words.counted, group=_GROUP)
GPU_EXPLAINED = (
    "Shares are of the run's time. An instance is busy from when Triton hands it a batch until the answers are back; a "
    "network runs on the GPU for a part of that only, by CUDA events. NVML's utilisation is the share of its last "
    "sample periods in which any kernel ran, read some tenths of a second later, so that a short run begins with the "
    "idle time before it. Power is by the GPU's energy counter. Simulated: of the counterpart, with the time of the "
    "network and the energy of batches and requests as fitted; of runs that the profile was fitted on there is none. "
    "The figure's curves are of constant loads, over the rates that the profile was fitted on; the band holds 90 % of "
    "runs to come: service times, run effects and power drawn again, with other arrivals."
)
PARTS_EXPLAINED = (
    "Triton: compute input, infer and output. Around the backend: to hand the requests to the Python process and to "
    "take the answers back. Python and processor: to put the requests together and to take the answer apart."
)


def number(value: float | None, digits: int = 1, unit: str = "", signed: bool = False) -> str:
    """`12.3 ms`, `+1.2 %`; `not measured` for None. A true minus sign, groups of thousands that do not break."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:{'+' if signed else ''},.{digits}f}".replace(",", _GROUP).replace("-", "\u2212")
    return f"{text} {unit}" if unit else text


def money(value: float, currency: str) -> str:
    """`12.34 EUR`; four significant digits of less than one."""
    return f"{number(value, 2) if abs(value) >= 1 or not value else significant(value)} {currency}"


def plain(value: Any) -> str:
    """A cell of any table: six digits of a number, a dash for None."""
    if value is None:
        return "\u2013"
    return significant(value, 6).replace(_GROUP, "") if isinstance(value, float) else str(value)


def significant(value: float, digits: int = 4) -> str:
    """A number of so many digits, without trailing zeros and without an exponent: `10 570`, `.6262`, `0.00012`."""
    if not isfinite(value):
        return str(value)
    rounded = float(f"{value:.{digits}g}")
    decimals = max(0, digits - 1 - floor(log10(abs(rounded)))) if rounded else 0
    text = number(rounded, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def verdict_text(figures: Mapping[str, float]) -> str:
    """What a verdict was judged by, in words. A figure that is missing is left out."""
    percentile = f"P{figures.get('percentile', 95):g}"
    late = [
        f"{name} {milliseconds(figures[key])} ms"
        for name, key in (("P50", "lag_p50_ms"), ("P99", "lag_p99_ms"))
        if key in figures
    ]
    told = []
    if "delivered_share" in figures:
        told.append(f"{_share(figures['delivered_share'], 4)} of the scheduled requests were sent")
    if "failed_share" in figures:
        told.append(f"{_share(figures['failed_share'])} of these failed")
    if late:
        limit = f" (limit of P99: {milliseconds(figures['lag_limit_ms'])} ms)" if "lag_limit_ms" in figures else ""
        told.append(f"they were sent late by {', '.join(late)}{limit}")
    if "late_share" in figures and "late_limit_ms" in figures:
        told.append(f"{_share(figures['late_share'])} by more than {milliseconds(figures['late_limit_ms'])} ms")
    if "client_cpu_share" in figures:
        told.append(f"the busiest client process used {_share(figures['client_cpu_share'])} of a core")
    if "samples_needed" in figures and "ok" in figures:
        answers = counted(round(figures["ok"]), "answered request")
        told.append(f"{answers}, and {percentile} needs {number(figures['samples_needed'], 0)}")
    return "; ".join(told)


def _share(value: float, digits: int = 3) -> str:
    return f"{significant(100 * value, digits)} %"


def parameters_text(pattern: str, parameters: Mapping[str, Any]) -> str:
    """A pattern's parameters with their units: `mean 37.44 requests/s, period 4.5 s`."""
    kind = known_patterns().get(pattern)
    units = {
        field.name: field.metadata.get("description", "").rpartition(", ")[2]
        for field in (dataclasses.fields(kind) if kind is not None else ())
    }
    return ", ".join(_with_unit(key, value, units.get(key, "")) for key, value in parameters.items())


def _with_unit(name: str, value: Any, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{name.replace('_', ' ')} {settings(value)}"
    name, unit = (name.removesuffix("_s"), "s") if name.endswith("_s") else (name, unit)
    text = str(value) if isinstance(value, int) else significant(value)
    return f"{name.replace('_', ' ')} {text}{f' {unit}' if unit in ('s', 'requests/s') else ''}"


def settings(value: Any) -> str:
    """A value of a configuration in words: `hpa, metric queue_time_ms, target 5`; what it holds inside in brackets."""
    if isinstance(value, Mapping):
        kind = [str(value["kind"])] if "kind" in value else []
        return ", ".join([*kind, *(f"{key} {_inner(one)}" for key, one in value.items() if key != "kind")])
    if isinstance(value, list | tuple):
        return ", ".join(map(_inner, value))
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(value)


def _inner(value: Any) -> str:
    if not isinstance(value, Mapping | list | tuple):
        return settings(value)
    return f"({settings(value)})" if value else "none"


RANGES = {
    "rate_rps": "rates, requests/s",
    "batch_size": "batch sizes",
    "replicas": "replicas",
    "instances": "instances of a replica",
}


def range_of(name: str) -> str:
    """What a profile's range is of."""
    return RANGES.get(name, name.replace("_", " "))


def milliseconds(value: float | None) -> str:
    """Three significant digits or more, without the unit."""
    if value is None:
        return NOT_MEASURED
    size = abs(value)
    return number(value, 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3)


def capacity_text(capacity: Capacity) -> str:
    """Requests/s of one instance, with the interval that what is not known of the service time leaves."""
    text = f"{number(capacity.rps, 1)} requests/s, in batches of {capacity.batch_size}"
    if capacity.low_rps is None or capacity.high_rps is None:
        return text
    half_pct = 50 * (capacity.high_rps - capacity.low_rps) / capacity.rps
    return (
        f"{text} ({number(capacity.low_rps, 1)} to {number(capacity.high_rps, 1)}, 90 % interval of the service time's "
        f"uncertainty: \u00b1{number(half_pct, 1, '%')})"
    )


def device_text(device: str, emulated: bool) -> str:
    """The device's name; an emulated one says so wherever it shows."""
    return f"{device} (EMULATED)" if emulated else device


def traffic_text(traffic: Mapping[str, Any]) -> str:
    """A TrafficConfig of a JSON file in words: `bursty (base 10, spike 200), 60 s`."""
    parts = []
    if traffic.get("trace") is not None:
        parts.append(f"the trace {traffic['trace']}")
        parts += [f"{traffic['speed_up']:g} times as fast"] if traffic["speed_up"] != 1 else []
        parts += [f"from {number(traffic['from_s'], 0, 's')} on"] if traffic.get("from_s") else []
        parts += [f"{name} {settings(traffic[name])}" for name in ("where", "spread", "max_gap_s") if traffic.get(name)]
        if traffic["rate_factor"] is not None:
            parts.append(f"its rate in intervals of {traffic['rate_interval_s']:g} s times {traffic['rate_factor']:g}")
    else:
        told = parameters_text(traffic["pattern"], traffic["parameters"])
        parts.append(f"{traffic['pattern']} ({told})" if told else f"{traffic['pattern']}, as it is by default")
    return ", ".join([*parts, *([f"{traffic['duration_s']:g} s"] if traffic["duration_s"] is not None else [])])


def run_labels(rows: Sequence[ComparisonRow]) -> list[str]:
    """Short names within one group: pattern and configuration, and what else it takes to tell runs apart."""
    short = [f"{row.pattern} {row.configuration}" for row in rows]
    twice = {label for label, times in Counter(short).items() if times > 1}
    seeded = [f"{label} s{row.seed}" if label in twice else label for label, row in zip(short, rows, strict=True)]
    twice = {label for label, times in Counter(seeded).items() if times > 1}
    return [row.run_id if label in twice else label for label, row in zip(seeded, rows, strict=True)]


def repeat_band_pct(row: ComparisonRow) -> tuple[float, float] | None:
    """Lowest and highest P95 of the valid repeats, in percent above the compared run's; None below two repeats."""
    if len(row.p95_repeats_ms) < 2 or not row.p95_real_ms:
        return None
    low, high = min(row.p95_repeats_ms), max(row.p95_repeats_ms)
    return 100 * (low / row.p95_real_ms - 1), 100 * (high / row.p95_real_ms - 1)


def claim(group: GroupSummary) -> str:
    """What the runs of one group show, in one sentence."""
    where = f"{group.model} on {device_text(group.device, group.emulated)}"
    if not group.counted or group.median_abs_p95_error_pct is None or group.worst_abs_p95_error_pct is None:
        return f"{where}: no valid held-out run, so nothing is claimed."
    runs = "one valid held-out run" if group.counted == 1 else f"{group.counted} valid held-out runs"
    text = f"{where}: over {runs} ({number(group.requests, 0)} requests{_utilisation_range(group)})"
    text += f" the simulated P95 latency is off by {number(group.median_abs_p95_error_pct, 1, '%')}"
    if group.counted > 1:
        text += f" in the median and {number(group.worst_abs_p95_error_pct, 1, '%')} at worst"
    text += f", KS distance {number(group.median_ks, 3)}"
    if group.median_repeat_spread_pct is None:
        return text + "; the spread of repeated real runs was not measured."
    return text + f"; repeated real runs differ by {number(group.median_repeat_spread_pct, 1, '%')} themselves."


def _utilisation_range(group: GroupSummary) -> str:
    if group.utilisation_min is None or group.utilisation_max is None:
        return ""
    low, high = number(group.utilisation_min, 2), number(group.utilisation_max, 2)
    return f", utilisation {low}" if low == high else f", utilisation {low} to {high}"


def left_out_text(left_out: dict[str, int]) -> str:
    """`2 invalid, 1 not held out`; empty if nothing was left out."""
    return ", ".join(f"{count} {why}" for why, count in left_out.items())


DEFINITIONS: tuple[tuple[str, str], ...] = (
    ("latency", "completed minus scheduled time of an answered request; a client that sends late does not hide it"),
    ("P50, P95, P99", "quantiles of the raw latencies of a run (linear between order statistics), nothing averaged"),
    ("error", "100 * (simulated - real) / real of that quantile; positive: the simulation is slower"),
    ("KS", "largest gap between the real and the simulated empirical latency distribution, 0 to 1"),
    (
        "repeat spread",
        "100 * (max - min) / mean of the P95 of the valid real runs of the same schedule, the compared run included; "
        "needs two; the band in the figures runs from the lowest to the highest of them, relative to the compared run",
    ),
    ("throughput", "requests answered within the run's duration, per second of it"),
    (
        "utilisation",
        "busy instance time (start to end of every batch) / (replicas * instances * duration); without a log of "
        "batches, from Triton's compute times by batch size",
    ),
    ("mean batch", "requests in a batch, averaged over batches"),
    ("valid", "the client kept its schedule, delivered its rate and took enough samples (loadgen/validity.py)"),
    ("held out", "the run's traffic was not used to fit the profile; only valid held-out runs count in the summary"),
)

SETTINGS_EXPLAINED = (
    "a service's settings: r replicas of n instances each, batches of at most b requests, which wait at most d for "
    "others (nobatching: no batches are formed; p: preferred batch sizes; l: length buckets; lr: the least busy "
    "replica is asked)"
)
# What a newcomer may not know: how it is called in a legend -> how it is written, and what it means.
TERMS: dict[str, tuple[re.Pattern[str], str]] = {
    "held out": (
        re.compile(r"held[- ]out"),
        "traffic that the profile was not fitted on, so that the simulator had not seen it",
    ),
    "KS": (
        re.compile(r"\bKS(?: distance)?\b"),
        "the Kolmogorov-Smirnov distance: the largest gap between the shares of real and of simulated requests that "
        "are answered within any latency; 0: no gap, 1: no overlap",
    ),
    "r1-n1-b8-d0ms": (re.compile(r"\br\d+-n\d+-b\d+[\w.+-]*"), SETTINGS_EXPLAINED),
}


def terms_in(*texts: str) -> dict[str, str]:
    """Those of TERMS that are in the texts, and what each means."""
    return {
        found[0] if name.startswith("r1-") else name: meaning
        for name, (pattern, meaning) in TERMS.items()
        if (found := next(filter(None, map(pattern.search, texts)), None))
    }


def explained(text: str) -> Markup:
    """HTML, with the first of each of TERMS as an <abbr> that keys and fingers reach too."""
    found = [(match.span(), meaning) for pattern, meaning in TERMS.values() if (match := pattern.search(text))]
    html, done = Markup(), 0
    for (start, end), meaning in sorted(found):
        mark = Markup('<abbr tabindex="0" title="{0}" data-meaning="{0}">{1}</abbr>')
        html += Markup.escape(text[done:start]) + mark.format(meaning, text[start:end])
        done = end
    return html + Markup.escape(text[done:])
