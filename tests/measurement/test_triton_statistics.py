"""Batch statistics: reading them."""

import json

import pytest

from testbed.errors import ServingError
from testbed.measurement.triton_statistics import BatchStatistics, parse_statistics


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


def test_batches_are_told_by_size_with_all_of_their_time():
    told = read(answer({1: (6, 2_000_000, 120_000_000, 2_000_000), 4: (3, 3_000_000, 60_000_000, 3_000_000)}, 18, 105))
    assert (told.succeeded, told.queue_ns, told.executions) == (18, 105, 9)
    assert told.batches == {1: BatchStatistics(6, 124_000_000), 4: BatchStatistics(3, 66_000_000)}


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_versions_the_newest_counts_which_answers_requests_that_name_none(order):
    versions = [answer({2: (1, 0, 10, 0)}, succeeded=2, version="9"), answer({2: (3, 0, 50, 0)}, 6, version="10")]
    newest = read(*versions[::order])
    assert newest.batches == {2: BatchStatistics(3, 50)}
    assert newest.succeeded == 6


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


def test_zeros_that_were_left_out_are_zeros():
    """JSON of protobuf has none, and writes 64-bit numbers as texts."""
    times = {stage: {} for stage in ("compute_input", "compute_output")} | {"compute_infer": {"count": "3", "ns": "9"}}
    entry = {"name": "m", "inference_stats": {"success": {"count": "3076", "ns": "9"}, "fail": {}, "queue": {}}}
    text = json.dumps({"model_stats": [{**entry, "batch_stats": [{"batch_size": "1", **times}]}]})
    read = parse_statistics(text, "m")
    assert (read.succeeded, read.queue_ns, read.batches[1].executions, read.batches[1].compute_ns) == (3076, 0, 3, 9)
