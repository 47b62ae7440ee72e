"""The two files of a learned policy, written and read so that they always belong together.

    policy.onnx        the network
    policy.json        PolicyFile; its hash is of the bytes of policy.onnx
    policy.next.onnx   only while a new pair is written

A pair is replaced in three steps, each a rename: policy.next.onnx, policy.json, and policy.next.onnx over policy.onnx.
Before the second the old pair is whole, after it the new one: whoever reads then finds the network that policy.json
names under the other name, and ends what was begun.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from testbed.config import EARLIER_NAMES, Strict
from testbed.errors import ConfigError
from workloads.files import first_wrong, parse_model, replacing, write_json


def _current_features(names: Any) -> Any:
    """Of a policy that was trained before they had these names."""
    if not isinstance(names, list | tuple):
        return names
    return [EARLIER_NAMES.get(name, name) if isinstance(name, str) else name for name in names]


class PolicyFile(Strict):
    """policy.json."""

    features_version: int | str
    features: Annotated[tuple[str, ...], BeforeValidator(_current_features)]
    sha256: str = Field(description="hash of policy.onnx")
    max_step: int = Field(ge=1, description="largest change of one decision")
    step_s: float = Field(gt=0, description="time between two decisions, and the length of a window")
    base: str | None = Field(None, description="kind of the policy whose proposals the network corrects; none: no such")
    slo_penalties: tuple[float, float] = Field(description="smallest and largest SLO penalty of the training")
    trained: dict[str, Any] = Field({}, description="provenance: scenarios, seeds, steps, code, and date")


class PolicyPair(NamedTuple):
    """What the two files hold. digest: sha256 of policy.json, and so of both, as it has the network's."""

    description: PolicyFile
    network: bytes
    digest: str


def write_pair(file: Path, network: bytes, description: PolicyFile) -> None:
    """Replace policy.onnx and the policy.json beside it. told.sha256 must be the network's."""
    assert description.sha256 == _sha256(network)
    with replacing(_next(file)) as temporary:
        temporary.write_bytes(network)
    write_json(file.with_suffix(".json"), description)
    _finish(file)


def read_pair(file: Path) -> PolicyPair:
    """policy.onnx and the policy.json beside it; ConfigError in one line if they are not there, or do not match."""
    beside, before = file.with_suffix(".json"), b""
    while True:
        for path in (file, beside):
            if not path.exists():
                raise ConfigError(
                    f"no policy {path}: a policy is an .onnx file and a .json file of the same name beside it"
                )
        text = beside.read_bytes()
        description = _parsed(text, beside)
        network = _network(file, description.sha256)
        if network is not None:
            return PolicyPair(description, network, _sha256(text))
        if text == before:
            raise ConfigError(
                f"{file} is not the file that {beside.name} was written for (its hash differs): export again"
            )
        before = text  # another export may just have ended between the two looks: once more


def _network(file: Path, sha256: str) -> bytes | None:
    """The network with that hash, under either name; None: there is none."""
    network = file.read_bytes()
    if _sha256(network) == sha256:
        return network
    with contextlib.suppress(OSError):
        network = _next(file).read_bytes()
        if _sha256(network) == sha256:
            with contextlib.suppress(OSError):  # a folder that may only be read
                _finish(file)
            return network
    return None


def _next(file: Path) -> Path:
    return file.with_suffix(".next.onnx")


def _finish(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a reader has done it
        os.replace(_next(file), file)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parsed(text: bytes, file: Path) -> PolicyFile:
    try:
        return parse_model(PolicyFile, text)
    except ValueError as error:
        raise ConfigError(f"{file}: {first_wrong(error)}: export the policy again") from None
