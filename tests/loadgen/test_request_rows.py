"""Rows of requests: drawn by seed, kept with the arrivals, sent as asked for, refused where a model takes fewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from loadgen.patterns import Constant
from loadgen.request_rows import RowsError, parse_rows, refuse_too_many, with_rows
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.share import slice_schedule
from testbed.config import RequestTraffic, StudyConfig, TrafficConfig

PLAIN = poisson_schedule(Constant(rate=1000), 4, 1, "m")
MIXED = with_rows(PLAIN, {1: 3.0, 8: 1.0}, 5)


def test_rows_are_drawn_by_their_weights_and_by_seed() -> None:
    assert MIXED.rows is not None
    assert set(MIXED.rows.tolist()) == {1, 8}
    assert (MIXED.rows == 8).mean() == pytest.approx(0.25, abs=0.03)
    assert with_rows(PLAIN, {1: 3.0, 8: 1.0}, 5).same_requests(MIXED)
    assert not with_rows(PLAIN, {1: 3.0, 8: 1.0}, 6).same_requests(MIXED)
    assert not PLAIN.same_requests(MIXED)


def test_rows_stay_with_their_requests(tmp_path: Path) -> None:
    MIXED.write(tmp_path / "schedule.parquet")
    back = Schedule.read(tmp_path / "schedule.parquet")
    assert back.same_requests(MIXED)
    middle = back.since(1.0).until(2.0)
    inside = (MIXED.scheduled_s >= 1.0) & (MIXED.scheduled_s < 3.0)
    assert middle.rows is not None
    assert middle.rows.tolist() == MIXED.rows[inside].tolist()


def test_each_number_of_rows_is_a_kind_of_request_of_its_own() -> None:
    share = slice_schedule(MIXED, 1, 2, None)
    assert {kind.rows for kind in share.kinds} == {1, 8}
    assert [share.kinds[kind].rows for kind in share.kind_index] == MIXED.rows[1::2].tolist()


@pytest.mark.parametrize(("text", "shares"), [("4", {4: 1.0}), ("1:0.7,8:0.3", {1: 0.7, 8: 0.3})])
def test_rows_as_they_are_typed(text: str, shares: dict[int, float]) -> None:
    assert parse_rows(text) == shares


@pytest.mark.parametrize("text", ["four", "0", "1:-1", "1:0", "1:2:3", ""])
def test_rows_that_make_no_sense_are_one_line(text: str) -> None:
    with pytest.raises(RowsError, match=r"--batch .*: give rows of each request"):
        parse_rows(text)


def test_in_a_file_they_are_a_number_or_weights() -> None:
    assert RequestTraffic.model_validate({"batch": 4}).batch == {4: 1.0}
    assert RequestTraffic.model_validate({"batch": {"1": 2, "3": 1}}).batch == {1: 2.0, 3: 1.0}
    with pytest.raises(ValidationError, match="rows of 1 or more"):
        RequestTraffic.model_validate({"batch": {}})


def test_they_are_refused_where_nothing_heeds_them_and_where_they_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="batch"):  # of a cluster, of a search
        TrafficConfig.model_validate({"batch": 4})
    with pytest.raises(ValidationError, match="batch has requests of 9 rows, max_batch_size is 8"):
        StudyConfig.model_validate({"model": "resnet50", "batch": 9})
    with pytest.raises(RowsError, match="requests of 8 rows, and model 'm' takes at most 4 in one"):
        refuse_too_many(MIXED, "m", 4)
    refuse_too_many(MIXED, "m", 8)
    refuse_too_many(PLAIN, "m", 1)
    assert np.all(PLAIN.scheduled_ns == MIXED.scheduled_ns)
