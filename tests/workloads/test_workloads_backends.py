"""The parts of the backends that need no server."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from testbed.measurement.batch_log import RECORD
from workloads.backends.batch_log import BatchWriter, request_number
from workloads.backends.precise_wait import wait_until
from workloads.backends.resnet_network import build as build_resnet50
from workloads.backends.weights import load_weights
from workloads.emulated_profile import EmulatedProfile


def test_a_batch_log_is_read_back_with_measurements_record(tmp_path: Path) -> None:
    log = BatchWriter(str(tmp_path / "logs"), "resnet50_0_1")
    log.append(["7", "", "abc"], [1, 2, 1], start_ns=100, end_ns=250)
    log.append(["8"], [1], start_ns=300, end_ns=350)
    rows = np.fromfile(tmp_path / "logs" / "resnet50_0_1.bin", dtype=RECORD)
    assert rows.tolist() == [
        (7, 100, 250, 4, 0),
        (-1, 100, 250, 4, 1),
        (-1, 100, 250, 4, 3),
        (8, 300, 350, 1, 0),
    ]


def test_without_a_folder_nothing_is_logged(tmp_path: Path) -> None:
    BatchWriter(None, "resnet50_0_0").append(["1"], [1], 0, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), (str(2**63 - 1), 2**63 - 1), (str(2**63), -1), ("", -1), ("-5", -1), ("1.5", -1), ("²", -1)],
)
def test_only_a_number_of_64_bits_is_a_request_number(text: str, number: int) -> None:
    assert request_number(text) == number


def test_a_wait_never_ends_early_and_a_past_deadline_is_no_wait() -> None:
    for wait_ns in (20_000, 150_000, 2_000_000):
        deadline = time.monotonic_ns() + wait_ns
        wait_until(deadline)
        assert time.monotonic_ns() >= deadline
    wait_until(time.monotonic_ns() - 1_000_000_000)


def test_a_linear_profile_has_one_time_a_batch_size() -> None:
    profile = EmulatedProfile.linear(0.004, 0.001, 3, sigma=0)
    assert profile.mean_s == pytest.approx((0.005, 0.006, 0.007))
    assert profile.sigma == 0


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_come_from_a_file_of_either_format(tmp_path: Path, suffix: str) -> None:
    state = {"weight": torch.full((1, 2), 3.0), "bias": torch.tensor([5.0])}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    network = torch.nn.Linear(2, 1)
    load_weights(network, str(file))
    assert network(torch.ones(1, 2)).item() == 11.0
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(torch.nn.Linear(3, 1), str(file))


def test_random_weights_are_those_of_the_seed_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, again, other = (build_resnet50(seed, None).fc.weight for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)
