"""A network in every precision gives the answers of fp32, to what the precision can hold."""

from __future__ import annotations

import pytest
import torch

from workloads.backends.resnet_network import build as build_resnet50
from workloads.backends.runner import CapturedRunner, Runner

CPU = torch.device("cpu")
HOLDS = {"fp32": 1e-6, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def by_request(batch: torch.Tensor) -> list[list[torch.Tensor]]:
    return [[batch[k : k + 1] for k in range(len(batch))]]


def off(answer: torch.Tensor, truth: torch.Tensor) -> float:
    return float((answer.double() - truth).norm() / truth.norm())


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    with torch.inference_mode():
        answer: torch.Tensor = build_resnet50(0, None).double()(images(3).double())
    return answer


@pytest.mark.parametrize("precision", HOLDS)
def test_answers_are_float32_rows_on_the_cpu_as_near_as_the_precision_holds(
    truth: torch.Tensor, precision: str
) -> None:
    answer = Runner(build_resnet50(0, None), CPU, precision).run(by_request(images(3)))
    assert (answer.shape, answer.dtype, answer.device.type) == ((3, 1000), torch.float32, "cpu")
    error = off(answer, truth)
    assert error < HOLDS[precision]
    if precision in ("fp16", "bf16"):
        assert error > 1e-5  # it did compute in that precision


def test_integers_stay_integers_and_requests_may_have_several_rows() -> None:
    class Rows(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            assert ids.dtype == torch.int64
            return ids.sum(dim=1, keepdim=True)

    columns = [[torch.ones(2, 5, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)]]
    assert Runner(Rows(), CPU, "fp16").run(columns).tolist() == [[5.0], [5.0], [0.0]]


def test_tf32_is_allowed_only_where_it_was_asked_for() -> None:
    for precision, allowed in (("tf32", True), ("fp32", False)):
        Runner(torch.nn.Linear(1, 1), CPU, precision)
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(KeyError):
        Runner(torch.nn.Linear(1, 1), CPU, "fp8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
@pytest.mark.parametrize("precision", HOLDS)
def test_captured_graphs_answer_every_batch_size_as_fp32_does(truth: torch.Tensor, precision: str) -> None:
    runner = CapturedRunner(build_resnet50(0, None), torch.device("cuda:0"), precision, [(images(3),)])
    for size in (3, 1, 2, 3):  # the pinned rows of the batch before must not be in the answer
        answer = runner.run(by_request(images(3)[:size]))
        assert off(answer, truth[:size]) < HOLDS[precision]
        times = runner.device_times()
        assert times is not None
        assert min(times) > 0
