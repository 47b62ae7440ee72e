"""A file with an autoscaler of Kubernetes -> the settings of the policy that does the same.

    {manifest: my-hpa.yaml, metrics: {queue_depth: pending_requests}, metrics_delay_s: 30}

The object says which policy it is. What stands beside `manifest` and `metrics` are further keys of that policy: what no
object says, such as the age of its metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.autoscaling.manifests.hpa import hpa_settings
from testbed.autoscaling.manifests.knative import knative_settings
from testbed.autoscaling.manifests.names import Names
from testbed.autoscaling.manifests.scaled_object import keda_settings
from testbed.config_file import parse_documents, read_yaml
from testbed.errors import ConfigError

TEMPLATE = "{{"
READERS: Mapping[tuple[str, str], Callable[[dict[str, Any], str, Names], dict[str, Any]]] = {  # by API group and kind
    ("autoscaling", "HorizontalPodAutoscaler"): hpa_settings,
    ("keda.sh", "ScaledObject"): keda_settings,
    ("serving.knative.dev", "Service"): knative_settings,
}


def with_manifest(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings themselves, or those of the object in the file that they name; also in what they hold by traffic."""
    if "per_traffic" in settings and isinstance(settings["per_traffic"], dict):
        inner = settings["per_traffic"].items()
        return {
            **settings,
            "per_traffic": {name: with_manifest(one) if isinstance(one, dict) else one for name, one in inner},
        }
    return read_manifest(settings) if "manifest" in settings else settings


def read_manifest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """ConfigError in one line: no such file, no or several autoscalers in it, or one that is not modelled."""
    file, said = Path(str(settings["manifest"])), settings.get("metrics", {})
    if not isinstance(said, dict):
        raise ConfigError(f"metrics of {file}: give a mapping of their names to ours, not {said!r}")
    body = autoscaler_of(read_yaml(file, lambda text: _documents(text, file)), str(file))
    names = Names(said)
    read = READERS[_group_and_kind(body)](body, str(file), names)
    names.check_all_used(str(file))
    others = {key: value for key, value in settings.items() if key not in ("manifest", "metrics")}
    kind = others.pop("kind", read["kind"])
    if kind != read["kind"]:
        raise ConfigError(f"{file} holds a {body['kind']}, which is of kind {read['kind']}, not {kind}: leave out kind")
    return {"name": file.stem, **read, **others}


def autoscaler_of(documents: list[Any], where: str) -> dict[str, Any]:
    """The only one among the documents of a file, and among the items of their lists."""
    objects = list(_objects(documents))
    found = [one for one in objects if _group_and_kind(one) in READERS]
    if len(found) == 1:
        return found[0]
    kinds = "a HorizontalPodAutoscaler, a ScaledObject or a Service of Knative"
    if not found:
        has = ", ".join(f"{one['kind']} of {one.get('apiVersion') or 'no apiVersion'}" for one in objects)
        has = has or "no object of Kubernetes"
        raise ConfigError(f"{where}: give a file with {kinds}: it has {has}{_hint(objects)}")
    names = ", ".join(f"{one['kind']} {(one.get('metadata') or {}).get('name', 'without a name')}" for one in found)
    raise ConfigError(f"{where}: has {len(found)} autoscalers ({names}): give a file with one of them")


def _documents(text: str, file: Path) -> list[Any]:
    """ConfigError of a template: it has to be rendered first."""
    template = next((n for n, line in enumerate(text.splitlines(), 1) if TEMPLATE in line), None)
    if template is not None:
        raise ConfigError(f"{file}, line {template}: is a template of Helm: give what `helm template` writes")
    return [_given(document) for document in parse_documents(text)]


def _given(value: Any) -> Any:
    """Without what is null: to the API server it is not there."""
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value


def _objects(documents: list[Any]) -> Iterator[dict[str, Any]]:
    for one in documents:
        if isinstance(one, dict) and isinstance(one.get("items"), list):
            yield from _objects(one["items"])
        elif isinstance(one, dict) and "kind" in one:
            yield one


def _hint(objects: Sequence[Mapping[str, Any]]) -> str:
    made = any(one["kind"] == "InferenceService" for one in objects)
    return "; KServe makes one of it: kubectl get hpa,scaledobject,ksvc -o yaml" if made else ""


def _group_and_kind(body: Mapping[str, Any]) -> tuple[str, str]:
    return str(body.get("apiVersion", "")).partition("/")[0], str(body.get("kind"))
