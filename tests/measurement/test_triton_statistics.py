"""Batch statistics: reading them, and what two readings tell of the time between."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import CalibrationError, ServingError
from testbed.measurement.triton_statistics import BatchStatistics, ModelStatistics, difference, parse_statistics


def stage(count, ns):
    return {"count": count, "ns": ns}


def answer(batches, succeeded=0, queue_ns=0, version="1"):
    """An answer of /v2/models/m/stats; batches: size -> (executions, input, infer, output ns)."""
    return {
        "name": "m",
        "version": version,
        "inference_stats": {
            "success": stage(succeeded, 10 * queue_ns),
            "fail": stage(0, 0),
            "queue": stage(0, queue_ns),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": stage(executions, ns_in),
                "compute_infer": stage(executions, ns_infer),
                "compute_output": stage(executions, ns_out),
            }
            for size, (executions, ns_in, ns_infer, ns_out) in batches.items()
        ],
    }


def read(*versions):
    return parse_statistics(json.dumps({"model_stats": versions}), "m")


def test_the_mean_of_the_time_between_two_readings_is_not_the_mean_since_loading():
    before = read(answer({1: (2, 1_000_000, 90_000_000, 1_000_000)}, succeeded=2, queue_ns=5))  # a slow warm-up
    after = read(answer({1: (6, 2_000_000, 120_000_000, 2_000_000), 4: (3, 3_000_000, 60_000_000, 3_000_000)}, 18, 105))
    between = difference(before, after)
    assert (between.succeeded, between.queue_ns, between.executions) == (16, 100, 7)
    assert between.batches[1].executions == 4
    assert between.batches[1].mean_compute_s == pytest.approx(0.008)
    assert between.batches[4].mean_compute_s == pytest.approx(0.022)


def test_a_size_that_did_not_run_in_between_has_no_entry():
    before = read(answer({1: (2, 1, 1, 1)}))
    assert difference(before, read(answer({1: (2, 1, 1, 1), 2: (1, 1, 1, 1)}))).batches.keys() == {2}


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_versions_the_newest_counts_which_answers_requests_that_name_none(order):
    versions = [answer({2: (1, 0, 10, 0)}, succeeded=2, version="9"), answer({2: (3, 0, 50, 0)}, 6, version="10")]
    newest = read(*versions[::order])
    assert newest.batches == {2: BatchStatistics(3, 50)}
    assert newest.succeeded == 6


def test_a_server_that_started_anew_in_between_is_refused():
    with pytest.raises(CalibrationError, match="went back"):
        difference(read(answer({1: (9, 1, 1, 1)})), read(answer({1: (2, 1, 1, 1)})))


NEGATIVE = """{"model_stats": [{"name": "m", "batch_stats": [], "inference_stats":
    {"success": {"count": -7, "ns": 1}, "fail": {"count": 0, "ns": 0}, "queue": {"count": 0, "ns": 0}}}]}"""


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"model_stats":[]}', '{"model_stats":[{"name":"m"}]}'),
        *('{"model_stats":[{"name":"m","inference_stats":[]}]}', "[" * 100_000),
        *(NEGATIVE, NEGATIVE.replace("-7", "1e999"), NEGATIVE.replace("-7", "NaN")),
    ],
    ids=lambda text: text[:40],
)
def test_an_answer_that_is_no_statistics_is_refused(text):
    with pytest.raises(ServingError, match="statistics of 'm' cannot be read"):
        parse_statistics(text, "m")


counts = st.integers(0, 10**15)
readings = st.builds(
    ModelStatistics,
    st.just("m"),
    counts,
    counts,
    counts,
    counts,
    st.dictionaries(st.integers(1, 8), st.builds(BatchStatistics, st.integers(1, 10**9), counts), max_size=8),
)


def plus(a, b):
    batches = {
        size: BatchStatistics(
            sum(s.batches[size].executions for s in (a, b) if size in s.batches),
            sum(s.batches[size].compute_ns for s in (a, b) if size in s.batches),
        )
        for size in a.batches.keys() | b.batches.keys()
    }
    return ModelStatistics(
        "m",
        a.succeeded + b.succeeded,
        a.failed + b.failed,
        a.queue_ns + b.queue_ns,
        a.request_ns + b.request_ns,
        batches,
    )


@given(readings, readings)
def test_difference_gives_back_exactly_what_was_added(before, happened):
    assert difference(before, plus(before, happened)) == happened
