"""Seeded request inputs: one request's tensors, sensible for their names and datatypes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from workloads.catalog import TensorSpec
from workloads.errors import KisError
from workloads.files import parse_json, read_text

MOST_ELEMENTS = 1 << 28  # of an input; protobuf, and so gRPC, ends at 2 GiB
VOCABULARY = 30522  # token ids of bert-base-uncased

_FLOATS: dict[str, Any] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}
_INTEGERS: dict[str, type[np.integer[Any]]] = {
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
}


_RANGE = re.compile(r"(-?[\d.]+?)\.\.(-?[\d.]+)")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class PayloadError(KisError):
    """A tensor for which no input can be made."""


def payload(
    inputs: tuple[TensorSpec, ...], seed: int | Sequence[int], values: Mapping[str, str] | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """One request's inputs by name, without a batch dimension; a free dimension (-1) becomes 1.

    values: of inputs, as a user types them (`given_values`). Of the others:

    Floats are standard normal. Integers: ones if the name holds `mask`, zeros if it holds `token_type`, token ids below
    VOCABULARY if it ends in `ids`, the whole range of UINT8 (pixels), else 0..99. BYTES are short words.
    Raises PayloadError for a datatype that the KServe v2 protocol does not have.
    """
    rng = np.random.default_rng(seed)
    values = values or {}
    return {
        spec.name: given_values(spec, values[spec.name], rng) if spec.name in values else _tensor(spec, rng)
        for spec in inputs
    }


def given_values(spec: TensorSpec, text: str, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """An input's data: LOW..HIGH (drawn evenly, both included), @FILE (`read_values`), or one value for all elements.

    Raises PayloadError for what the input's datatype or shape does not take.
    """
    if text.startswith("@"):
        return fitted(spec, read_values(Path(text[1:]), spec.datatype))
    shape = _shape_of(spec)
    try:
        with np.errstate(over="ignore"):
            if found := _RANGE.fullmatch(text):
                return _finite(_drawn(spec.datatype, found[1], found[2], shape, rng))
            return _finite(np.full(shape, _scalar(spec.datatype, text), dtype=dtype_of(spec.datatype)))
    except (ValueError, OverflowError) as error:
        raise PayloadError(f"--input {spec.name}={text}: {error}: the input is {spec.datatype}") from None


def fitted(spec: TensorSpec, data: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The data in the input's shape, of which one size may be free; PayloadError if they do not fit."""
    free = sum(size < 0 for size in spec.shape)
    if free > 1 and data.ndim == len(spec.shape):
        return data
    try:
        return data.reshape(spec.shape)
    except ValueError:
        raise PayloadError(
            f"input '{spec.name}' has shape {list(spec.shape)}: {data.size} values of shape {list(data.shape)} do not "
            "fit it"
        ) from None


def read_values(path: Path, datatype: str) -> npt.NDArray[np.generic]:
    """The elements in a file: .npy, .json (numbers or texts, in lists), else its bytes as they are sent; of BYTES, one
    element."""
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _as(datatype, np.lib.format.read_array(file, allow_pickle=False))
        if path.suffix == ".json":
            return of_json(parse_json(read_text(path)), datatype)
        raw = path.read_bytes()
        if datatype == "BYTES":
            return np.array([raw], dtype=object)
        return np.frombuffer(raw, dtype_of(datatype))
    except OSError as error:
        raise PayloadError(f"{path}: {error.strerror}: give a file with the input's values") from None
    # NumPy reads a .npy file's header as Python's source, and takes its shape for true.
    except (ValueError, OverflowError, TypeError, EOFError, SyntaxError, TokenError, MemoryError) as error:
        raise PayloadError(f"{path}: {error}: the input is {datatype}") from None


def of_json(values: Any, datatype: str) -> npt.NDArray[np.generic]:
    """Numbers or texts in nested lists. ValueError, OverflowError or TypeError if they are no such data."""
    if datatype != "BYTES":
        with np.errstate(over="ignore"):
            return _finite(np.array(values, dtype=dtype_of(datatype)))
    texts = np.array(values, dtype=object)
    return np.array([str(text).encode() for text in texts.ravel()], dtype=object).reshape(texts.shape)


def _as(datatype: str, saved: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
    """Of a .npy file, in which a NaN is meant; ValueError if whole numbers do not fit."""
    kind = dtype_of(datatype)
    with np.errstate(all="ignore"):
        data = saved.astype(kind)
    if kind.kind in "iu" and saved.dtype.kind in "iuf" and not np.array_equal(data, saved):
        raise ValueError("it has numbers that do not fit")
    return data


def _finite(data: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if data.dtype.kind not in "OSU" and not np.isfinite(data.astype(np.float64)).all():
        raise ValueError("it has a number that is not finite")
    return data


def dtype_of(datatype: str) -> np.dtype[Any]:
    """NumPy's of a KServe datatype; PayloadError if it is none."""
    kinds: dict[str, Any] = {**_FLOATS, **_INTEGERS, "BOOL": np.bool_, "BYTES": np.object_}
    if datatype not in kinds:
        raise PayloadError(f"datatype '{datatype}' is not known: known are {', '.join(kinds)}")
    kind: np.dtype[Any] = np.dtype(kinds[datatype])
    return kind


def _scalar(datatype: str, text: str) -> Any:
    if datatype == "BYTES":
        return text.encode()
    if datatype == "BOOL":
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError("give true or false")
        return text.lower() in _TRUE
    if datatype in _INTEGERS:
        return _INTEGERS[datatype](int(text))
    return float(text)


def _drawn(
    datatype: str, low: str, high: str, shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.generic]:
    if datatype == "BYTES":  # texts with numbers
        drawn = _drawn("FP64" if "." in low + high else "INT64", low, high, shape, rng)
        return np.array([str(number).encode() for number in drawn.ravel().tolist()], dtype=object).reshape(shape)
    if datatype in _FLOATS:
        return rng.uniform(float(low), float(high), shape).astype(_FLOATS[datatype])
    kind = dtype_of(datatype)
    least, most = (_INTEGERS.get(datatype, np.int64)(int(bound)) for bound in (low, high))
    return rng.integers(least, most, shape, dtype=kind if kind != np.bool_ else np.int64, endpoint=True).astype(kind)


def _shape_of(spec: TensorSpec) -> tuple[int, ...]:
    """Of one request; PayloadError if it is beyond what a request can hold."""
    shape = tuple(1 if size < 0 else size for size in spec.shape)
    if math.prod(shape) > MOST_ELEMENTS:
        raise PayloadError(f"input '{spec.name}' has shape {list(shape)}: more than {MOST_ELEMENTS:,} elements")
    return shape


def _tensor(spec: TensorSpec, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    shape = _shape_of(spec)
    if spec.datatype in _FLOATS:
        return rng.standard_normal(shape, dtype=np.float32).astype(_FLOATS[spec.datatype])
    if spec.datatype == "BOOL":
        return rng.random(shape) < 0.5
    if spec.datatype == "BYTES":
        words = np.array([b"triton", b"replays", b"a", b"schedule"], dtype=object)
        return rng.choice(words, shape)
    if spec.datatype not in _INTEGERS:
        known = ", ".join([*_FLOATS, *_INTEGERS, "BOOL", "BYTES"])
        raise PayloadError(f"input '{spec.name}' has datatype '{spec.datatype}': known are {known}")
    kind = _INTEGERS[spec.datatype]
    if "mask" in spec.name:
        return np.ones(shape, dtype=kind)
    if "token_type" in spec.name:
        return np.zeros(shape, dtype=kind)
    limit = 256 if spec.datatype == "UINT8" else 100
    if spec.name.endswith("ids") and np.iinfo(kind).max >= VOCABULARY:
        limit = VOCABULARY
    return rng.integers(0, limit, shape).astype(kind)
