"""Requests as a user has them: perf_analyzer's JSON of input data (`--input-data`), one request an entry.

    {"data": [{"INPUT": [1, 2, 3]}, {"INPUT": {"content": [4, 5], "shape": [2]}}, {"INPUT": {"b64": "AQI="}}]}

Shapes are without the batch dimension. An entry may itself be a list of such entries.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from workloads.catalog import TensorSpec
from workloads.files import parse_json, read_text
from workloads.payloads import PayloadError, dtype_of, fitted, of_json

Arrays = dict[str, np.ndarray[Any, Any]]


def read_requests(path: Path, inputs: tuple[TensorSpec, ...]) -> tuple[Arrays, ...]:
    """The inputs of each request in the file, by name; PayloadError names the request that does not fit the model."""
    try:
        entries = parse_json(read_text(path))["data"]
        flat = [one for entry in entries for one in (entry if isinstance(entry, list) else [entry])]
    except OSError as error:
        raise PayloadError(f"{path}: {error.strerror}: give a file of requests") from None
    except (ValueError, KeyError, TypeError):
        wanted = '{"data": [{"INPUT": [...]}, ...]}'
        raise PayloadError(f"{path} is no file of requests: it should hold {wanted}") from None
    if not flat:
        raise PayloadError(f"{path} has no requests")
    return tuple(_request(f"{path}: request {number}", entry, inputs) for number, entry in enumerate(flat))


def names_in(path: Path) -> tuple[str, ...]:
    """Inputs that the first request has; none if the file cannot be read, which `read_requests` says better."""
    try:
        entry = parse_json(read_text(path))["data"][0]
        return tuple(map(str, entry[0] if isinstance(entry, list) else entry))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return ()


def _request(where: str, entry: Any, inputs: tuple[TensorSpec, ...]) -> Arrays:
    names = [spec.name for spec in inputs]
    if not isinstance(entry, dict) or set(entry) != set(names):
        given = ", ".join(entry) if isinstance(entry, dict) else "nothing of the kind"
        raise PayloadError(f"{where}: it has {given}, the model's inputs are {', '.join(names)}")
    try:
        return {spec.name: _data(entry[spec.name], spec) for spec in inputs}
    except (PayloadError, ValueError, OverflowError, TypeError) as error:
        raise PayloadError(f"{where}: {error}") from None


def _data(given: Any, spec: TensorSpec) -> np.ndarray[Any, Any]:
    if not isinstance(given, dict):
        return fitted(spec, of_json(given, spec.datatype))
    if "b64" in given:
        try:
            raw = base64.b64decode(given["b64"], validate=True)
        except binascii.Error as error:
            raise PayloadError(f"input '{spec.name}': b64: {error}") from None
        one_text = spec.datatype == "BYTES"
        data: np.ndarray[Any, Any] = (
            np.array([raw], object) if one_text else np.frombuffer(raw, dtype_of(spec.datatype))
        )
    else:
        data = of_json(given.get("content"), spec.datatype)
    return fitted(spec, data.reshape(given["shape"]) if "shape" in given else data)
