"""What stands between a policy's answer and the cluster: bounds, pace, and no step on what is not known. Pure.

It fails static: with metrics that are stale, missing or no numbers, or a policy that fails, the last safe count stays.
Nothing here scales down blind.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from testbed.config import Strict


class Limits(Strict):
    """Limits of a controller: replica counts, step sizes, age of metrics."""

    min_replicas: int = Field(1, ge=0, description="smallest number of replicas")
    max_replicas: int = Field(ge=1, description="largest number of replicas")
    step_up: int | None = Field(None, ge=1, description="most replicas added at once; none: no limit")
    step_down: int | None = Field(None, ge=1, description="most replicas removed at once; none: no limit")
    down_window_s: float = Field(
        0.0, ge=0, description="scale down only to the largest desired count within this time, as an HPA does"
    )
    stale_s: float = Field(15.0, gt=0, description="largest age of metrics; with older ones nothing is decided")
    loss_window_s: float = Field(60.0, ge=0, description="no scale-down for this time after ready pods were lost")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class DesiredCount(NamedTuple):
    """A policy's answer that may have been followed. For the window of scaling down."""

    time_s: float
    replicas: int


class GuardInput(NamedTuple):
    """What the controller knows when it decides.

    metrics_s: when the newest scrape of every ready pod was made; None: there is none. ready, scraped: pods.
    lost_s: when ready pods were lost last; None: never.
    """

    now_s: float
    spec_replicas: int
    ready: int
    scraped: int
    metrics_s: float | None
    lost_s: float | None = None


class ReadyPods(NamedTuple):
    """The ready pods over time. most: as many as there were for the present count. lost_s: see GuardInput."""

    most: int
    lost_s: float | None


def count_crew(before: ReadyPods | None, now_s: float, spec_replicas: int, ready: int) -> ReadyPods:
    """The crew after a look. None: the first look, to which the count that it finds is what there was.

    Pods that go because the count went down are not lost. Those of a dead node or server are: what they did shows in
    no metrics any more, and their clients' requests not yet in the others'.
    """
    most, lost_s = (spec_replicas, None) if before is None else (min(before.most, spec_replicas), before.lost_s)
    if ready < most:
        return ReadyPods(ready, now_s)
    return ReadyPods(min(ready, spec_replicas), lost_s)


class GuardDecision(NamedTuple):
    """replicas: to be patched; None: the count stays. held: why not what was wanted, or empty."""

    replicas: int | None
    refusal: str
    history: tuple[DesiredCount, ...]


def guarded(
    wanted: float | None, known: GuardInput, history: tuple[DesiredCount, ...], limits: Limits
) -> GuardDecision:
    """May the deployment go to `wanted` replicas? None: the policy failed.

    Out of bounds is brought into bounds even without metrics, but only upwards: a count below min_replicas is never
    right, whatever is known. history: of the last call's verdict.
    """
    kept = tuple(desired for desired in history if desired.time_s > known.now_s - limits.down_window_s)
    known_wish = wanted is not None and math.isfinite(wanted) and wanted >= 0
    whole = math.ceil(wanted) if wanted is not None and known_wish else known.spec_replicas
    bounded = min(max(whole, limits.min_replicas), limits.max_replicas)
    if not known_wish:
        reason: str | None = "the policy failed" if wanted is None else f"the policy answered {wanted}"
    else:
        reason = _blind(bounded - known.spec_replicas, known, limits)
    if reason is not None:
        floor = limits.min_replicas if known.spec_replicas < limits.min_replicas else None
        return GuardDecision(floor, reason, kept)
    refusal = "" if bounded == whole else f"{whole} is out of {limits.min_replicas}..{limits.max_replicas}"
    kept = (*kept, DesiredCount(known.now_s, bounded))
    target = bounded
    if target < known.spec_replicas:
        largest = min(max(desired.replicas for desired in kept), known.spec_replicas)
        if largest > target:
            target, refusal = largest, f"{largest} were wanted within the last {limits.down_window_s:g} s"
        if limits.step_down is not None and target < known.spec_replicas - limits.step_down:
            target, refusal = known.spec_replicas - limits.step_down, f"at most {limits.step_down} less at once"
    elif limits.step_up is not None and target > known.spec_replicas + limits.step_up:
        target, refusal = known.spec_replicas + limits.step_up, f"at most {limits.step_up} more at once"
    return GuardDecision(None if target == known.spec_replicas else target, refusal, kept)


def _blind(step: int, known: GuardInput, limits: Limits) -> str | None:
    """Why a step of so many replicas may not be taken on what is known; None: it may."""
    if known.ready == 0:
        # Nothing serves, so nothing can be measured: waiting for pods is all there is to do, but more may be asked for.
        # With none asked for there is nothing to wait for either.
        return None if step > 0 or known.spec_replicas == 0 else "no pod is ready"
    if known.metrics_s is None:
        return "no metrics yet"
    age_s = known.now_s - known.metrics_s
    if age_s > limits.stale_s:
        return f"metrics are {age_s:.1f} s old"
    if known.scraped < known.ready and step < 0:
        return f"{known.ready - known.scraped} of {known.ready} ready pods told nothing: no step down"
    if step < 0 and known.lost_s is not None and known.now_s - known.lost_s < limits.loss_window_s:
        since_s = known.now_s - known.lost_s
        return f"ready pods were lost {since_s:.0f} s ago: no step down for {limits.loss_window_s:g} s"
    return None
