"""What the torch models share: build, warm up, and one forward pass for all requests of a batch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

from workloads.backends.batch_log import BatchWriter, DeviceLog
from workloads.backends.parameters import InstanceParameters
from workloads.backends.runner import CapturedRunner, Runner


def warm_up_sizes(max_batch_size: int, every: bool) -> list[int]:
    """Batch sizes to run before the first request: all of them, or the powers of two and the largest."""
    if every:
        return list(range(1, max_batch_size + 1))
    return sorted({1 << k for k in range(max_batch_size.bit_length())} | {max_batch_size})


class TorchModel(ABC):
    """A network behind Triton's python-backend interface; a family says what to build and what its tensors are.

    Tensors cross by DLPack only: the arrays of numpy 2 do not survive this backend's own conversion.
    """

    input_names: tuple[str, ...]
    output_name: str

    @abstractmethod
    def build(self, seed: int, weights_file: str | None) -> torch.nn.Module:
        """The network in evaluation mode."""

    @abstractmethod
    def example(self, batch_size: int, tokens: int | None) -> tuple[torch.Tensor, ...]:
        """Inputs of one batch, for the warm-up. tokens: to which it is padded; None: all requests are alike."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once for each instance."""
        parameters = InstanceParameters.read(args)
        values = parameters.values
        torch.set_num_threads(int(values["threads"]))
        device = torch.device(parameters.device)
        network = self.build(int(values["seed"]), values.get("weights_file"))
        largest = parameters.max_batch_size
        given = values.get("length_buckets")
        self.buckets = [int(tokens) for tokens in given.split(",")] if given else []
        # The longest first: what a captured graph needs of memory, the shorter ones find there.
        shapes: list[int | None] = [*reversed(self.buckets)] or [None]
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where streams and events are made
        if device.type == "cuda" and values["execution"] == "graph":
            self.runner: Runner = CapturedRunner(
                network, device, values["precision"], [self.example(largest, tokens) for tokens in shapes]
            )
        else:
            self.runner = Runner(network, device, values["precision"])
        self.log = BatchWriter(values.get("batch_log_dir"), parameters.instance)
        self.device_log = DeviceLog(values.get("batch_log_dir"), parameters.instance)
        if device.type == "cuda":
            self.device_log.note_gpu(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        # On a GPU each batch size chooses its kernels at its first run, and a run is short: visit them all.
        for tokens in shapes:
            for size in warm_up_sizes(largest, every=device.type == "cuda"):
                self.runner.run([[tensor] for tensor in self.example(size, tokens)])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Called by Triton with the requests of one batch."""
        start_ns = time.monotonic_ns()
        columns = [[_tensor(request, name) for request in requests] for name in self.input_names]
        if self.buckets:
            columns = padded(columns, self.buckets)
        sizes = [len(tensor) for tensor in columns[0]]
        output = self.runner.run(columns)
        responses = [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(self.output_name, rows.contiguous())])
            for rows in torch.split(output, sizes)
        ]
        end_ns = time.monotonic_ns()
        self.log.append([request.request_id() for request in requests], sizes, start_ns, end_ns)
        self.device_log.append(start_ns, end_ns, sum(sizes), self.runner.device_times())
        return responses


def padded(columns: list[list[torch.Tensor]], buckets: Sequence[int]) -> list[list[torch.Tensor]]:
    """Every request's [rows, tokens] filled up with zeros to the first bucket that holds the longest of them.

    ValueError, which the client gets as its error: a request is longer than the last bucket.
    """
    longest = max(tensor.shape[-1] for tensor in columns[0])
    wanted = next((bucket for bucket in buckets if bucket >= longest), None)
    if wanted is None:
        raise ValueError(f"a request has {longest} tokens, the longest bucket {buckets[-1]}: cut it, or add a bucket")
    return [
        [torch.nn.functional.pad(tensor, (0, wanted - tensor.shape[-1])) for tensor in column] for column in columns
    ]


def _tensor(request: Any, name: str) -> torch.Tensor:
    return from_dlpack(pb_utils.get_input_tensor_by_name(request, name).to_dlpack())
