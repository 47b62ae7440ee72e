"""Another configuration of a running model: what is asked for (pure), and a real server that loads it, or does not."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.discovery import service_config
from testbed.errors import ServingError
from testbed.serving.model_control import as_pbtxt, configured_as
from workloads.catalog import DynamicBatching, ServiceConfig

OWN: dict[str, Any] = {
    "name": "own",
    "backend": "python",
    "max_batch_size": 16,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["4"]}],
    "instance_group": [{"count": 2, "kind": "KIND_GPU", "gpus": [0, 1]}],
    "dynamic_batching": {"default_queue_policy": {"max_queue_size": 64}, "preferred_batch_size": [8]},
    "parameters": {"key": {"string_value": "value"}},
}
SETTING = ServiceConfig(
    instances=4, max_batch_size=8, dynamic_batching=DynamicBatching(max_queue_delay_s=0.002, preferred_batch_sizes=(4,))
)


def test_a_setting_replaces_instances_and_batching_and_nothing_else():
    made = configured_as(OWN, SETTING)
    assert made["instance_group"] == [{"count": 2, "kind": "KIND_GPU", "gpus": [0, 1]}]  # on each of two GPUs
    assert made["max_batch_size"] == 8
    assert made["dynamic_batching"] == {
        "default_queue_policy": {"max_queue_size": 64},
        "preferred_batch_size": [4],
        "max_queue_delay_microseconds": 2000,
    }
    assert {key: made[key] for key in ("name", "input", "output", "parameters")} == {
        key: OWN[key] for key in ("name", "input", "output", "parameters")
    }
    assert OWN["max_batch_size"] == 16  # untouched


def test_what_is_asked_for_is_what_a_server_would_describe():
    described = service_config(configured_as(OWN, SETTING))
    assert (described.instances, described.max_batch_size) == (4, 8)
    assert described.dynamic_batching is not None
    assert described.dynamic_batching.max_queue_delay_s == 0.002
    assert described.dynamic_batching.max_queue_size == 64


def test_instances_that_do_not_fit_the_gpus_are_refused():
    with pytest.raises(ServingError, match="3 instances cannot be spread evenly over 2 GPUs: give a multiple"):
        configured_as(OWN, SETTING.model_copy(update={"instances": 3}))


def test_a_model_without_a_batch_dimension_keeps_it():
    own = {**OWN, "max_batch_size": 0, "dynamic_batching": None}
    made = configured_as(own, ServiceConfig(instances=2, max_batch_size=1, dynamic_batching=None))
    assert made["max_batch_size"] == 0
    assert "dynamic_batching" not in made


def test_the_text_is_the_same_configuration():
    parsed = text_format.Parse(as_pbtxt(configured_as(OWN, SETTING)), model_config_pb2.ModelConfig())
    assert parsed.max_batch_size == 8
    assert parsed.instance_group[0].count == 2
    assert parsed.dynamic_batching.max_queue_delay_microseconds == 2000
    assert parsed.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert parsed.parameters["key"].string_value == "value"
