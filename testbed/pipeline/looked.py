"""The look at the machine that comes before the runs of a command: made once, told, and handed to every run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from testbed.config import ClientConfig, ServeConfig
from testbed.machine import Machine, Needs, troubles
from testbed.pipeline.made_runs import Reporter
from workloads.catalog import find_model

Look = Callable[[], Machine]
_MIB = 2**20  # Triton's python backend takes so much for each instance, and then grows by as much at a time
_FILES = 64  # of a client, beside its connections


def look_first(
    reporter: Reporter, look: Look | None, client: ClientConfig, serves: Sequence[ServeConfig] = ()
) -> Machine | None:
    """Look, and report what was found, and a line for each thing that is in the way of VALID runs.

    look: None leaves it out. serves: what will be served on this machine, one after the other.
    """
    if look is None:
        return None
    reporter.phase("look at the machine")
    machine = look()
    reporter.phase(f"machine: {machine.line}")
    for trouble in troubles(machine, needs=needs_of(client, serves)):
        reporter.phase(f"note: {trouble}")
    return machine


def needs_of(client: ClientConfig, serves: Sequence[ServeConfig] = ()) -> Needs:
    """What the largest of the services wants of the machine, and the client beside it."""
    return Needs(
        cores=max((1 + max(1, _threads(serve)) for serve in serves), default=None),
        shm_bytes=max((_shm_bytes(serve) for serve in serves), default=None),
        open_files=math.ceil(client.max_in_flight / client.workers) + _FILES,
    )


def _threads(serve: ServeConfig) -> int:
    """That compute on processors at the same time; an emulated accelerator only waits, a GPU computes elsewhere."""
    if find_model(serve.model).emulated or serve.device == "gpu":
        return 0
    return serve.service.replicas * serve.service.instances * (serve.threads or 1)


def _shm_bytes(serve: ServeConfig) -> int:
    """Of all instances: what each has from its start, and room for a full batch of requests and answers."""
    spec = find_model(serve.model)
    values = sum(math.prod(max(size, 1) for size in tensor.shape) for tensor in (*spec.inputs, *spec.outputs))
    batch_bytes = 8 * serve.service.max_batch_size * values  # no type of the catalog is longer than 8 bytes
    return serve.service.replicas * serve.service.instances * (_MIB + math.ceil(batch_bytes / _MIB) * _MIB)
