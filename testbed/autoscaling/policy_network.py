"""A policy's network: what it may be, and onnxruntime with bounds on what it takes.

A foreign file must not read other files, run for ever or take the machine's memory. Initialisers that lie in other
files (onnxruntime finds them below and above the current folder), graphs within nodes (Loop, Scan, If) and functions of
its own are refused before onnxruntime sees it; tensors share ARENA_BYTES, and nothing is computed while it loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.files import MOST_BYTES

ARENA_BYTES = 1 << 28  # of all tensors; our networks have 24 kB
# Numbers of fields in onnx.proto.
_GRAPH, _FUNCTIONS = 7, 25  # ModelProto
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # GraphProto
_ATTRIBUTE = 5  # NodeProto
_TENSORS, _GRAPHS = (5, 10), (6, 11)  # AttributeProto: t and tensors, g and graphs
_ELSEWHERE = (13, 14)  # TensorProto: external_data, data_location


def session_of(network: bytes) -> Any:
    """onnxruntime's; ValueError of what is refused, or cannot be loaded. Imported by who has such a policy only."""
    import onnxruntime  # noqa: PLC0415 - half a second that no other policy should pay

    _refuse(network)
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a network of a few hundred numbers
    options.log_severity_level = 4  # what is wrong is raised
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("optimization.disable_specified_optimizers", "ConstantFolding")
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever a foreign file makes of onnxruntime, whose errors have no base of their own
        raise ValueError(f"onnxruntime cannot load it ({' '.join(str(error).split())[:200]})") from None


def answer(session: Any, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logits of one row of features; ValueError if the network cannot be computed."""
    try:
        (logits,) = session.run(None, {"features": features[np.newaxis]})
        row: npt.NDArray[np.float32] = np.asarray(logits, dtype=np.float32)[0]
    except Exception as error:  # as above
        raise ValueError(f"onnxruntime cannot run it ({' '.join(str(error).split())[:200]})") from None
    return row


@cache  # once a process
def _limit_memory() -> None:
    import onnxruntime  # noqa: PLC0415 - as above

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": ARENA_BYTES}))


def _refuse(network: bytes) -> None:
    if len(network) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    for number, graph in _fields(network):
        if number == _FUNCTIONS:
            raise ValueError("it has functions of its own")
        for part, content in _fields(graph) if number == _GRAPH else ():
            if part == _SPARSE:
                raise ValueError("it has sparse initialisers")
            for tensor in [content] if part == _INITIALIZER else _tensors_of(content) if part == _NODE else ():
                if any(field in _ELSEWHERE for field, _ in _fields(tensor, numbers=True)):
                    raise ValueError("it has initialisers in other files")


def _tensors_of(node: bytes) -> Iterator[bytes]:
    for number, attribute in _fields(node):
        for part, content in _fields(attribute) if number == _ATTRIBUTE else ():
            if part in _GRAPHS:
                raise ValueError("it has a graph within a node (Loop, Scan or If)")
            if part in _TENSORS:
                yield content


def _fields(message: bytes, *, numbers: bool = False) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a protobuf message that has bytes; numbers: of the others, too."""
    from google.protobuf.empty_pb2 import Empty  # noqa: PLC0415 - half a second
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415

    try:
        fields = UnknownFieldSet(Empty.FromString(message))
    except DecodeError:
        raise ValueError("it is no ONNX file") from None
    for field in fields:
        if isinstance(field.data, bytes):
            yield field.field_number, field.data
        elif numbers:
            yield field.field_number, b""
