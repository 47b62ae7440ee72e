"""Numbers that compress come back as they were."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from testbed.archive.coding import from_steps, in_units, scale_of, steps

times = st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=50)


@given(st.lists(st.tuples(st.integers(-(10**15), 10**15), st.sampled_from("abc")), min_size=1, max_size=50))
def test_steps_within_groups_come_back_as_the_values(rows: list[tuple[int, str]]) -> None:
    values, groups = np.array([v for v, _ in rows]), np.array([g for _, g in rows], dtype=object)
    assert from_steps(steps(values, [groups]), [groups]).tolist() == values.tolist()


def test_a_group_begins_with_its_own_first_value() -> None:
    found = steps(np.array([100, 7, 103, 9]), [np.array(["a", "b", "a", "b"], dtype=object)])
    assert found.tolist() == [100, 7, 3, 2]


@given(times, st.sampled_from([1, 2, 1000, 10_000]))
def test_at_most_half_a_unit_is_lost(values: list[int], unit_ns: int) -> None:
    lost = in_units(np.array(values), unit_ns) * unit_ns - np.array(values)
    assert np.abs(lost).max() <= unit_ns / 2


def test_the_scale_is_the_smallest_with_which_all_values_are_whole() -> None:
    assert scale_of(np.array([3.0, 5.0])) == 1
    assert scale_of(np.array([0.0, 0.25])) == 1000
    assert scale_of(np.array([0.1 + 0.2])) == 1000
    assert scale_of(np.array([1 / 3])) is None
    assert scale_of(np.array([np.nan])) is None
