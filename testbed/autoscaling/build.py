"""A policy from its configuration: `kind` names it, the other keys are its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from testbed.autoscaling.manifests.file import with_manifest
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.policy import Policy
from testbed.config import current_names
from testbed.errors import ConfigError
from workloads.files import parse_json, read_text
from workloads.registry import nearest


def build_policy(settings: dict[str, Any], max_replicas: int, rate_rps: Callable[[float], float] | None) -> Policy:
    """ConfigError names what is wrong. max_replicas: where the settings name none.

    `hpa` takes a whole `spec`, or `metric` and `target` of a Pods metric, or `tuned`, a file of `kis tune`.
    rate_rps: the true rate, for policies that know the future.
    """
    given = current_names(resolved(settings))
    kind = given.pop("kind", None)
    cls = find_policy(kind)
    known = list(cls.__dataclass_fields__)
    if hasattr(cls, "settings_from"):
        given = cls.settings_from(given, max_replicas)
    if knows_the_future({"kind": kind}):
        if rate_rps is None:
            raise ConfigError(f"policy {kind}: it must know the rate, so there must be open-loop traffic")
        given["rate_rps"] = lru_cache(maxsize=None)(rate_rps)  # each decision looks at much of what the last one did
    if "max_replicas" in known:
        given.setdefault("max_replicas", max_replicas)
    for key in given:
        if key not in known:
            shown = [*getattr(cls, "short_keys", ()), *known]
            raise ConfigError(f"policy {kind}: unknown key '{key}': {nearest(key, shown)}")
    try:
        policy: Policy = TypeAdapter(cls).validate_python(given)
    except ValidationError as error:
        raise _refusal(kind, error) from None
    except OverflowError as error:
        raise ConfigError(f"policy {kind}: a number is too large ({error}): give a smaller one") from None
    wrong = next(_not_finite(policy, ""), None)
    if wrong is not None:
        raise ConfigError(f"policy {kind}: {wrong} is not finite: give a number")
    return policy


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """Places of numbers that are NaN or infinite. No model describes a policy, which may be anybody's dataclass."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}.{number}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _not_finite(getattr(value, field.name), f"{place}.{field.name}".lstrip("."))


def resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings themselves, or those of the file that they name: `manifest`, an object of Kubernetes, or `tuned`,
    the tuned.json of `kis tune`. Of that: of `policy`, else of the one that was chosen if it is of their kind, else of
    the first that was searched of it. ConfigError if there is none."""
    if "tuned" not in settings:
        return with_manifest(dict(settings))
    kind, name = settings.get("kind"), settings.get("policy")
    if not {"kind", "tuned"} <= settings.keys() <= {"kind", "tuned", "policy"}:
        raise ConfigError("`tuned` goes with `kind`, and with `policy` where the file has several of that kind")
    file = Path(str(settings["tuned"]))
    try:
        tuned = parse_json(read_text(file))
        policies = {key: dict(value) for key, value in tuned["policies"].items()}
        chosen, searched = (
            str(tuned.get("chosen", "tuned")),
            [key for key in policies if key not in ("given", "untuned")],
        )
        order = [name] if name is not None else [chosen, *searched, *policies]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: give a tuned.json of kis tune") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{file} is not what kis tune writes: give its tuned.json") from None
    fitting = [key for key in order if policies.get(key, {}).get("kind") == kind]
    if not fitting:
        has = ", ".join(f"{key} ({policy.get('kind')})" for key, policy in policies.items())
        raise ConfigError(f"{file} has no policy {name or ''} of kind {kind}: it has {has}".replace("  ", " "))
    return policies[fitting[0]]


def start_replicas(settings: dict[str, Any], otherwise: int) -> int:
    """What a run under that policy begins with: a fixed number is there from the start. Nobody scales: otherwise."""
    if not settings:
        return otherwise
    starts = getattr(find_policy(settings.get("kind")), "start_replicas", None)
    own = None if starts is None else starts(settings)
    return otherwise if own is None else own


def knows_the_future(settings: dict[str, Any]) -> bool:
    """Is it a bound, and no policy for a cluster?"""
    return bool(getattr(find_policy(settings.get("kind")), "knows_the_future", False))


def _refusal(kind: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    place, given = ".".join(map(str, first["loc"])), first["input"]
    if first["type"] in ("missing", "missing_argument"):
        return ConfigError(f"policy {kind}: {place} is missing: give {kind}:{place}=...")
    shown = f" (got {given!r})" if isinstance(given, (str, int, float)) else ""
    return ConfigError(f"policy {kind}: {place}: {first['msg']}{shown}")
