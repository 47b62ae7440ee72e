"""What the torch models share: build, warm up, and one forward pass for all requests of a batch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

from workloads.backends.batch_log import BatchLog
from workloads.backends.parameters import InstanceParameters


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
    def example(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Inputs of one batch, for the warm-up."""

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The network's output for one batch, on the device."""
        output: torch.Tensor = self.network(*inputs)
        return output

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once for each instance."""
        parameters = InstanceParameters.read(args)
        torch.set_num_threads(int(parameters.values["threads"]))
        self.device = torch.device(parameters.device)
        self.network = self.build(int(parameters.values["seed"]), parameters.values.get("weights_file"))
        self.network.to(self.device)
        self.log = BatchLog(parameters.values.get("batch_log_dir"), parameters.instance)
        # On a GPU each batch size chooses its kernels at its first run, and a run is short: visit them all.
        for size in warm_up_sizes(parameters.max_batch_size, every=self.device.type == "cuda"):
            self._run(self.example(size))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Called by Triton with the requests of one batch."""
        start_ns = time.monotonic_ns()
        columns = [[_tensor(request, name) for request in requests] for name in self.input_names]
        sizes = [len(tensor) for tensor in columns[0]]
        output = self._run([torch.cat(column) for column in columns])
        responses = [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(self.output_name, rows.contiguous())])
            for rows in torch.split(output, sizes)
        ]
        self.log.append([request.request_id() for request in requests], sizes, start_ns, time.monotonic_ns())
        return responses

    @torch.inference_mode()
    def _run(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        # The copy back waits for the device, so the batch's end is its real end.
        return self.forward([tensor.to(self.device) for tensor in inputs]).cpu()


def _tensor(request: Any, name: str) -> torch.Tensor:
    return from_dlpack(pb_utils.get_input_tensor_by_name(request, name).to_dlpack())
