"""What an evaluation says in a sentence: who holds less, who misses less, and whether the challenger has won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.reporting.labels import number

# More misses than that are not taken for as few: the share that a tuned HPA may miss, unless it is told otherwise.
MARGIN = 0.01


def verdict(evaluation: Mapping[str, Any]) -> str:
    """The first sentences of a report. evaluation: evaluation.json's content."""
    ours, theirs = evaluation["challenger"], evaluation["baseline"]
    of_money = evaluation.get("objective") == "cost"
    summary, other = evaluation["policies"][ours], evaluation["policies"][theirs]
    kinds = len(evaluation["per_traffic"])
    runs = sum(row["policy"] == ours for row in evaluation["rows"])
    begin = f"In simulation, over {runs} runs of {kinds} {'kinds' if kinds > 1 else 'kind'} of traffic, {ours}"
    rate, their_rate = (_percent(policy["slo_violation_rate"]) for policy in (summary, other))
    missed = f"{rate} of requests miss the target, under {theirs} {their_rate}"
    if summary["saving_pct"] is None:
        nothing = "cost nothing" if of_money else "held no GPU at all"
        return f"{begin} cannot be set against {theirs}, of which a run {nothing}; {missed}."
    over = "kinds of traffic" if kinds > 1 else "seeds"
    less = "less" if of_money else "fewer"
    saving = saving_words(summary["saving_pct"], less)
    holds = f"{begin} {f'costs {saving}' if of_money else f'holds {saving} GPU-seconds'} than {theirs}"
    difference = f"{number(100 * summary['slo_violation_rate_difference'], 2, signed=True)} points"
    if summary["saving_low_pct"] is None:
        return f"{holds}; {missed} (difference: {difference}). There are too few {over} for an interval: nobody wins."
    low, high = (100 * summary[f"slo_violation_rate_difference_{end}"] for end in ("low", "high"))
    mean = f"; mean of the kinds: {saving_words(summary['saving_mean_over_kinds_pct'], less)}" if kinds > 1 else ""
    return (
        f"{holds} (90 % interval over {over}: "
        f"{interval_words(summary['saving_low_pct'], summary['saving_high_pct'], less)}{mean}); "
        f"{missed} (difference: {difference}, {number(low, 2, signed=True)} to {number(high, 2, signed=True)}). "
        f"{_judgement(ours, summary, 'money' if of_money else 'GPU-seconds')}"
    )


def saving_words(saving_pct: float, less: str = "fewer") -> str:
    """`5.0 % fewer`, `3.1 % more`."""
    return f"{number(abs(saving_pct), 1, '%')} {less if saving_pct >= 0 else 'more'}"


def interval_words(low_pct: float, high_pct: float, less: str = "fewer") -> str:
    """Of a saving: `3.1 to 5.0 % fewer`, `from 1.0 % more to 5.0 % fewer`."""
    if low_pct < 0 < high_pct:
        return f"from {saving_words(low_pct, less)} to {saving_words(high_pct, less)}"
    near, far = sorted((abs(low_pct), abs(high_pct)))
    return f"{number(near, 1)} to {saving_words(high_pct if high_pct > 0 else -far, less)}"


def _judgement(ours: str, summary: Mapping[str, Any], spent: str) -> str:
    """Won: fewer GPU-seconds, or less money, beyond doubt, and so no more than MARGIN more misses (non-inferior)."""
    cheaper, dearer = summary["saving_low_pct"] > 0, summary["saving_high_pct"] < 0
    low, high = (summary[f"slo_violation_rate_difference_{end}"] for end in ("low", "high"))
    less = "less" if spent == "money" else "fewer"
    holds = f"{less} {spent}" if cheaper else f"more {spent}" if dearer else "no saving that can be told from none"
    misses = (
        "fewer misses"
        if high < 0
        else "more misses"
        if low > 0
        else "no difference in misses that can be told from none"
    )
    if cheaper and low <= 0 and high > MARGIN:
        return (
            f"Undecided: {holds}, but up to {number(100 * high, 2)} points more misses are possible; more runs decide."
        )
    if (dearer and high < 0) or (cheaper and low > 0):
        verb = "costs" if spent == "money" else "holds"
        told = f"misses less and {verb} more" if dearer else f"{verb} less and misses more"
        return f"{ours} {told}: neither is better in both."
    won = "wins" if cheaper and low <= 0 else "does not win"
    return f"{ours} {won}: {holds}, and {misses}."


def _percent(share: float) -> str:
    return number(100 * share, 2, "%")
