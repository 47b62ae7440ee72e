"""Models of a user's kind for the python backend, one of each kind, and a tritonserver that has them all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.serving.server_process import free_ports
from testbed.serving.tritonserver import (
    Ports,
    find_tritonserver,
    make_backend_directory,
    server_command,
    server_environment,
)

READY_S = 120.0

# Writes down what it is sent, a line for each request; waits `wait_ms`, and `row_ms` for each row of a batch; fails at
# each `fail_every`-th.
# The embedded server's python backend was built for NumPy 1. With NumPy 2, as_numpy and Tensor() are of no use, DLPack
# is, and of texts only their size is known.
MODEL = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.values = {name: each["string_value"] for name, each in config["parameters"].items()}
        self.inputs = {each["name"]: each["data_type"] for each in config["input"]}
        self.outputs = [each["name"] for each in config["output"]]
        self.decoupled = bool((config.get("model_transaction_policy") or {}).get("decoupled"))
        self.version, self.seen, self.texts_bytes = args["model_version"], 0, []
        self.texts = [abs(int(np.prod([int(d) for d in each["dims"]])))
                      for each in config["input"] if each["data_type"] == "TYPE_STRING"]
        pb_utils.deserialize_bytes_tensor = self.text_of

    def execute(self, requests):
        wait_ms = float(self.values["wait_ms"]) + float(self.values["row_ms"]) * sum(map(self.rows_of, requests))
        time.sleep(wait_ms / 1e3 * int(self.version))
        return [self.answer(request) for request in requests]

    def rows_of(self, request):
        return request.inputs()[0].shape()[0] if self.values["batched"] == "yes" else 1

    def answer(self, request):
        self.seen += 1
        sent = {}
        for name, kind in self.inputs.items():
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                continue
            sent[name] = {"shape": list(tensor.shape()), "data": self.data_of(tensor, kind)}
        with open(self.values["record"], "a") as record:
            print(json.dumps({"version": self.version, "sent": sent}), file=record)
        every = int(self.values["fail_every"])
        if every and self.seen % every == 0:
            return self.failed("the embedding index is out of range")
        rows = next(iter(sent.values()))["shape"][0] if self.values["batched"] == "yes" else 1
        y = np.zeros([rows, 1], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack(name, y) for name in self.outputs])

    def text_of(self, encoded):
        self.texts_bytes.append(int(encoded.size))
        return np.array([b""] * self.texts[0], dtype=object)

    def data_of(self, tensor, kind):
        if kind == "TYPE_STRING":
            return self.texts_bytes.pop(0)
        return None if kind == "TYPE_BF16" else np.from_dlpack(tensor).ravel()[:8].tolist()  # NumPy has no BF16

    def failed(self, why):
        return pb_utils.InferenceResponse([], pb_utils.TritonError(why))
"""
DEFAULTS = {"wait_ms": "1", "row_ms": "0", "fail_every": "0"}
TYPES = (
    "BOOL",
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    "FP16",
    "FP32",
    "FP64",
    "STRING",
)


@dataclass(frozen=True)
class OwnModel:
    """inputs: name -> (type, dims, anything else). rules: of the configuration, as text."""

    inputs: dict[str, tuple[str, list[int], str]]
    max_batch_size: int = 8
    rules: str = "dynamic_batching { }"
    parameters: dict[str, str] | None = None
    versions: int = 1
    y_dims: str = "[1]"

    def write(self, repository: Path, name: str, timed: Mapping[str, str] | None = None) -> None:
        """Its folder in the repository. timed: its wait_ms and row_ms, instead of those that it has here."""
        for version in range(1, self.versions + 1):
            (repository / name / str(version)).mkdir(parents=True)
            (repository / name / str(version) / "model.py").write_text(MODEL)
        values = {
            **DEFAULTS,
            "record": str(repository.parent / f"{name}.jsonl"),
            "batched": "yes" if self.max_batch_size else "no",
            **(self.parameters or {}),
            **(timed or {}),
        }
        tensors = ", ".join(
            f'{{ name: "{each}", data_type: TYPE_{kind}, dims: {dims} {more} }}'
            for each, (kind, dims, more) in self.inputs.items()
        )
        group = "" if "instance_group" in self.rules else "instance_group [{ kind: KIND_CPU, count: 1 }]"
        lines = [
            f'name: "{name}" backend: "python" max_batch_size: {self.max_batch_size}',
            f"input [{tensors}]",
            f'output [{{ name: "y", data_type: TYPE_FP32, dims: {self.y_dims} }}]',
            group,
            self.rules,
            *(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items()),
        ]
        (repository / name / "config.pbtxt").write_text("\n".join(lines))


X = {"x": ("FP32", [4], "")}
MODELS = {
    "plain": OwnModel(X),
    "types": OwnModel({f"of_{kind.lower()}": (kind, [2], "") for kind in TYPES}),
    "brain": OwnModel({"h": ("BF16", [4], "")}),
    "words": OwnModel({"INPUT": ("STRING", [-1, -1], "")}),
    "numbers": OwnModel({"IN0": ("STRING", [3], "")}),
    "whole": OwnModel({"input_ids": ("INT64", [-1, -1], "")}, max_batch_size=0, rules=""),
    "edges": OwnModel({"edges": ("INT64", [-1, 2], "")}, max_batch_size=0, rules=""),
    "libtorch": OwnModel({f"input__{i}": ("INT64", [8], "") for i in range(3)}),
    "optional": OwnModel(
        {"input_ids": ("INT32", [16], ""), "end_id": ("INT32", [1], "optional: true reshape: { shape: [] }")}
    ),
    "shaped": OwnModel({"x": ("FP32", [2, 2], "reshape: { shape: [4] }")}),
    "versions": OwnModel(X, versions=2, rules="dynamic_batching { } version_policy: { all { } }"),
    "groups": OwnModel(
        X, rules="dynamic_batching { } instance_group [{ kind: KIND_CPU, count: 2 }, { kind: KIND_CPU, count: 1 }]"
    ),
    "ranked": OwnModel(
        X,
        rules="dynamic_batching { priority_levels: 2 default_priority_level: 2 priority_queue_policy "
        "{ key: 1 value { timeout_action: DELAY default_timeout_microseconds: 1000 } } }",
    ),
    "limited": OwnModel(
        X,
        max_batch_size=4,
        rules="dynamic_batching { default_queue_policy { max_queue_size: 2 } }",
        parameters={"wait_ms": "20"},
    ),
    "rowed": OwnModel(X, rules="dynamic_batching { preferred_batch_size: [4] }", parameters={"wait_ms": "400"}),
    "timed": OwnModel(
        X,
        max_batch_size=1,
        rules="dynamic_batching { default_queue_policy { default_timeout_microseconds: 20000 } }",
        parameters={"wait_ms": "20"},
    ),
    "cached": OwnModel(X, rules="dynamic_batching { } response_cache { enable: true }"),
    "rated": OwnModel(
        X,
        rules="dynamic_batching { } instance_group [{ kind: KIND_CPU, count: 2, rate_limiter { resources "
        '[{ name: "R", count: 1 }] } }]',
    ),
    "sequence": OwnModel(X, rules="sequence_batching { max_sequence_idle_microseconds: 5000000 }"),
    "decoupled": OwnModel(X, rules="dynamic_batching { } model_transaction_policy { decoupled: true }"),
    "failing": OwnModel(X, parameters={"fail_every": "20"}),
    "broken": OwnModel(X, parameters={"fail_every": "1"}),
    "alone": OwnModel(X, max_batch_size=8, rules=""),
    "preferred": OwnModel(
        X, rules="dynamic_batching { preferred_batch_size: [4] max_queue_delay_microseconds: 20000 }"
    ),
}
STEP = (
    '{{ model_name: "{0}" model_version: -1 input_map {{ key: "x" value: "{1}" }} '
    'output_map {{ key: "y" value: "{2}" }} }}'
)
ENSEMBLE = f"""name: "both" platform: "ensemble" max_batch_size: 8
input [{{ name: "first", data_type: TYPE_FP32, dims: [4] }}]
output [{{ name: "last", data_type: TYPE_FP32, dims: [1] }}]
ensemble_scheduling {{ step [{STEP.format("plain", "first", "last")}] }}
"""


def write_models(repository: Path, timed: Mapping[str, str] | None = None) -> None:
    """A repository with all of them. timed: see OwnModel.write."""
    for name, model in MODELS.items():
        model.write(repository, name, timed)
    (repository / "both" / "1").mkdir(parents=True)
    (repository / "both" / "config.pbtxt").write_text(ENSEMBLE)


@dataclass(frozen=True)
class OwnServer:
    """A running tritonserver with the models; `folder` has what each was sent."""

    folder: Path
    ports: Ports

    @property
    def http(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.ports.http}"

    def sent(self, model: str) -> list[dict[str, object]]:
        """What that model was sent, in order."""
        record = self.folder / f"{model}.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


@contextlib.contextmanager
def own_server(folder: Path, *flags: str, timed: Mapping[str, str] | None = None) -> Iterator[OwnServer]:
    """Start a tritonserver with the models, and end it. flags: more of its own. timed: see OwnModel.write."""
    write_models(folder / "models", timed)
    server = find_tritonserver()
    backends = make_backend_directory(folder / "backends", server)
    ports = free_ports(None)
    command = server_command(server, backends, folder / "models", ports, shm_prefix=folder.name[-20:], gpu=False)
    caches = server.binary.parents[1] / "caches"
    command += [f"--cache-directory={caches}", "--cache-config=local,size=1048576", "--rate-limit=execution_count"]
    command += ["--exit-on-error=false", *flags]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=server_environment(threads=1, gpu=False), stdout=log, stderr=log)
    try:
        running = OwnServer(folder, ports)
        _wait_until_ready(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(server: OwnServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{server.http}/v2/health/live", timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError((server.folder / "server.log").read_text()[-2000:])
