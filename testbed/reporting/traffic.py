"""What traffic.json of `kis traffic` says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.reporting.labels import counted, number, significant

Facts = Mapping[str, Any]
BURSTY = (
    2.0  # index of dispersion from which on traffic is called more bursty than a Poisson process; 1 over it: more even
)


def sentence(facts: Facts) -> str:
    """How much comes, how unevenly, and whether it repeats."""
    parts = [
        f"{counted(facts['requests'], 'request')} in {span_text(facts['duration_s'])}, "
        f"{significant(facts['rate_rps'], 3)}/s on average"
    ]
    if facts["windows"]:
        first = facts["windows"][0]
        window = span_text(first["window_s"])
        parts.append(f"{significant(first['peak_to_mean'], 3)} times that in the busiest window of {window}")
    told = f"{', '.join(parts)}."
    if facts["windows"]:
        last = facts["windows"][-1]
        kind = "about as even as" if last["dispersion"] < BURSTY else "more bursty than"
        kind = kind if last["dispersion"] > 1 / BURSTY else "more even than"
        told += (
            f" In windows of {span_text(last['window_s'])} it is {kind} a Poisson process (index of dispersion "
            f"{significant(last['dispersion'], 3)}, of Poisson 1)."
        )
    season = facts["season"]
    if season is None:
        return f"{told} No season shows."
    return f"{told} It repeats every {span_text(season['period_s'])} (strength {number(season['strength'], 2)} of 1)."


def span_text(seconds: float) -> str:
    """`45 s`, `5.2 min`, `8 h`, `7.1 days`: three digits."""
    for size, unit in ((2 * 86400.0, "days"), (2 * 3600.0, "h"), (120.0, "min")):
        if seconds >= size:
            whole = {"days": 86400.0, "h": 3600.0, "min": 60.0}[unit]
            return f"{significant(seconds / whole, 3)} {unit}"
    return f"{significant(seconds, 3)} s"


def facts_of(facts: Facts) -> list[tuple[str, str]]:
    """Name and value of each row of the page's first table."""
    resolution = facts["resolution_s"]
    rows = [
        ("file", facts["config"]["trace"]),
        ("format", f"{facts['format']}: {facts['why']}"),
        ("requests", number(facts["requests"], 0)),
        ("length", span_text(facts["duration_s"])),
        ("mean rate", f"{significant(facts['rate_rps'])}/s"),
        ("median gap", f"{significant(facts['median_gap_s'], 3)} s"),
        ("longest gap", span_text(facts["longest_gap_s"])),
        ("clock", "steps below a microsecond" if resolution is None else f"steps of {significant(resolution)} s"),
        ("requests at the time of another", number(100 * facts["same"], 1, "%")),
    ]
    if facts["spread_s"] is not None:
        rows.append(("spread", f"evenly within {significant(facts['spread_s'])} s (seed {facts['config']['seed']})"))
    return rows
