"""Lengths of requests: drawn as asked, kept with the schedule, and sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from loadgen.lengths import (
    Lengths,
    LengthsError,
    ListedLengths,
    LogNormalLengths,
    all_of,
    parse_lengths,
    with_lengths,
)
from loadgen.patterns import Constant
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.share import slice_schedule
from loadgen.transport import request_tensors
from workloads.catalog import ServiceConfig, find_model

SCHEDULE = poisson_schedule(Constant(rate=1000.0), 10.0, 3, "bert")


def test_lengths_have_their_median_and_their_spread_and_stay_in_range() -> None:
    lengths = LogNormalLengths(median=40, sigma=0.5, longest=128)
    drawn = lengths.draw(100_000, np.random.default_rng(1))
    assert np.median(drawn) == pytest.approx(40, abs=1)
    inside = drawn[(drawn > 1) & (drawn < 128)]
    assert np.log(inside).std() == pytest.approx(0.5, rel=0.05)
    assert (drawn.min(), drawn.max()) >= (1, 128)


def test_listed_lengths_have_their_weights() -> None:
    drawn = ListedLengths(tokens=(16, 128), weights=(3, 1)).draw(10_000, np.random.default_rng(1))
    assert np.mean(drawn == 16) == pytest.approx(0.75, abs=0.02)
    assert set(drawn) == {16, 128}
    assert set(ListedLengths(tokens=(8, 9)).draw(100, np.random.default_rng(1))) == {8, 9}


@pytest.mark.parametrize(
    "lengths",
    [LogNormalLengths(median=40, sigma=0.7, longest=128), ListedLengths(tokens=(16, 128, 64), weights=(3, 1, 2))],
)
def test_the_share_within_a_length_is_that_of_what_is_drawn(lengths: Lengths) -> None:
    drawn = lengths.draw(200_000, np.random.default_rng(2))
    for tokens in (1, 16, 40, 63, 64, 127, 128, 500):
        assert lengths.share_within(tokens) == pytest.approx(np.mean(drawn <= tokens), abs=0.004)


def test_lengths_are_typed_in_two_ways() -> None:
    assert parse_lengths("40:0.6:128") == LogNormalLengths(median=40, sigma=0.6, longest=128)
    assert parse_lengths("16,64") == ListedLengths(tokens=(16, 64))
    for text in ("", "40:0.6", "a,b", "0:1:2", "1:1:0.5"):
        with pytest.raises(LengthsError, match="give MEDIAN:SIGMA:LONGEST"):
            parse_lengths(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tokens": [0]}, "1 token or more"),
        ({"tokens": [1, 2], "weights": [1]}, "a weight for each of 2"),
        ({"median": 0, "sigma": 1, "longest": 8}, "greater than 0"),
        ({"mean": 5}, "Extra inputs"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Lengths).validate_python(given)


def test_the_same_seed_gives_the_same_lengths_and_other_arrivals_do_not_change_them() -> None:
    lengths = LogNormalLengths(median=40, sigma=0.5, longest=128)
    first, second = (with_lengths(SCHEDULE, lengths, 7).tokens for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first == second).all()
    other = with_lengths(poisson_schedule(Constant(rate=500.0), 10.0, 9, "bert"), lengths, 7).tokens
    assert other is not None
    assert (other == first[: len(other)]).all()


def test_a_schedule_keeps_its_lengths_and_one_without_has_none(tmp_path: Path) -> None:
    made = all_of(SCHEDULE, 64)
    made.write(tmp_path / "with.parquet")
    back = Schedule.read(tmp_path / "with.parquet")
    assert back.tokens is not None
    assert back.tokens.tolist() == [64] * len(SCHEDULE)
    assert back.provenance["lengths"] == {"tokens": [64]}
    SCHEDULE.write(tmp_path / "without.parquet")
    assert Schedule.read(tmp_path / "without.parquet").tokens is None


def test_each_process_sends_the_lengths_of_its_own_requests() -> None:
    made = with_lengths(SCHEDULE, ListedLengths(tokens=(16, 32, 128)), 1)
    assert made.tokens is not None
    for worker in range(2):
        share = slice_schedule(made, worker, 2, None)
        sent = [share.kinds[k].tokens for k in share.kind_index.tolist()]
        assert sent == made.tokens[worker::2].tolist()
        assert {kind.model for kind in share.kinds} == {"bert"}


def test_a_request_is_as_long_as_it_says() -> None:
    inputs = find_model("bert").served_inputs(ServiceConfig(length_buckets=(32, 128)))
    for tokens in (1, 77):
        tensors = request_tensors(inputs, True, 0, tokens)
        assert {data.shape for _, data in tensors.values()} == {(1, tokens)}
