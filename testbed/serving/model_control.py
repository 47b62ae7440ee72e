"""A running Triton's model with another configuration: what it has, what it is to have, and how it gets it.

Triton's load request takes a whole configuration instead of config.pbtxt, where it was started with
--model-control-mode=explicit (its model repository extension). Elsewhere a user puts the file there and starts it anew.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tritonclient.utils import InferenceServerException

from loadgen.access import PLAIN, Access
from loadgen.clients import http_client, why_refused
from loadgen.discovery import model_configuration
from testbed.errors import ServingError
from workloads.catalog import ServiceConfig

LOAD_TIMEOUT_S = 600.0  # a large model reads its weights, or builds its engine
REFUSED = "explicit model load / unload is not allowed"  # Triton's words where it was not started for it

Config = dict[str, Any]  # as /v2/models/NAME/config has it


class NotControlledError(ServingError):
    """The server does not load models on request."""


def configured_as(config: Mapping[str, Any], service: ServiceConfig) -> Config:
    """The model's configuration with one replica's instances and batching of `service`; everything else as it is.

    Instances are divided over the GPUs of its first group: Triton makes `count` of them on each. ServingError if they
    cannot be.
    """
    made: Config = copy.deepcopy(dict(config))
    group = dict((made.get("instance_group") or [{"kind": "KIND_AUTO"}])[0])
    gpus = max(1, len(group.get("gpus") or ()))
    if service.instances % gpus:
        raise ServingError(f"{service.instances} instances cannot be spread evenly over {gpus} GPUs: give a multiple")
    made["instance_group"] = [{**group, "count": service.instances // gpus}]
    rules = service.dynamic_batching
    if int(made.get("max_batch_size", 0)):  # 0: requests have no batch dimension
        made["max_batch_size"] = service.max_batch_size
    if rules is None:
        made.pop("dynamic_batching", None)
        return made
    made["dynamic_batching"] = {
        **(made.get("dynamic_batching") or {}),
        "preferred_batch_size": list(rules.preferred_batch_sizes),
        "max_queue_delay_microseconds": round(rules.max_queue_delay_s * 1e6),
    }
    return made


def as_pbtxt(config: Mapping[str, Any]) -> str:
    """The same as the text of config.pbtxt."""
    from google.protobuf import json_format, text_format  # noqa: PLC0415  half a second, for this alone
    from tritonclient.grpc import model_config_pb2  # noqa: PLC0415

    try:
        message = json_format.ParseDict(dict(config), model_config_pb2.ModelConfig(), ignore_unknown_fields=True)
    except (json_format.ParseError, OverflowError, ValueError, TypeError, RecursionError, SystemError) as error:
        raise ServingError(f"the configuration of the model is not Triton's ({error}): is this a Triton?") from None
    return str(text_format.MessageToString(message))


def load(endpoint: str, model: str, config: Mapping[str, Any], access: Access = PLAIN) -> None:
    """Have the server load the model with that configuration, and wait until it is ready.

    NotControlledError: the server does not do that. ServingError has its own words for a configuration that it refuses;
    the model is then as it was before.
    """
    try:
        with http_client(endpoint, LOAD_TIMEOUT_S, access) as client:
            client.load_model(model, config=json.dumps(config))
    except InferenceServerException as error:
        if REFUSED in str(error.message()):
            raise NotControlledError(
                f"the Triton at {endpoint} does not load models on request: it was started without "
                "--model-control-mode=explicit"
            ) from None
        if (why := why_refused(error, endpoint, access)) is not None:
            raise ServingError(f"{endpoint}: {why}") from None
        raise ServingError(
            f"the Triton at {endpoint} refuses that configuration of '{model}': {error.message()}"
        ) from None
    except OSError as error:
        raise ServingError(f"no Triton answers at {endpoint} ({error}): start it, or give its HTTP address") from None


@contextlib.contextmanager
def as_it_was(endpoint: str, model: str, access: Access = PLAIN) -> Iterator[Config]:
    """The model's configuration; after the block the server has that one again, if another one was loaded."""
    before = model_configuration(endpoint, model, access)
    try:
        yield before
    finally:
        if model_configuration(endpoint, model, access) != before:
            load(endpoint, model, before, access)
