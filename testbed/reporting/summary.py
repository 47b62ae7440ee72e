"""The rows of comparison.json, and what they come to for each model on each device."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ComparisonRow(_Frozen):
    """One real run and its simulated counterpart; None: not measured. docs/reference/metrics.md defines each number."""

    run_id: str
    model: str
    device: str
    pattern: str
    configuration: str
    seed: int
    held_out: bool
    valid: bool | None  # of the real run; None: it has no verdict
    requests: int
    utilisation: float | None
    p50_real_ms: float | None
    p50_sim_ms: float | None
    p95_real_ms: float | None
    p95_sim_ms: float | None
    p95_error_pct: float | None  # 100 * (sim - real) / real
    p99_error_pct: float | None
    ks: float | None
    repeat_spread_pct: float | None  # 100 * (max - min) / mean of P95 over the valid real repeats; None below two
    p50_error_pct: float | None
    p99_real_ms: float | None
    p99_sim_ms: float | None
    p95_error_vs_mean_pct: float | None  # against the mean P95 of the valid repeats
    p95_repeats_ms: tuple[float, ...]
    repeats: tuple[str, ...]  # run ids of the valid repeats, the compared run first
    repeats_left_out: tuple[str, ...]  # run ids of repeats that were not valid
    offered_rps: float
    throughput_real_rps: float
    throughput_sim_rps: float
    mean_batch_real: float | None
    mean_batch_sim: float | None
    utilisation_source: Literal["batches", "metrics"] | None
    utilisation_sim: float | None
    ok_real: int
    ok_sim: int
    emulated: bool
    device_kind: Literal["cpu", "gpu", "emulated", "unknown"]
    weights: str
    sim_run_id: str
    target_p99_ms: float | None  # the catalog's latency target of the model on such a device; None: it has none
    reasons: tuple[str, ...]  # why the real run is not valid


class GroupSummary(_Frozen):
    """One model on one device. The figures are those of its counted runs; None if no run counts."""

    model: str
    device: str
    emulated: bool
    weights: str
    runs: int  # compared
    counted: int  # valid, held out, and answered
    invalid: int
    left_out: dict[str, int]  # why -> how many
    requests: int  # of the counted runs
    utilisation_min: float | None
    utilisation_max: float | None
    median_abs_p95_error_pct: float | None
    worst_abs_p95_error_pct: float | None
    worst_run_id: str | None
    median_ks: float | None
    worst_ks: float | None
    median_repeat_spread_pct: float | None


class Summary(_Frozen):
    """Per group, and what was left out of the figures."""

    groups: tuple[GroupSummary, ...]
    runs: int
    counted: int
    invalid: int
    left_out: dict[str, int]
    not_compared: tuple[str, ...]  # real runs without a simulated counterpart, e.g. those that were fitted on


def why_left_out(row: ComparisonRow) -> str | None:
    """Why a row does not count in the summary; None: it counts."""
    if row.valid is None:
        return "no verdict"
    if not row.valid:
        return "invalid"
    if not row.held_out:
        return "not held out"
    if row.p95_error_pct is None:
        return "no request answered"
    return None


def summarise(rows: Sequence[ComparisonRow], not_compared: Iterable[str] = ()) -> Summary:
    """The summary of comparison.json; groups in the order of their first row."""
    groups: dict[tuple[str, ...], list[ComparisonRow]] = {}
    for row in rows:
        groups.setdefault(group_key(row), []).append(row)
    return Summary(
        groups=tuple(map(_group, groups.values())),
        runs=len(rows),
        counted=sum(why_left_out(row) is None for row in rows),
        invalid=sum(row.valid is False for row in rows),
        left_out=_left_out(rows),
        not_compared=tuple(not_compared),
    )


def group_key(row: ComparisonRow) -> tuple[str, ...]:
    """Rows with the same key are summed up together."""
    return row.model, row.device_kind, row.device, row.weights


def _group(rows: Sequence[ComparisonRow]) -> GroupSummary:
    first = rows[0]
    counted = [row for row in rows if why_left_out(row) is None]
    errors = {row.run_id: abs(row.p95_error_pct) for row in counted if row.p95_error_pct is not None}
    ks = [row.ks for row in counted if row.ks is not None]
    spreads = [row.repeat_spread_pct for row in counted if row.repeat_spread_pct is not None]
    busy = [row.utilisation for row in counted if row.utilisation is not None]
    return GroupSummary(
        model=first.model,
        device=first.device,
        emulated=first.emulated,
        weights=first.weights,
        runs=len(rows),
        counted=len(counted),
        invalid=sum(row.valid is False for row in rows),
        left_out=_left_out(rows),
        requests=sum(row.requests for row in counted),
        utilisation_min=min(busy, default=None),
        utilisation_max=max(busy, default=None),
        median_abs_p95_error_pct=_median(list(errors.values())),
        worst_abs_p95_error_pct=max(errors.values(), default=None),
        worst_run_id=max(errors, key=lambda run_id: errors[run_id], default=None),
        median_ks=_median(ks),
        worst_ks=max(ks, default=None),
        median_repeat_spread_pct=_median(spreads),
    )


def _left_out(rows: Sequence[ComparisonRow]) -> dict[str, int]:
    return dict(sorted(Counter(why for row in rows if (why := why_left_out(row)) is not None).items()))


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None
