"""How a network runs on its device: precision, memory layout, and on a GPU one captured CUDA graph a batch size.

A batch comes as the requests' CPU tensors and leaves as CPU rows of float32, whatever the precision in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

WARM_UP_RUNS = 3  # before a capture: kernels are chosen and workspaces allocated in them
_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CudaTimes(NamedTuple):
    """Of one batch on a GPU, between CUDA events on its stream, nanoseconds."""

    copy_in_ns: int
    network_ns: int
    copy_out_ns: int


class Runner:
    """A network on a CPU, or on a GPU kernel by kernel.

    precision: fp32 | tf32 | fp16 | bf16. tf32 keeps float32 tensors and lets a GPU's matrix units round their factors;
    on a CPU it is fp32. Networks with images run channels-last, the layout of the matrix units.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device, precision: str) -> None:
        self.device, self._dtype = device, _DTYPES[precision]
        # PyTorch lets convolutions round to TF32 by default, but not matrix products: say both.
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self._network = network.to(device=device, dtype=self._dtype)
        self._network.to(memory_format=torch.channels_last)  # of its four-dimensional weights

    @torch.inference_mode()
    def run(self, columns: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """The output's rows. columns: for each input, the tensors of the batch's requests."""
        # The copy back waits for the device, so the batch's end is its real end.
        return self.forward([torch.cat(list(column)).to(self.device) for column in columns]).cpu()

    def device_times(self) -> CudaTimes | None:
        """Of the last batch; None: not known."""
        return None

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """From tensors on the device to float32 there."""
        output: torch.Tensor = self._network(*map(self._prepared, inputs))
        return output.float()

    def _prepared(self, tensor: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(dtype=dtype, memory_format=layout)


class _Captured:
    """Batches of one shape but for the number of rows: their buffers, and a graph for each number."""

    def __init__(self, examples: Sequence[torch.Tensor], device: torch.device) -> None:
        self.host = [tensor.clone().pin_memory() for tensor in examples]
        self.inputs = [tensor.to(device) for tensor in examples]
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self.answer = torch.empty(0)


class CapturedRunner(Runner):
    """A network on a GPU as CUDA graphs: a batch is one launch, not some hundred, and copies go through pinned memory.

    examples: inputs of the largest batch, on the CPU, for each shape that requests have; batches have one of these
    shapes but for the number of rows.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        precision: str,
        examples: Sequence[Sequence[torch.Tensor]],
    ) -> None:
        super().__init__(network, device, precision)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(4)]  # type: ignore[no-untyped-call]
        self._captured: dict[torch.Size, _Captured] = {}
        pool = torch.cuda.graph_pool_handle()  # one for all: only one graph runs at a time, the largest asks first
        for example in examples:
            captured = self._captured[example[0].shape[1:]] = _Captured(example, device)
            largest = len(example[0])
            with torch.inference_mode():
                for size in range(largest, 0, -1):
                    captured.graphs[size] = self._capture(captured, size, pool)
            captured.answer = torch.empty_like(captured.graphs[largest][1], device="cpu").pin_memory()

    @torch.inference_mode()
    def run(self, columns: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """As Runner.run."""
        size = sum(len(tensor) for tensor in columns[0])
        captured = self._captured[columns[0][0].shape[1:]]
        for column, host in zip(columns, captured.host, strict=True):
            torch.cat(list(column), out=host[:size])
        graph, output = captured.graphs[size]
        with torch.cuda.stream(self._stream):
            self._events[0].record()
            for host, tensor in zip(captured.host, captured.inputs, strict=True):
                tensor[:size].copy_(host[:size], non_blocking=True)
            self._events[1].record()
            graph.replay()
            self._events[2].record()
            captured.answer[:size].copy_(output, non_blocking=True)
            self._events[3].record()
        self._events[3].synchronize()
        return captured.answer[:size].clone()  # the pinned rows are the next batch's

    def device_times(self) -> CudaTimes | None:
        """Of the last batch."""
        first, copied, ran, last = self._events
        spans = (first.elapsed_time(copied), copied.elapsed_time(ran), ran.elapsed_time(last))
        return CudaTimes(*(round(span_ms * 1e6) for span_ms in spans))

    def _capture(self, captured: _Captured, size: int, pool: Any) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        inputs = [tensor[:size] for tensor in captured.inputs]
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                self.forward(inputs)
        torch.cuda.synchronize(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=self._stream):
            output = self.forward(inputs)
        return graph, output
