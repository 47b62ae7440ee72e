"""Which models share a GPU, so that the fewest GPUs are needed: bin packing. Pure.

A group is a set of models, by number, with one replica each on one GPU. Which groups may share is somebody else's
question (pipeline.packing asks the simulator); a group that may not cannot be part of a larger one that may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

Group = frozenset[int]


def throughput(factors: Sequence[float], replicas: int) -> float:
    """Work that a GPU does at most with so many replicas, in seconds of a lone replica's batches a second.

    factors: on a batch's time while 1, 2, ... replicas are busy; the last holds beyond. k busy ones do k / factor.
    """
    return max(k / factors[min(k, len(factors)) - 1] for k in range(1, replicas + 1))


def sharing_groups(models: int, most: int, fits: Callable[[Group], bool]) -> list[Group]:
    """All groups of up to `most` models that fit, those of one model included, small ones first.

    fits is asked once for each group of two or more whose smaller groups all fit.
    """
    level = [frozenset({m}) for m in range(models)]
    found = list(level)
    for _ in range(1, most):
        known = set(level)
        larger = (group | {m} for group in level for m in range(max(group) + 1, models))
        level = [group for group in larger if all(group - {m} in known for m in group) and fits(group)]
        found += level
    return found


def fewest_gpus(replicas: Sequence[int], groups: Mapping[Group, float]) -> tuple[Group, ...]:
    """A group for each GPU, so that model m is on replicas[m] of them: the fewest GPUs; of equal numbers those
    whose largest value is least, then the next largest. Exact: every packing is considered. ValueError: there is none.
    """
    for m in range(len(replicas)):
        if not any(m in group for group in groups):
            raise ValueError(f"model {m} is in no group")

    @cache
    def best(left: tuple[int, ...]) -> tuple[int, list[float], tuple[Group, ...]] | None:
        """GPUs, values from the largest on, and groups for what is left to be placed, its first model first."""
        first = next((m for m, count in enumerate(left) if count), None)
        if first is None:
            return 0, [], ()
        found = None
        for group, value in groups.items():
            if first not in group or any(not left[m] for m in group):
                continue
            rest = best(tuple(count - (m in group) for m, count in enumerate(left)))
            if rest is not None:
                way = 1 + rest[0], sorted([value, *rest[1]], reverse=True), (group, *rest[2])
                found = way if found is None or way[:2] < found[:2] else found
        return found

    way = best(tuple(replicas))
    if way is None:
        raise ValueError("the groups do not add up to the replicas: give each model a group of its own")
    return way[2]


def first_fit_decreasing(
    replicas: Sequence[int], sizes: Sequence[float], fits: Callable[[Group], bool]
) -> tuple[Group, ...]:
    """Model by model, the largest first, each replica on the first GPU where it fits, else on another one."""
    gpus: list[Group] = []
    for m in sorted(range(len(replicas)), key=lambda m: -sizes[m]):
        for _ in range(replicas[m]):
            place = next((k for k, gpu in enumerate(gpus) if m not in gpu and fits(gpu | {m})), None)
            if place is None:
                gpus.append(frozenset({m}))
            else:
                gpus[place] |= {m}
    return tuple(gpus)
