"""The fewest GPUs: equal to trying everything, and to what is known where utilisations add up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.pipeline.packing_search import Group, fewest_gpus, first_fit_decreasing, sharing_groups, throughput


def every_packing(replicas: Sequence[int]) -> Iterator[list[set[int]]]:
    """All ways to put the replicas on GPUs, two of one model never on the same."""
    items = [m for m, count in enumerate(replicas) for _ in range(count)]

    def place(number: int, gpus: list[set[int]]) -> Iterator[list[set[int]]]:
        if number == len(items):
            yield [set(gpu) for gpu in gpus]
            return
        for gpu in [*gpus, set[int]()]:
            if items[number] not in gpu:
                more = gpus if any(gpu is one for one in gpus) else [*gpus, gpu]
                gpu.add(items[number])
                yield from place(number + 1, more)
                gpu.remove(items[number])

    return place(0, [])


def all_groups(replicas: Sequence[int], sizes: Sequence[float]) -> dict[Group, float]:
    """Those of at most 1 together, each with its size."""
    numbers = range(len(replicas))
    every = [frozenset(group) for count in numbers for group in combinations(numbers, count + 1)]
    return {group: total for group in every if (total := sum(sizes[m] for m in group)) <= 1}


SIZES = st.lists(st.sampled_from([0.1, 0.25, 0.3, 0.45, 0.5, 0.6, 0.75, 1.0]), min_size=1, max_size=4)


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_no_way_to_place_them_takes_fewer_gpus_or_has_better_groups(sizes: list[float], data: st.DataObject):
    replicas = data.draw(st.lists(st.integers(1, 2), min_size=len(sizes), max_size=len(sizes)))
    groups = all_groups(replicas, sizes)
    found = fewest_gpus(replicas, groups)
    assert [sum(m in group for group in found) for m in range(len(sizes))] == replicas
    allowed = [way for way in every_packing(replicas) if all(frozenset(gpu) in groups for gpu in way)]
    least = min((len(way), sorted((groups[frozenset(gpu)] for gpu in way), reverse=True)) for way in allowed)
    assert (len(found), sorted((groups[group] for group in found), reverse=True)) == least


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_first_fit_decreasing_is_a_packing_and_within_its_bound(sizes: list[float], data: st.DataObject):
    replicas = data.draw(st.lists(st.integers(1, 2), min_size=len(sizes), max_size=len(sizes)))
    groups = all_groups(replicas, sizes)
    found = first_fit_decreasing(replicas, sizes, groups.__contains__)
    assert [sum(m in group for group in found) for m in range(len(sizes))] == replicas
    assert all(group in groups for group in found)
    assert len(fewest_gpus(replicas, groups)) <= len(found) <= sum(replicas)
    if max(replicas) == 1:  # Dosa 2007; two replicas of a model never share, which that bound does not know
        assert len(found) <= 11 / 9 * len(fewest_gpus(replicas, groups)) + 6 / 9


@pytest.mark.parametrize(("models", "work"), [(6, 0.5), (6, 0.34), (5, 0.2), (4, 0.51), (6, 0.33)])
def test_equal_models_that_take_turns_need_as_many_gpus_as_their_utilisations_add_up_to(models: int, work: float):
    turns = tuple(map(float, range(1, models + 1)))

    def fits(group: Group) -> bool:
        return len(group) * work <= throughput(turns, len(group))

    groups = dict.fromkeys(sharing_groups(models, models, fits), 0.0)
    assert len(fewest_gpus([1] * models, groups)) == math.ceil(models / math.floor(1 / work))


def test_a_gpu_does_as_much_as_its_best_number_of_busy_replicas():
    assert throughput((1.0, 2.0, 3.0), 3) == 1  # they take turns
    assert throughput((1.0, 1.48), 1) == 1
    assert throughput((1.0, 1.48), 2) == pytest.approx(2 / 1.48)
    assert throughput((1.0, 1.25, 3.0), 3) == 1.6  # three at once hinder each other more than they do together
    assert throughput((1.0,), 4) == 4  # slices that know nothing of each other


def test_a_group_is_looked_at_only_if_all_smaller_ones_in_it_fit():
    looked: list[Group] = []

    def fits(group: Group) -> bool:
        looked.append(group)
        return group not in ({2, 3}, {0, 1, 3})

    found = sharing_groups(4, 4, fits)
    ones, pairs = ([frozenset(group) for group in combinations(range(4), size)] for size in (1, 2))
    assert found[:4] == ones
    assert set(found[4:]) == {pair for pair in pairs if pair != {2, 3}} | {frozenset({0, 1, 2})}
    assert looked == [*pairs, frozenset({0, 1, 2}), frozenset({0, 1, 3})]


def test_no_more_replicas_share_a_gpu_than_it_has_shares():
    assert max(map(len, sharing_groups(5, 3, lambda group: True))) == 3


def test_a_model_that_is_in_no_group_cannot_be_placed():
    with pytest.raises(ValueError, match="model 1"):
        fewest_gpus([1, 1], {frozenset({0}): 0.0})
