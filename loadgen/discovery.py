"""What a running Triton says of its models: tensors from the metadata, serving rules from the configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from loadgen.access import PLAIN, Access
from loadgen.clients import http_client, why_refused
from loadgen.endpoints import address
from workloads.catalog import DynamicBatching, ServiceConfig, TensorSpec
from workloads.errors import KisError
from workloads.files import first_wrong
from workloads.payloads import fitted, given_values, read_values

_TIMEOUT_S = 10.0


class DiscoveryError(KisError):
    """A server that does not answer, or a model that it does not describe."""


@dataclass(frozen=True)
class DiscoveredModel:
    """One model of a running server. batched: requests carry a batch dimension (max_batch_size > 0)."""

    name: str
    inputs: tuple[TensorSpec, ...]  # without the batch dimension, no size left free
    outputs: tuple[TensorSpec, ...]
    service: ServiceConfig  # of one replica; a model without batching has max_batch_size 1 and no dynamic batching
    batched: bool
    unmodelled: tuple[str, ...] = ()  # what its configuration asks for and `service` does not say


def list_models(endpoint: str, access: Access = PLAIN) -> tuple[str, ...]:
    """Names of the models that are ready on the server; DiscoveryError if it does not answer."""
    index = _ask(endpoint, access, "the models", lambda client: client.get_model_repository_index())
    with _read(endpoint, "the models"):
        return tuple(sorted({str(entry["name"]) for entry in index if entry.get("state") == "READY"}))


def the_model(endpoint: str, name: str | None, access: Access = PLAIN) -> str:
    """`name`, or the server's only model if it is None; DiscoveryError lists what there is otherwise."""
    if name is not None:
        return name
    models = list_models(endpoint, access)
    if len(models) != 1:
        listed = ", ".join(models) if models else "none"
        raise DiscoveryError(f"{endpoint} has {len(models)} ready models ({listed}): name one with --model")
    return models[0]


def model_tensors(
    endpoint: str,
    model: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, str] | None = None,
    *,
    have_lengths: bool = False,
    named: Collection[str] = (),
    access: Access = PLAIN,
) -> DiscoveredModel:
    """Describe `model` as served at `endpoint` (host:port or URL).

    shapes gives an input's shape (without batch dimension) where the model leaves sizes free; -1 leaves it to each
    request's length. values: of inputs, as a user types them; a file's shape is the input's. have_lengths: what is free
    is each request's length. named: optional inputs that are sent, beside those that have a shape or values.

    Raises DiscoveryError if a free size is not given, if the server does not answer, or if it has no such model or no
    configuration of it.
    """
    endpoint = address(endpoint)
    metadata = _ask(endpoint, access, f"model '{model}'", lambda client: client.get_model_metadata(model))
    config = model_configuration(endpoint, model, access)
    with _read(endpoint, model):
        return _described(model, metadata, config, dict(shapes or {}), dict(values or {}), have_lengths, named)


def _described(
    model: str,
    metadata: Mapping[str, Any],
    config: Mapping[str, Any],
    given: Mapping[str, tuple[int, ...]],
    values: Mapping[str, str],
    have_lengths: bool,
    named: Collection[str],
) -> DiscoveredModel:
    """See `model_tensors`."""
    if unsendable := _unsendable(config):
        raise DiscoveryError(
            f"model '{model}' {unsendable}: requests one by one, each with one answer, are what is sent"
        )
    batched = int(config.get("max_batch_size", 0)) > 0
    wanted = {*given, *values, *named}
    optional = {tensor["name"] for tensor in config.get("input", ()) if tensor.get("optional")}
    tensors = [tensor for tensor in metadata.get("inputs", ()) if tensor["name"] not in optional - wanted]
    names = ", ".join(tensor["name"] for tensor in metadata.get("inputs", ()))
    if unknown := wanted - {tensor["name"] for tensor in tensors}:
        raise DiscoveryError(f"model '{model}' has no input '{min(unknown)}': its inputs are {names}")
    inputs = tuple(_with_file(_spec(tensor, batched, given.get(tensor["name"])), values) for tensor in tensors)
    for spec in inputs:
        if spec.name in values:
            given_values(spec, values[spec.name], np.random.default_rng(0))  # a mistake is said before any traffic
    free = next((spec for spec in inputs if min(spec.shape, default=0) < 0), None)
    if free is not None and not have_lengths:
        raise DiscoveryError(
            f"model '{model}' leaves sizes of input '{free.name}' free, {list(free.shape)}: say what to send, e.g. "
            f"--shape {free.name}:{','.join(_example(free, batched))}"
        )
    outputs = tuple(_spec(tensor, batched, None) for tensor in metadata.get("outputs", ()))
    return DiscoveredModel(model, inputs, outputs, service_config(config), batched, unmodelled(config))


def model_configuration(endpoint: str, model: str, access: Access = PLAIN) -> dict[str, Any]:
    """The configuration that the server runs the model with, as JSON; DiscoveryError."""
    what = f"the configuration of '{model}'"
    asked = _ask(endpoint, access, what, lambda client: client.get_model_config(model))
    return cast(dict[str, Any], asked)


def _example(free: TensorSpec, batched: bool) -> list[str]:
    """A shape that could be meant: one text, a sequence of 128; without batching the first size is mostly the batch."""
    alone = "1" if free.datatype == "BYTES" else "128"
    several = not batched and len(free.shape) > 1 and free.shape[1] < 0
    return [
        str(size) if size >= 0 else "1" if several and number == 0 else alone for number, size in enumerate(free.shape)
    ]


def _with_file(spec: TensorSpec, values: Mapping[str, str]) -> TensorSpec:
    """With the shape of its values' file, where its own is free."""
    text = values.get(spec.name, "")
    if min(spec.shape, default=0) >= 0 or not text.startswith("@"):
        return spec
    return spec.model_copy(update={"shape": fitted(spec, read_values(Path(text[1:]), spec.datatype)).shape})


def parse_values(texts: Iterable[str]) -> dict[str, str]:
    """Values of inputs as a user types them: NAME=VALUE, NAME=LOW..HIGH, NAME=@FILE."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise DiscoveryError(f"--input {text}: give NAME=VALUE, NAME=LOW..HIGH or NAME=@FILE, e.g. input__1=0..1")
        values[name] = f"@{Path(value[1:]).resolve()}" if value.startswith("@") else value
    return values


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs as a user types them: NAME:D1,D2,... (perf_analyzer's --shape), without the batch dimension."""
    shapes = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        if not colon or not all((size.isdecimal() and len(size) < 16) or size == "-1" for size in sizes.split(",")):
            raise DiscoveryError(f"--shape {text}: give NAME:D1,D2,... without the batch dimension, e.g. input_ids:128")
        shapes[name] = tuple(map(int, sizes.split(",")))
    return shapes


def service_config(config: Mapping[str, Any]) -> ServiceConfig:
    """Triton's model configuration (the JSON of /v2/models/NAME/config) in our vocabulary, for one replica."""
    max_batch_size = int(config.get("max_batch_size", 0))
    rules = config.get("dynamic_batching") if max_batch_size > 0 else None
    buckets = ((config.get("parameters") or {}).get("length_buckets") or {}).get("string_value")  # our own backend's
    return ServiceConfig(
        instances=_instances(config),
        max_batch_size=max(max_batch_size, 1),
        dynamic_batching=None if rules is None else _dynamic_batching(rules, max_batch_size),
        length_buckets=tuple(map(int, buckets.split(","))) if buckets else (),
    )


def _instances(config: Mapping[str, Any]) -> int:
    groups = config.get("instance_group") or [{"count": 1}]
    return max(1, sum(int(group.get("count", 1)) * max(len(group.get("gpus", ())), 1) for group in groups))


def _unsendable(config: Mapping[str, Any]) -> str | None:
    """Why single requests cannot be sent to the model; None: they can."""
    if (config.get("model_transaction_policy") or {}).get("decoupled"):
        return "is decoupled (model_transaction_policy: a request has any number of answers)"
    if config.get("sequence_batching") is not None:
        return "is a sequence model (sequence_batching: its requests belong to sequences)"
    return None


def unmodelled(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What decides the latency of a model so configured and is not in ServiceConfig, each with its key."""
    rules = config.get("dynamic_batching") or {}
    groups = config.get("instance_group") or ()
    kinds = {str(group.get("kind", "KIND_AUTO")) for group in groups if not group.get("passive")}
    limited = any((group.get("rate_limiter") or {}).get("resources") for group in groups)
    parameters = config.get("parameters") or {}
    extensions = {
        "an ensemble of models (ensemble_scheduling)": config.get("ensemble_scheduling") is not None
        or config.get("platform") == "ensemble",
        "a response cache (response_cache)": (config.get("response_cache") or {}).get("enable"),
        "a rate limiter (instance_group.rate_limiter)": limited,
        "priority levels (dynamic_batching.priority_levels)": int(rules.get("priority_levels", 0)) > 0,
        "answers in order (dynamic_batching.preserve_ordering)": rules.get("preserve_ordering")
        and _instances(config) > 1,
        f"instances of several kinds ({', '.join(sorted(kinds))})": len(kinds) > 1,
        "a batching strategy of its own (TRITON_BATCH_STRATEGY_PATH)": "TRITON_BATCH_STRATEGY_PATH" in parameters,
    }
    return tuple(what for what, supported in extensions.items() if supported)


def _dynamic_batching(rules: Mapping[str, Any], max_batch_size: int) -> DynamicBatching:
    policy = rules.get("default_queue_policy") or {}
    preferred = tuple(int(size) for size in rules.get("preferred_batch_size", ()))
    return DynamicBatching(
        # A server fills in {max_batch_size} where its configuration file says nothing.
        preferred_batch_sizes=() if preferred == (max_batch_size,) else preferred,
        max_queue_delay_s=int(rules.get("max_queue_delay_microseconds", 0)) / 1e6,
        default_timeout_s=int(policy.get("default_timeout_microseconds", 0)) / 1e6,
        timeout_action="DELAY" if policy.get("timeout_action") == "DELAY" else "REJECT",
        max_queue_size=int(policy.get("max_queue_size", 0)),
        allow_timeout_override=bool(policy.get("allow_timeout_override")),
    )


def _spec(tensor: Mapping[str, Any], batched: bool, shape: tuple[int, ...] | None) -> TensorSpec:
    sizes = [int(size) for size in tensor["shape"]][1 if batched else 0 :]
    if shape is not None:
        fits = len(shape) == len(sizes) and all(free in (-1, given) for free, given in zip(sizes, shape, strict=True))
        if not fits:
            raise DiscoveryError(f"input '{tensor['name']}' has shape {sizes}: {list(shape)} does not fit it")
        sizes = list(shape)
    return TensorSpec(name=tensor["name"], datatype=tensor["datatype"], shape=tuple(sizes))


@contextlib.contextmanager
def _read(endpoint: str, what: str) -> Iterator[None]:
    """Of the block's code reads what a server has answered: DiscoveryError where that is not of Triton's form."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        said = first_wrong(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise DiscoveryError(f"what {endpoint} says of {what} cannot be read ({said}): is this a Triton?") from None


def _ask(server: str, access: Access, what: str, question: Callable[[triton.InferenceServerClient], Any]) -> Any:
    try:
        with http_client(server, _TIMEOUT_S, access) as client:
            return question(client)
    except KisError:
        raise
    except Exception as error:  # geventhttpclient lets sockets, timeouts and parsers fail each in its own way
        if (why := why_refused(error, server, access)) is not None:
            raise DiscoveryError(f"{server}: {why}") from None
        if isinstance(error, InferenceServerException):
            raise DiscoveryError(
                f"the Triton at {server} does not give {what}: {error.message()}: check its name and that it is loaded"
            ) from None
        raise DiscoveryError(f"no Triton answers at {server} ({error}): start it, or give its HTTP address") from None
