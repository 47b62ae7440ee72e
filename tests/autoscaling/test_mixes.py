"""What a mix of GPU kinds serves and costs, and which is the cheapest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.autoscaling.mixes import KindScale, Mixes, mixes_of
from tests.oracles.two_kinds import two_kinds
from workloads.errors import KisError

FAST, SLOW = KindScale(per_replica_rps=500, gpu_cost=1.0), KindScale(per_replica_rps=100, gpu_cost=0.3)


def mixes(*, most: tuple[int, int] = (2, 6), max_replicas: int = 8, even: bool = False) -> Mixes:
    return Mixes({"fast": FAST, "slow": SLOW}, most, max_replicas, even)


@pytest.mark.parametrize(
    ("rate_rps", "expected"),
    [
        (0, (0, 1)),  # one replica there is always
        (100, (0, 1)),
        (101, (0, 2)),
        (300, (0, 3)),
        (301, (1, 0)),  # four slow ones would cost 1.2
        (501, (1, 1)),
        (801, (2, 0)),
        (1600, (2, 6)),
        (5000, (2, 6)),  # nothing serves it
    ],
)
def test_the_cheapest_mix_that_serves_a_rate(rate_rps: float, expected: tuple[int, int]) -> None:
    assert mixes().cheapest(rate_rps) == expected


def test_a_balancer_that_looks_at_nobody_fills_the_slowest_first() -> None:
    assert mixes().capacity_rps((1, 1)) == 600
    assert mixes(even=True).capacity_rps((1, 1)) == 200
    assert mixes(even=True).capacity_rps((2, 0)) == 1000
    assert mixes(even=True).capacity_rps((0, 0)) == 0
    assert mixes(even=True).cheapest(601) == (2, 0)  # one of each serves less than one fast one


@given(st.floats(0, 2000), st.floats(0, 2000), st.booleans(), st.integers(1, 8))
def test_more_requests_never_cost_less(one: float, other: float, even: bool, max_replicas: int) -> None:
    known = mixes(even=even, max_replicas=max_replicas)
    low, high = (known.cheapest(rate) for rate in sorted((one, other)))
    if known.capacity_rps(high) >= max(one, other):
        assert low @ known.costs <= high @ known.costs + 1e-9
    for rate, counts in zip(sorted((one, other)), (low, high), strict=True):
        assert 1 <= sum(counts) <= max_replicas
        reachable = known.reference_rps * max_replicas
        assert known.capacity_rps(counts) >= min(rate, reachable) * (1 - 1e-6)


def test_one_kind_alone_and_slower_worlds() -> None:
    assert mixes().only("slow").cheapest(450) == (0, 5)
    assert mixes().slower(2.0).cheapest(100) == (0, 2)
    assert mixes().slower(2.0).reference_rps == pytest.approx(mixes().reference_rps / 2)


def test_it_is_read_off_a_cluster() -> None:
    found = mixes_of(two_kinds(fast=2, slow=20), {"fast": FAST, "slow": SLOW})
    assert (found.most, found.max_replicas, found.even) == ((2, 8), 8, False)
    assert mixes_of(two_kinds(balancer="random"), {"fast": FAST, "slow": SLOW}).even
    with pytest.raises(KisError, match="placement has fast, model 'm' has profiles for fast, slow"):
        mixes_of(two_kinds(), {"fast": FAST})


def test_the_dearest_mix() -> None:
    assert mixes().dearest == pytest.approx(2 * 1.0 + 6 * 0.3)
    assert mixes(max_replicas=3).dearest == pytest.approx(2 * 1.0 + 0.3)
