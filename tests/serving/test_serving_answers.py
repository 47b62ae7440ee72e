"""A real tritonserver gives right values (not just HTTP 200) for each model, and its backend logs every request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tritonclient.utils import InferenceServerException

from testbed.measurement.batch_log import RECORD
from workloads.backends.bert_network import build as build_bert
from workloads.backends.resnet_network import build as build_resnet50
from workloads.catalog import DynamicBatching, ServiceConfig

pytestmark = pytest.mark.server


def read_logs(folder: Path) -> np.ndarray:
    return np.concatenate([np.fromfile(file, dtype=RECORD) for file in sorted(folder.glob("*.bin"))])


def test_emulated_answers_its_input_and_logs_each_request_once(
    make_service: Any, infer: Any, together: Any, options: Any
) -> None:
    with make_service(config=ServiceConfig(instances=2)) as service:
        address = service.endpoints()[0].http

        def ask(number: int) -> np.ndarray:
            x = np.full((1, 4), number, np.float32) + np.arange(4, dtype=np.float32)
            return infer(address, "emulated", {"x": x}, str(number)) - x  # zeros if the right rows came back

        differences = together(ask, list(range(60)))
        two_rows = infer(address, "emulated", {"x": np.full((2, 4), 7, np.float32)}, "a name")
        folder = options.batch_log_dir / "replica-0"
    assert all((difference == 0).all() for difference in differences)
    assert two_rows.tolist() == [[7.0] * 4] * 2
    assert {file.name for file in folder.iterdir()} == {"emulated_0_0.bin", "emulated_0_1.bin"}
    log = read_logs(folder)
    named, numbered = log[log["request_id"] == -1], log[log["request_id"] >= 0]
    assert (named["batch_size"].tolist(), named["position"].tolist()) == ([2], [0])
    assert sorted(numbered["request_id"]) == list(range(60))
    assert 1 < numbered["batch_size"].max() <= 8, "60 requests at once were never batched, or too many"
    for start_ns in set(numbered["start_ns"]):
        batch = numbered[numbered["start_ns"] == start_ns]
        assert sorted(batch["position"]) == list(range(batch["batch_size"][0]))
    mean_ns = np.array(options.emulated.mean_s)[log["batch_size"] - 1] * 1e9
    assert (log["end_ns"] - log["start_ns"] >= mean_ns.astype(int)).all(), "a batch ended before its time"


def test_without_dynamic_batching_every_request_is_a_batch(
    make_service: Any, infer: Any, together: Any, options: Any
) -> None:
    with make_service(config=ServiceConfig(dynamic_batching=None)) as service:
        address = service.endpoints()[0].http
        together(lambda _: infer(address, "emulated", {"x": np.zeros((1, 4), np.float32)}), list(range(20)))
        log = read_logs(options.batch_log_dir / "replica-0")
    assert log["batch_size"].tolist() == [1] * 20


def test_resnet_answers_as_the_same_network_does_here(
    make_service: Any, infer: Any, together: Callable[..., list[Any]], options: Any
) -> None:
    images = np.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype(np.float32)
    parts = [images[0:1], images[1:2], images[2:4]]  # sent at once: they are cut out of a batch again
    with make_service("resnet50", ServiceConfig(max_batch_size=4)) as service:
        address = service.endpoints()[0].http
        logits = np.concatenate(together(lambda part: infer(address, "resnet50", {"image": part}), parts))
    with torch.inference_mode():
        expected = build_resnet50(0, None)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_bert_answers_as_the_same_network_does_here(make_service: Any, infer: Any) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(0, 30_000, (2, 128))
    mask = np.ones((2, 128), np.int64)
    mask[1, 40:] = 0
    with make_service("bert", ServiceConfig(max_batch_size=2)) as service:
        logits = infer(service.endpoints()[0].http, "bert", {"input_ids": ids, "attention_mask": mask})
    network = build_bert(0, None)
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        unmasked = network(torch.from_numpy(ids), torch.ones(2, 128, dtype=torch.int64)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert not np.allclose(logits[1], unmasked[1], atol=1e-4), "the mask did not reach the network"


def test_requests_of_different_lengths_share_a_batch_and_are_answered_as_if_alone(
    make_service: Any, infer: Any, together: Callable[..., list[Any]], options: Any
) -> None:
    random = np.random.default_rng(0)
    texts = [random.integers(0, 30_000, (1, tokens)) for tokens in (5, 16, 20, 48)]
    rules = DynamicBatching(preferred_batch_sizes=(4,), max_queue_delay_s=2.0)  # all four are waited for
    buckets = ServiceConfig(max_batch_size=4, length_buckets=(16, 48), dynamic_batching=rules)
    with make_service("bert", buckets) as service:
        address = service.endpoints()[0].http

        def ask(ids: np.ndarray) -> np.ndarray:
            return infer(address, "bert", {"input_ids": ids, "attention_mask": np.ones_like(ids)}, str(ids.shape[1]))

        logits = together(ask, texts)
        with pytest.raises(InferenceServerException, match="49 tokens, the longest bucket 48"):
            ask(np.zeros((1, 49), np.int64))
        log = read_logs(options.batch_log_dir / "replica-0")
    assert log["batch_size"].tolist() == [4] * 4
    network = build_bert(0, None)
    with torch.inference_mode():
        for ids, answer in zip(texts, logits, strict=True):
            expected = network(torch.from_numpy(ids), torch.ones(ids.shape, dtype=torch.int64)).numpy()
            np.testing.assert_allclose(answer, expected, atol=1e-4)
