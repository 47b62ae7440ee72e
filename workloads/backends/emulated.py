"""The model.py of the emulated accelerator: it waits a profile's time for each batch, and answers its input."""

from __future__ import annotations

import json
import math
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from workloads.backends.batch_log import BatchWriter
from workloads.backends.parameters import InstanceParameters
from workloads.backends.precise_wait import wait_until
from workloads.backends.slowness import Slowness


class TritonPythonModel:
    """x -> y = x, after a time that depends on the batch size; no torch, so that many fit on a small machine."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once for each instance."""
        parameters = InstanceParameters.read(args)
        profile = json.loads(parameters.values["emulated_profile"])
        self.mean_s: list[float] = profile["mean_s"]
        self.sigma: float = profile["sigma"]
        file = profile.get("slowness_file")
        self.slowness = Slowness(None if file is None else Path(file))
        # Every instance of every replica draws from a stream of its own.
        stream = (profile["seed"], int(parameters.values["replica"]), zlib.crc32(parameters.instance.encode()))
        self.random = np.random.default_rng(stream)
        self.log = BatchWriter(parameters.values.get("batch_log_dir"), parameters.instance)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Called by Triton with the requests of one batch; its time counts from this call's beginning."""
        start_ns = time.monotonic_ns()
        inputs = [pb_utils.get_input_tensor_by_name(request, "x") for request in requests]
        sizes = [int(x.shape()[0]) for x in inputs]
        # The input's own capsule goes back: the stub marks a capsule of numpy's in a way that numpy complains about,
        # a traceback in the server's log for every request.
        responses = [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("y", x.to_dlpack())]) for x in inputs]
        request_ids = [request.request_id() for request in requests]
        wait_until(start_ns + self._batch_time_ns(sum(sizes)))
        self.log.append(request_ids, sizes, start_ns, time.monotonic_ns())
        return responses

    def _batch_time_ns(self, batch_size: int) -> int:
        """Lognormal of the mean that the profile gives this batch size, as much slower as the accelerator is now."""
        noise = math.exp(self.random.normal(-0.5 * self.sigma**2, self.sigma))
        return int(self.mean_s[batch_size - 1] * self.slowness.factor() * noise * 1e9)
