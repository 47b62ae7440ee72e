"""The choice of transports by name, and the two that are options: system shared memory, and gRPC.

http      the default
http_shm  the same, but inputs lie in system shared memory (server on this machine)
grpc      tritonclient.grpc under gevent
null      answers at once: measures the harness itself
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.http as triton_http
from tritonclient.utils import serialize_byte_tensor

from loadgen.access import PLAIN, Access, hidden
from loadgen.client_limits import TransportName
from loadgen.clients import add_headers, http_client
from loadgen.endpoints import at, endpoint_of
from loadgen.refused import why_no_grpc
from loadgen.transport import (
    HttpTransport,
    NullTransport,
    RequestFailed,
    RequestKind,
    RequestTimeout,
    Tensors,
    Transport,
    described,
)


class SharedMemoryTransport(HttpTransport):
    """HTTP whose inputs lie in one system shared-memory region, registered with each endpoint when it is first seen."""

    def __init__(
        self, requests: Mapping[RequestKind, Tensors], timeout_s: float, connections: int, access: Access = PLAIN
    ) -> None:
        # Needs a C library that tritonclient ships for Linux only.
        import tritonclient.utils.shared_memory as shm  # noqa: PLC0415

        self._shm = shm
        self._region_name = f"kis-{os.getpid()}-{id(self):x}"
        arrays = [_as_sent(data) for tensors in requests.values() for _, data in tensors.values()]
        self._region_bytes = max(1, sum(array.nbytes for array in arrays))
        self._region = shm.create_shared_memory_region(self._region_name, f"/{self._region_name}", self._region_bytes)
        shm.set_shared_memory_region(self._region, arrays)
        super().__init__(requests, timeout_s, connections, access)

    def _inputs(self, requests: Mapping[RequestKind, Tensors]) -> dict[RequestKind, list[triton_http.InferInput]]:
        inputs: dict[RequestKind, list[triton_http.InferInput]] = {}
        offset = 0
        for kind, tensors in requests.items():
            inputs[kind] = []
            for name, (datatype, data) in tensors.items():
                tensor = described(name, datatype, data)
                size = _as_sent(data).nbytes
                tensor.set_shared_memory(self._region_name, size, offset)
                offset += size
                inputs[kind].append(tensor)
        return inputs

    def connect(self, endpoint: str) -> None:
        """See Transport."""
        with http_client(endpoint, self._timeout_s, self._access) as client:
            client.register_system_shared_memory(self._region_name, f"/{self._region_name}", self._region_bytes)
        super().connect(endpoint)

    def close(self) -> None:
        """See Transport; the servers forget the region, and it is removed."""
        for endpoint in self._pools:
            # A server that is gone has forgotten it.
            with contextlib.suppress(OSError), http_client(endpoint, self._timeout_s, self._access) as client:
                client.unregister_system_shared_memory(self._region_name)
        super().close()
        self._shm.destroy_shared_memory_region(self._region)


def _as_sent(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of a tensor; each text has its length before it."""
    if data.dtype == np.object_:
        return np.frombuffer(serialize_byte_tensor(data).item() if data.size else b"", dtype=np.uint8)
    return np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype=np.uint8)


class GrpcTransport:
    """tritonclient.grpc under gevent; endpoints are the servers' gRPC addresses."""

    def __init__(self, requests: Mapping[RequestKind, Tensors], timeout_s: float, access: Access = PLAIN) -> None:
        # Costs half a second, and gRPC must be told of gevent before its first channel.
        import grpc.experimental.gevent  # type: ignore[import-untyped]  # noqa: PLC0415
        import tritonclient.grpc as triton_grpc  # noqa: PLC0415

        grpc.experimental.gevent.init_gevent()
        self._grpc = triton_grpc
        self._timeout_s, self._access, self._secrets = timeout_s, access, access.secrets()
        self._clients: dict[str, Any] = {}
        self._inputs: dict[RequestKind, list[Any]] = {}
        for kind, tensors in requests.items():
            self._inputs[kind] = []
            for name, (datatype, data) in tensors.items():
                tensor = triton_grpc.InferInput(name, list(data.shape), datatype)
                tensor.set_data_from_numpy(data)
                self._inputs[kind].append(tensor)

    def connect(self, endpoint: str) -> None:
        """See Transport."""
        try:
            live = self._client(endpoint).is_server_live(client_timeout=self._timeout_s)
        except self._grpc.InferenceServerException as error:
            said = str(error.message())
            raise ConnectionError(why_no_grpc(said, self._access) or hidden(said, self._secrets)) from None
        if not live:
            raise ConnectionError(f"{endpoint} is not live")

    def _client(self, endpoint: str) -> Any:
        if endpoint not in self._clients:
            there = endpoint_of(endpoint)
            if there.prefix:
                raise ConnectionError("gRPC has no path: give host:port or grpcs://host:port of its own")
            if self._access.insecure and there.tls:
                raise ConnectionError("gRPC has no --insecure: give the authority's certificate with --ca FILE")
            tls = self._access.of_grpc() if there.tls else {}
            client = self._clients[endpoint] = self._grpc.InferenceServerClient(at(there.host, there.port), **tls)
            add_headers(client, self._access)
        return self._clients[endpoint]

    def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
        """See Transport."""
        try:
            result = self._client(endpoint).infer(
                kind.model, self._inputs[kind], request_id=f"{request_id:012d}", client_timeout=self._timeout_s
            )
        except self._grpc.InferenceServerException as error:
            if "DEADLINE_EXCEEDED" in str(error.status()):
                raise RequestTimeout(f"no answer within {self._timeout_s:g} s") from None
            answered = "UNAVAILABLE" not in str(error.status())
            said = hidden(f"{error.status()}: {error.message()}", self._secrets)
            raise RequestFailed(said, answered) from None
        return int(result.get_response().ByteSize())

    def close(self) -> None:
        """See Transport."""
        while self._clients:  # closed and dropped here: a client left to __del__ hangs the exit
            self._clients.popitem()[1].close()


def make_transport(
    name: TransportName,
    requests: Mapping[RequestKind, Tensors],
    timeout_s: float,
    connections: int,
    access: Access = PLAIN,
) -> Transport:
    """The transport of that name, with the requests of each kind built."""
    if name == "null":
        return NullTransport()
    if name == "grpc":
        return GrpcTransport(requests, timeout_s, access)
    over_http = HttpTransport if name == "http" else SharedMemoryTransport
    return over_http(requests, timeout_s, connections, access)
