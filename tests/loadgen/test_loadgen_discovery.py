from __future__ import annotations

import copy

import pytest
from fake_http_server import FakeServer

from loadgen.discovery import DiscoveryError, list_models, model_tensors, parse_shapes, service_config, the_model
from workloads.catalog import DynamicBatching


@pytest.fixture
def server():
    with FakeServer() as server:
        yield server


def test_a_models_tensors_and_rules_are_read_from_the_server(server):
    served = model_tensors(server.address, "toy")
    assert served.inputs[0].model_dump() == {"name": "x", "datatype": "FP32", "shape": (4,)}  # no batch dimension
    assert served.outputs[0].name == "y"
    assert served.batched
    assert (served.service.instances, served.service.max_batch_size) == (2, 8)
    assert served.service.dynamic_batching == DynamicBatching()


def test_free_dimensions_must_be_told(server):
    metadata, config = copy.deepcopy(server.models["toy"])
    metadata["inputs"][0]["shape"] = [-1, -1, 3]
    server.models["toy"] = (metadata, config)
    with pytest.raises(DiscoveryError, match=r"leaves sizes of input 'x' free, \[-1, 3\]: .* --shape x:128,3"):
        model_tensors(server.address, "toy")
    assert model_tensors(server.address, "toy", {"x": (7, 3)}).inputs[0].shape == (7, 3)
    with pytest.raises(DiscoveryError, match=r"\[7, 4\] does not fit"):
        model_tensors(server.address, "toy", {"x": (7, 4)})
    with pytest.raises(DiscoveryError, match="no input 'z': its inputs are x"):
        model_tensors(server.address, "toy", {"x": (7, 3), "z": (1,)})


def test_shapes_are_read_as_they_are_typed():
    assert parse_shapes(["input_ids:128", "image:3,224,224"]) == {"input_ids": (128,), "image": (3, 224, 224)}
    assert parse_shapes(["edges:0,2", "ids:1,-1"]) == {"edges": (0, 2), "ids": (1, -1)}
    for wrong in ("128", "x:", "x:a", "x:-2", "x:1.5"):
        with pytest.raises(DiscoveryError, match="give NAME:D1,D2"):
            parse_shapes([wrong])


def test_a_model_without_batching_has_no_batch_dimension(server):
    metadata, config = copy.deepcopy(server.models["toy"])
    metadata["inputs"][0]["shape"] = [2, 4]
    server.models["toy"] = (metadata, {**config, "max_batch_size": 0})
    served = model_tensors(server.address, "toy")
    assert not served.batched
    assert served.inputs[0].shape == (2, 4)
    assert served.service.max_batch_size == 1
    assert served.service.dynamic_batching is None


def test_queue_policy_and_preferred_sizes_are_read():
    config = {
        "max_batch_size": 16,
        "instance_group": [{"count": 2, "gpus": [0, 1]}, {"count": 1}],
        "dynamic_batching": {
            "preferred_batch_size": [4, 8],
            "max_queue_delay_microseconds": "2500",  # Triton writes 64-bit numbers as text
            "default_queue_policy": {
                "timeout_action": "DELAY",
                "default_timeout_microseconds": 50_000,
                "max_queue_size": 64,
                "allow_timeout_override": True,
            },
        },
    }
    service = service_config(config)
    assert service.instances == 5  # two on each of two GPUs, and one
    assert service.dynamic_batching == DynamicBatching(
        preferred_batch_sizes=(4, 8),
        max_queue_delay_s=0.0025,
        default_timeout_s=0.05,
        timeout_action="DELAY",
        max_queue_size=64,
        allow_timeout_override=True,
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ensemble_scheduling": {"step": []}}, "ensemble"),
        ({"platform": "ensemble"}, "ensemble"),
        ({"response_cache": {"enable": True}}, "response cache"),
        ({"instance_group": [{"rate_limiter": {"resources": [{"name": "R", "count": 1}]}}]}, "rate limiter"),
        ({"dynamic_batching": {"priority_levels": "2"}}, "priority levels"),
        ({"dynamic_batching": {"priority_levels": 1}}, "priority levels"),  # it turns prefetching off all the same
        ({"dynamic_batching": {"preserve_ordering": True}, "instance_group": [{"count": 2}]}, "preserve_ordering"),
        ({"instance_group": [{"kind": "KIND_GPU"}, {"kind": "KIND_CPU"}]}, "KIND_CPU, KIND_GPU"),
    ],
)
def test_what_no_simulation_models_is_named(server, changes, named):
    metadata, config = server.models["toy"]
    assert model_tensors(server.address, "toy").unmodelled == ()
    server.models["toy"] = (metadata, {**config, **changes})
    (found,) = model_tensors(server.address, "toy").unmodelled
    assert named in found


@pytest.mark.parametrize(
    "changes", [{"model_transaction_policy": {"decoupled": True}}, {"sequence_batching": {"direct": {}}}]
)
def test_what_cannot_be_sent_one_by_one_is_refused(server, changes):
    metadata, config = server.models["toy"]
    server.models["toy"] = (metadata, {**config, **changes})
    with pytest.raises(DiscoveryError, match=r"model 'toy' is a sequence model|model 'toy' is decoupled"):
        model_tensors(server.address, "toy")


def test_the_only_model_need_not_be_named(server):
    assert list_models(server.address) == ("toy",)
    assert the_model(server.address, None) == "toy"
    server.models["other"] = server.models["toy"]
    with pytest.raises(DiscoveryError, match=r"2 ready models \(other, toy\): name one with --model"):
        the_model(server.address, None)
    assert the_model(server.address, "toy") == "toy"


def test_an_unknown_model_is_one_line_with_tritons_reason(server):
    with pytest.raises(DiscoveryError) as refusal:
        model_tensors(server.address, "toi")
    assert "model 'toi'" in str(refusal.value)
    assert "is not found" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_nobody_there():
    with pytest.raises(DiscoveryError, match=r"no Triton answers at 127\.0\.0\.1:1"):
        model_tensors("127.0.0.1:1", "toy")
