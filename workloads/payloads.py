"""Seeded request inputs: one request's tensors, sensible for their names and datatypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.catalog import TensorSpec
from workloads.errors import KisError

VOCABULARY = 30522  # token ids of bert-base-uncased

_FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": np.float32}  # tritonclient packs BF16
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


class PayloadError(KisError):
    """A tensor for which no input can be made."""


def payload(inputs: tuple[TensorSpec, ...], seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """One request's inputs by name, without a batch dimension; a free dimension (-1) becomes 1.

    Floats are standard normal. Integers: ones if the name holds `mask`, zeros if it holds `token_type`, token ids below
    VOCABULARY if it ends in `ids`, the whole range of UINT8 (pixels), else 0..99. BYTES are short words.
    Raises PayloadError for a datatype that the KServe v2 protocol does not have.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _tensor(spec, rng) for spec in inputs}


def _tensor(spec: TensorSpec, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    shape = tuple(1 if size < 0 else size for size in spec.shape)
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
