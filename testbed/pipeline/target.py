"""What a run is aimed at: a service that we started on this machine, or a Triton server that someone else runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loadgen.access import INSECURE, PLAIN, Access
from loadgen.discovery import model_tensors, the_model
from loadgen.endpoints import address as http_address
from loadgen.endpoints import at, endpoint_of, without_password
from loadgen.job import RequestShape
from loadgen.request_file import names_in, read_requests
from testbed.config import ServeConfig
from testbed.errors import ServingError
from testbed.installed import how_to_install, is_installed
from testbed.measurement.machine import detect_device, processor
from testbed.measurement.replica_metrics import DeploymentSource, Replicas
from testbed.measurement.sampler import Source
from testbed.measurement.triton_metrics import TritonAddress, belongs_to, why_no_page
from testbed.run_dir import Device
from testbed.serving.kubernetes import KubernetesService
from testbed.serving.local import LocalService
from testbed.serving.service import ReplicaEvent
from workloads.catalog import CATALOG, ServiceConfig, TensorSpec, find_model
from workloads.repository import BackendOptions, weights_label

STARTING_S = 5.0  # of a metrics page that was named, after the server's first port is up
EMULATED = Device(kind="emulated", name="emulated accelerator")


@dataclass(frozen=True)
class Sent:
    """What is put into the inputs of a server of the user's: values as they were typed, or a file of requests."""

    values: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


@dataclass(frozen=True)
class Target:
    """Where requests go, and what can be read beside them.

    endpoints: the file that the load generator follows, or fixed addresses. batch_logs: the folder of the backend's
    own logs, None for a server of the user's. events, pids: of our own replicas; empty for a server of the user's.
    """

    model: str
    device: Device
    threads: int | None  # of each instance; None: not known
    weights: str
    service: ServiceConfig
    inputs: tuple[TensorSpec, ...]
    batched: bool
    endpoints: Path | tuple[str, ...]
    addresses: Callable[[], Sequence[TritonAddress]]
    pids: Callable[[], dict[str, int]]
    events: Callable[[], Sequence[ReplicaEvent]]
    batch_logs: Path | None
    precision: str | None = None  # in which the network computes; None: not known, or it only waits
    execution: str | None = None  # on a GPU: graph | eager
    sources: tuple[Source, ...] = ()  # what else is sampled
    unmodelled: tuple[str, ...] = ()  # what the model's configuration asks for and no simulation has
    sent: Sent = Sent()
    access: Access = PLAIN  # how a server of the user's is reached

    @property
    def requests(self) -> RequestShape:
        """Of the load generator. PayloadError if the file of requests does not fit the model."""
        sent = self.sent
        entries = 1 if sent.file is None else len(read_requests(sent.file, self.inputs))
        given = {"values": dict(sent.values), "file": sent.file, "entries": entries}
        return RequestShape(inputs=self.inputs, batched=self.batched, **given)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a measured latency is of, where a reader would not think of it."""
        said = [f"the model has {what}: it is measured as it is, no simulation models it" for what in self.unmodelled]
        if self.access.insecure:
            said.append(INSECURE)
        if self.sent.file is not None:
            entries = read_requests(self.sent.file, self.inputs)
            shapes = {tuple(data.shape for data in entry.values()) for entry in entries}
            if len(shapes) > 1:
                said.append(f"the requests have {len(shapes)} shapes: Triton batches equal ones only")
        return tuple(said)

    @property
    def local_gpu(self) -> bool:
        """True if this machine's GPUs are the ones that serve."""
        return self.device.kind == "gpu" and self.batch_logs is not None


NOTHING_GIVEN = Sent()


@contextmanager
def served(
    config: ServeConfig,
    folder: Path,
    publish: Literal["http", "grpc"] = "http",
    http_port: int | None = None,
    *,
    latency_summaries: bool = False,
) -> Iterator[Target]:
    """Serve on this machine for the length of the block; server logs and repositories go to `folder`.

    latency_summaries: percentiles on the metrics pages, for who looks at them meanwhile.
    """
    spec = find_model(config.model)
    if not spec.emulated and not is_installed("torch"):
        raise ServingError(
            f"{spec.name} needs PyTorch, which is not installed: {how_to_install('serve')}; or try the model 'emulated'"
        )
    detected = detect_device()
    if config.device == "gpu" and detected.kind != "gpu":
        raise ServingError("device: gpu was asked for, but this machine shows no NVIDIA GPU: use cpu or auto")
    on_gpu = detected.kind == "gpu" and config.device != "cpu" and not spec.emulated
    cores = len(os.sched_getaffinity(0))
    service = config.service
    options = BackendOptions(
        device="gpu" if on_gpu else "cpu",
        # On a GPU they only copy requests together: a second one costs more in waiting than it saves.
        threads=1 if on_gpu else config.threads or max(1, cores // (service.replicas * service.instances)),
        precision=config.precision,
        execution=config.execution,
        gpus=config.gpus,
        weights_file=config.weights,
        seed=config.weights_seed,
        batch_log_dir=folder / "batches",
        emulated=config.emulated,
    )
    with LocalService(
        folder,
        spec,
        service,
        options,
        publish=publish,
        http_port=http_port,
        latency_summaries=latency_summaries,
    ) as running:
        yield Target(
            model=spec.name,
            device=EMULATED if spec.emulated else detected if on_gpu else processor(),
            threads=options.threads,
            weights=weights_label(spec, options),
            service=service,
            inputs=spec.served_inputs(service),
            batched=True,
            endpoints=running.endpoints_file,
            addresses=lambda: [
                TritonAddress(
                    endpoint.name, f"http://{endpoint.http}", f"http://{endpoint.metrics}/metrics", endpoint.grpc
                )
                for endpoint in running.endpoints()
            ],
            pids=lambda: {
                f"server:{endpoint.name}": endpoint.pid for endpoint in running.endpoints() if endpoint.pid is not None
            },
            events=running.events,
            batch_logs=folder / "batches",
            precision=None if spec.emulated else options.precision,
            execution=options.execution if on_gpu else None,
        )


def pods_of(service: KubernetesService, name: str, model: str, replicas: int) -> Target:
    """A Deployment's pods, of which at least one is ready: its server tells everything about the model.

    name: for logs. replicas: at the start.
    """

    def look() -> Replicas:
        pending = sum(pod.scheduled_s is None and pod.gone_s is None for pod in service.pods())
        return Replicas(service.spec_replicas(), len(service.endpoints()), pending)

    detected = model_tensors(service.endpoints()[0].http, model)
    emulated = model in CATALOG and CATALOG[model].emulated
    return Target(
        model=model,
        device=EMULATED if emulated else Device(kind="unknown", name=f"pods of {name}"),
        threads=None,
        weights=weights_label(CATALOG[model], BackendOptions()) if emulated else "the server's own",
        service=detected.service.model_copy(update={"replicas": replicas}),
        inputs=detected.inputs,
        batched=detected.batched,
        endpoints=service.endpoints_file,
        addresses=lambda: [
            TritonAddress(endpoint.name, endpoint.http, endpoint.metrics) for endpoint in service.endpoints()
        ],
        pids=dict,
        events=service.events,
        batch_logs=None,
        sources=(DeploymentSource(model, look),),
    )


def remote(
    server: str,
    model: str | None,
    metrics: str | None = None,
    grpc: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sent: Sent = NOTHING_GIVEN,
    *,
    have_lengths: bool = False,
    access: Access = PLAIN,
) -> Target:
    """A running Triton of the user's: everything about the model is read from the server.

    server: its HTTP address. metrics: its metrics page, if it is not on port 8002 of the same host. grpc: where to
    send requests instead, for transport grpc. shapes: of inputs whose dimensions the model leaves free. sent: what is
    put into them. have_lengths: each request has a length of its own. access: to all these addresses.
    """
    there = endpoint_of(server)
    address = there.name
    detected = model_tensors(
        address,
        the_model(address, model, access),
        shapes,
        sent.values,
        have_lengths=have_lengths or sent.file is not None,
        named=() if sent.file is None else names_in(sent.file),
        access=access,
    )
    page = None if metrics is None else without_password(metrics)
    if page is None and not there.tls and not there.prefix:  # beside a proxy may be anything
        page = f"http://{at(there.host, 8002)}/metrics"
    why = None if page is None else why_no_page(page, STARTING_S if metrics is not None else 0.0, access)
    if why is not None:
        if metrics is not None:
            raise ServingError(
                f"--metrics {metrics}: no metrics page answers there: give the right one, or none ({why})"
            )
        page = None  # the statistics at the server's own port are enough
    if page is not None and not belongs_to(page, there.url, detected.name, access):
        if metrics is not None:
            raise ServingError(
                f"--metrics {metrics}: its counts of '{detected.name}' are not those of {address}: it is another "
                "server's page; give the right one, or none"
            )
        page = None
    return Target(
        model=detected.name,
        device=Device(kind="unknown", name=f"server at {address}"),
        threads=None,
        weights="the server's own",
        service=detected.service,
        inputs=detected.inputs,
        batched=detected.batched,
        endpoints=(address if grpc is None else http_address(grpc),),
        addresses=lambda: [TritonAddress(address, there.url, page, access=access)],
        pids=dict,
        events=list,
        batch_logs=None,
        unmodelled=detected.unmodelled,
        sent=sent,
        access=access,
    )
