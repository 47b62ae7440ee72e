"""A budget of GPUs divided among models: what holds for any, against all divisions that there are, and by example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.autoscaling.budget import Budget, Claim, GpuBudget, arrival_rate, divide
from testbed.autoscaling.live.scraper import LiveObservation
from testbed.autoscaling.observation import Scrape
from testbed.errors import ConfigError

OBJECTIVES = st.sampled_from(["fair", "sum"])
SIZES = st.sampled_from([Fraction(1, 7), Fraction(1, 4), Fraction(1, 3), Fraction(1), Fraction(2)])


@st.composite
def claims_of(draw: st.DrawFn, sizes: st.SearchStrategy[Fraction] = SIZES, most: int = 6) -> list[Claim]:
    """Some of whose minimum is above what they want."""
    return [
        Claim(
            model=f"m{k}",
            wanted=draw(st.integers(0, most)),
            held=draw(st.integers(0, most)),
            gpus=draw(sizes),
            min_replicas=draw(st.integers(0, 3)),
            weight=draw(st.fractions(Fraction(1, 8), 8, max_denominator=8)),
            capacity_rps=draw(st.floats(0.5, 500)),
            rate_rps=draw(st.none() | st.floats(0, 3000)),
        )
        for k in range(draw(st.integers(1, 4)))
    ]


@st.composite
def divisions(
    draw: st.DrawFn, sizes: st.SearchStrategy[Fraction] = SIZES, most: int = 6
) -> tuple[list[Claim], Fraction]:
    """Claims whose minima fit, and the GPUs."""
    claims = draw(claims_of(sizes, most))
    least = sum((claim.gpus * claim.min_replicas for claim in claims), Fraction(0))
    return claims, least + draw(st.fractions(0, 12, max_denominator=12))


def used(claims: Sequence[Claim], shares: dict[str, int]) -> Fraction:
    return sum((claim.gpus * shares[claim.model] for claim in claims), Fraction(0))


def all_divisions(claims: Sequence[Claim], gpus: Fraction) -> Iterator[dict[str, int]]:
    """Each that gives every model its minimum, nobody more than is wanted, and fits."""
    for counts in product(*(range(claim.least, claim.wanted + 1) for claim in claims)):
        shares = dict(zip((claim.model for claim in claims), counts, strict=True))
        if used(claims, shares) <= gpus:
            yield shares


def lowest(claims: Sequence[Claim], shares: dict[str, int]) -> Fraction | float:
    """How satisfied the least satisfied model is among those that lack something."""
    return min((c.satisfaction(shares[c.model]) for c in claims if shares[c.model] < c.wanted), default=inf)


@given(divisions(), OBJECTIVES)
def test_any_division_fits_is_within_bounds_and_leaves_nothing_that_somebody_could_use(case, objective):
    claims, gpus = case
    shares = divide(claims, gpus, objective)
    assert used(claims, shares) <= gpus
    for claim in claims:
        assert min(claim.min_replicas, claim.wanted) <= shares[claim.model] <= claim.wanted
        assert shares[claim.model] == claim.wanted or used(claims, shares) + claim.gpus > gpus


@given(divisions(), OBJECTIVES)
def test_what_is_wanted_is_given_if_it_fits(case, objective):
    claims, _ = case
    wants = {claim.model: claim.wanted for claim in claims}
    assert divide(claims, used(claims, wants), objective) == wants


@given(divisions(), OBJECTIVES, st.fractions(Fraction(1, 100), 100))
def test_the_scale_of_the_weights_changes_nothing(case, objective, factor):
    claims, gpus = case
    scaled = [replace(claim, weight=claim.weight * factor) for claim in claims]
    assert divide(scaled, gpus, objective) == divide(claims, gpus, objective)


@given(divisions(sizes=st.just(Fraction(1, 2)), most=4))
def test_sum_is_the_largest_sum_of_all_divisions(case):
    claims, gpus = case

    def total(shares: dict[str, int]) -> Fraction:
        return sum((claim.served(shares[claim.model]) for claim in claims), Fraction(0))

    assert total(divide(claims, gpus, "sum")) == max(map(total, all_divisions(claims, gpus)))


@given(divisions(most=4))
def test_fair_raises_the_least_satisfied_model_as_far_as_any_division(case):
    claims, gpus = case
    best = max(lowest(claims, shares) for shares in all_divisions(claims, gpus))
    assert lowest(claims, divide(claims, gpus, "fair")) == best


def shared(gpus: int, objective: str, *claims: Claim) -> dict[str, int]:
    return divide(claims, Fraction(gpus), objective)


def test_six_gpus_by_example():
    bert = Claim("bert", wanted=4, held=1, capacity_rps=100, rate_rps=400)
    resnet = Claim("resnet50", wanted=5, held=1, capacity_rps=1000, rate_rps=2500)
    assert shared(6, "fair", bert, resnet) == {"bert": 3, "resnet50": 3}
    assert shared(6, "sum", bert, resnet) == {"bert": 3, "resnet50": 3}  # a fourth resnet50 would serve nobody
    assert shared(5, "sum", bert, resnet) == {"bert": 2, "resnet50": 3}
    assert shared(6, "sum", bert, replace(resnet, rate_rps=None)) == {"bert": 1, "resnet50": 5}
    assert shared(6, "fair", replace(bert, weight=Fraction(2)), resnet) == {"bert": 4, "resnet50": 2}
    half = replace(resnet, gpus=Fraction(1, 2))
    assert shared(4, "fair", bert, half) == {"bert": 2, "resnet50": 4}
    assert shared(3, "sum", bert, replace(resnet, capacity_rps=60, rate_rps=None, gpus=Fraction(1, 2))) == {
        "bert": 1,  # 100 for its GPU, and two halves have 120
        "resnet50": 4,
    }
    on_cpus = replace(resnet, gpus=Fraction(0))
    assert shared(2, "fair", bert, on_cpus) == {"bert": 2, "resnet50": 5}


@pytest.mark.parametrize("objective", ["fair", "sum"])
def test_of_equals_the_first_is_served_first(objective):
    twins = [Claim(name, wanted=3, held=1, capacity_rps=1) for name in ("b", "a")]
    assert divide(twins, Fraction(3), objective) == {"b": 2, "a": 1}


def budget(gpus: float, *claims: Claim, **more: str) -> GpuBudget:
    return GpuBudget(Budget(gpus=gpus, **more), claims)


def test_what_is_cut_and_why_is_said_in_words():
    one = budget(6, Claim("bert", wanted=4, held=2), Claim("resnet50", wanted=5, held=2))
    assert one.grant("resnet50", 2) == (3, "wants 5, has 3: 6 GPUs for bert (3 of 4) and resnet50 (3 of 5)")
    assert budget(6, Claim("bert", wanted=4, held=2)).grant("bert", 2) == (4, "")


def test_nobody_has_a_gpu_before_another_has_given_it_back():
    one = budget(4, Claim("a", wanted=3, held=3), Claim("b", wanted=3, held=1))
    assert one.grant("b", 1) == (1, "wants 3, has 1 until 1 GPU is free: 4 GPUs for a (2 of 3) and b (2 of 3)")
    assert one.grant("a", 3).replicas == 2
    assert one.grant("b", 1).replicas == 1  # a's third pod is going away, and is there still
    one.note("a", held=2)
    assert one.grant("b", 1).replicas == 2
    assert one.free == 0


def test_a_gpu_that_was_given_is_given_once():
    one = budget(3, Claim("a", wanted=3, held=1), Claim("b", wanted=1, held=1))
    assert one.grant("a", 1).replicas == 2
    one.note("b", wanted=3)
    assert one.grant("b", 1).replicas == 1  # as the pod of a is not made yet


def test_who_cannot_be_seen_keeps_what_it_has():
    one = budget(4, Claim("a", wanted=1, held=3, keeps=True), Claim("b", wanted=4, held=1))
    assert one.grant("b", 1) == (1, "wants 4, has 1: 4 GPUs for a (keeps 3) and b (1 of 4)")
    crowded = budget(4, Claim("a", wanted=1, held=3, keeps=True), Claim("b", wanted=3, held=1, min_replicas=2))
    assert crowded.grant("b", 1).replicas == 1, "not even its minimum: there is no GPU"


def scrape(time_s: float, answered: float, waiting: float, sent: float | None = None) -> Scrape:
    one = {name: np.zeros(1) for name in ("queue_s", "compute_s", "active_s", "cpu_s")}
    return Scrape(time_s, ("p",), requests=np.array([answered]), waiting=np.array([waiting]), sent=sent, **one)


def test_the_arrivals_are_those_answered_and_what_the_queue_has_grown_by_or_those_sent():
    def rate(*scrapes: Scrape) -> float | None:
        return arrival_rate(LiveObservation(30.0, 1, [], scrapes))

    assert rate(scrape(0.0, 0, 0), scrape(15.0, 90, 30), scrape(30.0, 240, 75)) == (150 + 45) / 15
    assert rate(scrape(15.0, 90, 30, 100.0), scrape(30.0, 240, 75, 400.0)) == 300 / 15
    assert rate(scrape(15.0, 90, 30), scrape(30.0, np.nan, 75)) is None
    assert rate(scrape(30.0, 240, 75)) is None


def test_minima_that_do_not_fit_are_one_line():
    claims = [Claim("bert", wanted=2, held=2, min_replicas=2), Claim("resnet50", wanted=5, held=1, min_replicas=5)]
    with pytest.raises(ConfigError, match=r"min_replicas \(bert 2, resnet50 5\) take 7 GPUs, gpus is 6: raise gpus"):
        budget(6, *claims)


@pytest.mark.parametrize(("given", "gpus"), [("1/3", Fraction(1, 3)), (0.1, Fraction(1, 10)), (6, Fraction(6))])
def test_gpus_are_exact(given, gpus):
    one = Budget(gpus=given)
    assert one.gpus == gpus
    assert Budget.model_validate_json(one.model_dump_json()) == one
