"""Where a run missed its target, and why: from its intervals and from what its policy said. Pure.

Intervals in which more than a few requests missed are joined to episodes. The cause of an episode is that of the
intervals with most of its misses. While a queue only gets shorter, requests miss for the reason for which it had grown.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from testbed.autoscaling.simulated import Look

BAD_SHARE = 0.05  # of an interval's requests: fewer misses are scattered, by luck of queues and batches
GAP_S = 30.0  # without misses, that ends an episode
SOON_S = 300.0  # after a scale-down, within which it was too early
AROUND_S = 60.0  # before an episode, from which on decisions belong to it
LATER_S = 120.0  # after an interval, within which a decision came late
SHOWN = 8  # decisions of an episode

Cause = Literal[
    "starting", "lost", "node", "no room", "early", "max", "tolerance", "stabilised", "limited", "missing", "budget",
    "lagging", "below", "late", "nothing asked",
]  # fmt: skip


class Interval(NamedTuple):
    """Of one model. arrived, missed: within it; asked, ready, pending: pods at its end. coming: of the pending pods,
    those that a node is made for; None: nothing makes nodes there. waiting: requests without an answer at its end;
    None: not known."""

    start_s: float
    end_s: float
    arrived: int
    missed: int
    asked: int
    ready: int
    pending: int = 0
    coming: int | None = None
    waiting: int | None = None

    @property
    def is_bad(self) -> bool:
        """Did more than a few miss?"""
        return self.missed > BAD_SHARE * max(self.arrived, 1)


class Episode(NamedTuple):
    """Intervals with misses, one after the other. asked, ready, load: where most missed; load: see Decision.
    waiting: the most requests without an answer; None: not known."""

    start_s: float
    end_s: float
    arrived: int
    missed: int
    asked: int
    ready: int
    load: float | None
    cause: Cause
    why: str
    decisions: tuple[Look, ...]
    waiting: int | None = None


class PostMortem(NamedTuple):
    """episodes: those with most misses, the worst first. others: misses of further ones; scattered: of no episode."""

    episodes: tuple[Episode, ...]
    others: int
    scattered: int


def post_mortem(intervals: Sequence[Interval], looks: Sequence[Look], max_replicas: int, shown: int = 5) -> PostMortem:
    """Of the whole run of one model. max_replicas: of the model; a policy's own says so in `held`."""
    groups = sorted(_episodes(intervals), key=lambda group: -_missed(group))
    told = tuple(_told(group, looks, max_replicas) for group in groups[:shown])
    in_groups = sum(map(_missed, groups))
    return PostMortem(told, in_groups - sum(one.missed for one in told), _missed(intervals) - in_groups)


def _missed(intervals: Sequence[Interval]) -> int:
    return sum(interval.missed for interval in intervals)


def _episodes(intervals: Sequence[Interval]) -> Iterator[list[Interval]]:
    group: list[Interval] = []
    for interval in filter(lambda each: each.is_bad, intervals):
        if group and interval.start_s - group[-1].end_s > GAP_S:
            yield group
            group = []
        group.append(interval)
    if group:
        yield group


def _told(group: Sequence[Interval], looks: Sequence[Look], max_replicas: int) -> Episode:
    start_s, end_s = group[0].start_s, group[-1].end_s
    needed = max(interval.asked for interval in group)
    causes: list[tuple[Cause, str]] = []
    for before, interval in zip((None, *group), group, strict=False):
        draining = before is not None and _drains(before, interval)
        causes.append(causes[-1] if draining else _cause(interval, start_s, needed, looks, max_replicas))
    by_cause: Counter[Cause] = Counter()
    for interval, (cause, _) in zip(group, causes, strict=True):
        by_cause[cause] += interval.missed
    main = by_cause.most_common(1)[0][0]
    worst, (_, why) = max(
        ((interval, told) for interval, told in zip(group, causes, strict=True) if told[0] == main),
        key=lambda pair: pair[0].missed,
    )
    seen = _last(looks, worst.end_s)
    around = _within(looks, start_s - AROUND_S, end_s)
    changes = [look for look in around if look.wanted != look.before or look.held]
    return Episode(
        start_s,
        end_s,
        sum(interval.arrived for interval in group),
        _missed(group),
        worst.asked,
        worst.ready,
        None if seen is None else seen.load,
        main,
        why,
        tuple((changes or around[:1])[:SHOWN]),
        max((interval.waiting for interval in group if interval.waiting is not None), default=None),
    )


def _drains(before: Interval, interval: Interval) -> bool:
    """Does the queue only get shorter, and does everything that was asked for serve it?"""
    if before.waiting is None or interval.waiting is None or before.end_s != interval.start_s:
        return False
    return interval.waiting < before.waiting and interval.ready >= interval.asked


def _within(looks: Sequence[Look], after_s: float, until_s: float) -> Sequence[Look]:
    first, end = (bisect_right(looks, time_s, key=lambda look: look.time_s) for time_s in (after_s, until_s))
    return looks[first:end]


def _last(looks: Sequence[Look], time_s: float) -> Look | None:
    """The last one until then that says what it saw, else the last one: KEDA's polls say nothing of the metric."""
    before = _within(looks, time_s - AROUND_S, time_s)
    told = [look for look in before if look.load is not None or look.held is not None]
    seen = told or before
    return seen[-1] if seen else None


def _cause(
    interval: Interval, start_s: float, needed: int, looks: Sequence[Look], max_replicas: int
) -> tuple[Cause, str]:
    """Why requests missed in an interval of the episode that began at start_s. needed: the most pods asked for in it.

    Example: 6 are needed and 4 ready, and 90 s before the episode the policy went from 6 to 4: scaled down too early.
    """
    soon = _within(looks, start_s - SOON_S, start_s)
    down = next((look for look in soon if look.wanted < needed <= look.before), None)
    if down is not None and interval.ready < needed:
        return "early", (
            f"scaled down too early: below {needed} pods at second {down.time_s:.0f}, {start_s - down.time_s:.0f} s "
            f"before the misses, and {needed} were asked for again"
        )
    if interval.ready < interval.asked:
        return _not_ready(interval, start_s, looks)
    if interval.asked >= max_replicas:
        return "max", f"at max_replicas: all {interval.ready} pods were ready"
    return _not_asked(interval, start_s, looks)


def _not_ready(interval: Interval, start_s: float, looks: Sequence[Look]) -> tuple[Cause, str]:
    missing = interval.asked - interval.ready
    pods = f"{missing} of {interval.asked} pods"
    if interval.coming is not None:
        at_max, started = interval.pending - interval.coming, missing - interval.pending
        if interval.coming >= max(at_max, started, 1):
            waiting = f"{interval.coming} of {interval.asked} pods"
            return "node", f"waiting for a node: {waiting} were pending until a node of their group was ready"
        if at_max >= max(started, 1):
            waiting = f"{at_max} of {interval.asked} pods"
            return "no room", f"no room: {waiting} were pending, as every node group that fits was at its max_nodes"
    elif interval.pending >= missing:
        return "no room", f"no room: {pods} were pending, as no node had room for them"
    since = _within(looks, start_s - SOON_S, interval.end_s)
    up = next((look for look in reversed(since) if look.wanted > look.before), None)
    if up is None:
        return "lost", f"lost pods: {pods} were not ready, and nobody had asked for more"
    when = f"{abs(up.time_s - start_s):.0f} s {'before' if up.time_s < start_s else 'after'} the first misses"
    return "starting", f"started too late: {pods} were starting, asked for at second {up.time_s:.0f}, {when}"


def _not_asked(interval: Interval, start_s: float, looks: Sequence[Look]) -> tuple[Cause, str]:
    """All pods were ready, and there could have been more."""
    look = _last(looks, interval.end_s)
    share = "" if look is None or look.load is None else f"{look.load:.2f} of its target"
    sentences: dict[str, str] = {
        "max": f"at the policy's max_replicas: all {interval.ready} pods were ready",
        "tolerance": f"within tolerance: the metric was {share}, and nothing changed",
        "stabilised": "stabilisation window: the scale-up was held until the window had passed",
        "limited": "scaling policy: a step up was limited",
        "missing": "metric missing: the number of pods was held",
        "budget": "budget: the GPUs were with other models",
    }
    if look is not None and look.held is not None:
        return look.held, sentences[look.held]
    later = _within(looks, interval.end_s, interval.end_s + LATER_S)
    if look is not None and look.load is not None and look.load <= 1:
        over = next((one for one in later if one.load is not None and one.load > 1), None)
        if over is None:
            return "below", f"metric below its target: it was {share}, and no more pods were asked for"
        after_s = over.time_s - start_s
        return "lagging", f"metric lagging: it was {share}, and over it only {after_s:.0f} s after the first misses"
    up = next((one for one in later if one.wanted > one.before), None)
    if up is None:
        return "nothing asked", "the policy did not ask for more pods"
    return "late", f"decided late: more pods were asked for {up.time_s - start_s:.0f} s after the first misses"
