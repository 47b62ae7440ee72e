"""Inputs that have no text: Parquet tables with another content or schema, ONNX networks, NumPy files."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import numpy as np

from tests.fuzz.mutate import RAW, VALUES, _as_json, _changed


def other_table(data: bytes, rng: random.Random) -> bytes:
    """A Parquet file with other values, types, columns, rows or another header; the same bytes if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return data
    choice = rng.randrange(9)
    try:
        if choice == 0:
            table = table.drop_columns([rng.choice(table.column_names)])
        elif choice == 1:
            table = table.slice(0, rng.choice((0, 1, 2, max(0, table.num_rows - 1))))
        elif choice == 2:
            table = _with_header(table, rng)
        elif choice == 3:
            table = pa.concat_tables([table, table])
        elif choice == 4:
            at = rng.randrange(table.num_columns)
            table = table.set_column(at, rng.choice(("x", *table.column_names)), table.column(at))
        else:
            table = _with_column(table, rng)
        out = io.BytesIO()
        pq.write_table(table, out)
        return out.getvalue()
    except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError, IndexError):
        return data


def _with_header(table: Any, rng: random.Random) -> Any:
    header = json.loads((table.schema.metadata or {}).get(b"kis", b"{}"))
    if rng.random() < 0.1:
        return table.replace_schema_metadata(
            {b"kis": rng.choice((b"", b"[]", b"null", b"\xff", b"[" * 5000, b"1e400"))}
        )
    return table.replace_schema_metadata({b"kis": _as_json(_changed(header, rng)).encode("utf-8", "replace")})


_INTEGERS = (0, -1, 1, 2, 10**9, -(10**15), 10**15, 2**62, 2**63 - 1, -(2**63))
_TEXTS = (
    "",
    "x",
    "..",
    "../x",
    "/etc/x",
    "a/b",
    "\0",
    "{",
    "[1]",
    '{"a": NaN}',
    "ok",
    "x" * 3000,
    "run.json",
    "é\u202e",
)


def _with_column(table: Any, rng: random.Random) -> Any:
    import pyarrow as pa

    at = rng.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    values = column.to_pylist()
    choice = rng.randrange(5)
    if choice == 0:
        made = pa.array([rng.choice(_TEXTS)] * len(values), pa.string())
    elif choice == 1:
        made = pa.array([rng.choice((np.nan, np.inf, -1.5, 0.0, 1e308))] * len(values), pa.float64())
    elif choice == 2:
        made = pa.nulls(len(values), column.type)
    else:
        for _ in range(rng.choice((1, 1, 3))):
            if values:
                place = rng.randrange(len(values))
                values[place] = _other(values[place], rng)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        made = pa.array(values, kind)
    return table.set_column(at, name, made)


def _other(value: Any, rng: random.Random) -> Any:  # noqa: PLR0911
    if rng.random() < 0.15:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*_INTEGERS, -value, value + 1))
    if isinstance(value, float):
        return rng.choice((np.nan, np.inf, -np.inf, -value, 1e308, 0.0))
    if isinstance(value, str):
        if value[:1] in "[{" and value and rng.random() < 0.8:
            try:
                return _as_json(_changed(json.loads(value), rng)).encode("utf-8", "replace").decode()
            except ValueError:
                return value[: len(value) // 2]
        return rng.choice(_TEXTS)
    if isinstance(value, list):
        return rng.choice(([], value * 2, [_other(one, rng) for one in value], value[:1]))
    return rng.choice([each for each in VALUES if not (isinstance(each, str) and each.startswith(RAW))])


def other_network(data: bytes, rng: random.Random) -> bytes:
    """An ONNX model with another graph; the same bytes if it is none."""
    import onnx
    from google.protobuf.message import DecodeError, EncodeError

    try:
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            return data
        _change_network(model, rng)
        return bytes(model.SerializeToString())
    except (DecodeError, EncodeError, ValueError, TypeError):
        return data


_OPERATORS = (
    "Gemm",
    "Relu",
    "Tanh",
    "Loop",
    "If",
    "Expand",
    "Tile",
    "ConstantOfShape",
    "Range",
    "Scan",
    "MatMul",
    "Exp",
    "Sqrt",
    "Div",
    "",
)
_SIZES = (0, -1, 1, 2, 10**6, 2**31, 10**12, 2**62)


def _change_network(model: Any, rng: random.Random) -> None:
    import onnx

    graph = model.graph
    node = rng.choice(graph.node)
    choice = rng.randrange(10)
    if choice == 0:
        node.op_type = rng.choice(_OPERATORS)
    elif choice == 1 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        tensor.dims[:] = [rng.choice(_SIZES) for _ in range(rng.randrange(4))]
    elif choice == 2 and graph.initializer:
        outside(
            rng.choice(graph.initializer),
            rng.choice(("../../../etc/passwd", "/etc/passwd", "policy.json", "/dev/zero", "")),
        )
    elif choice == 3 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(
            (*[each.name for each in graph.initializer], "features", "x", "")
        )
    elif choice == 4:
        graph.node.remove(node)
    elif choice == 5:
        graph.node.append(node)
    elif choice == 6 and graph.initializer:
        tensor = rng.choice(graph.initializer)
        tensor.data_type = rng.randrange(30)
    elif choice == 7:
        port = rng.choice((*graph.input, *graph.output))
        dims = port.type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice(_SIZES)
    elif choice == 8:
        model.ir_version = rng.choice((0, 1, 7, 99, 2**62))
        if model.opset_import:
            model.opset_import[0].version = rng.choice((0, 1, 9, 17, 10**9))
    else:
        size = onnx.helper.make_tensor("bomb", onnx.TensorProto.INT64, [1], [rng.choice((10**10, 10**15, 2**62))])
        graph.initializer.append(size)
        graph.node.insert(
            0,
            onnx.helper.make_node(
                rng.choice(("ConstantOfShape", "Expand")), ["bomb", "bomb"][: rng.randrange(1, 3)], ["boom"]
            ),
        )


def outside(tensor: Any, location: str) -> None:
    """Have the tensor's data in another file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    tensor.data_location = 1


def npy() -> bytes:
    """Four numbers as a .npy file."""
    out = io.BytesIO()
    np.save(out, np.arange(4.0))
    return out.getvalue()
