"""external.metrics.k8s.io/v1beta1 and custom.metrics.k8s.io/v1beta2: a path and its query -> an answer. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from testbed.adapter.selectors import SelectorError, parse_selector, selects

EXTERNAL, CUSTOM = "external.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"
_VERSIONS = {name.partition("/")[0]: name for name in (EXTERNAL, CUSTOM)}  # by group
_ALL = "*"  # in place of a pod's name


class Value(NamedTuple):
    """One measured value in milli-units: over the window_s seconds that end at time_s (since 1970).

    labels: a pod's own, or those of a deployment's value. pod: empty for the value of a whole deployment.
    """

    pod: str
    labels: Mapping[str, str]
    value_m: int
    time_s: float
    window_s: float


class MetricSource(Protocol):
    """Values by namespace and metric: whoever can answer these questions can be served to the HPA.

    What was not measured is not among them: there is no value for 'not known'.
    """

    @property
    def metrics(self) -> Sequence[str]:
        """Their names."""

    def of_pods(self, namespace: str, metric: str) -> Sequence[Value]:
        """One for each pod that was measured."""

    def of_deployments(self, namespace: str, metric: str) -> Sequence[Value]:
        """One for each deployment that was measured."""


class Answer(NamedTuple):
    """What goes over the wire: a status and an object, which becomes JSON."""

    status: HTTPStatus
    body: Mapping[str, Any]


def answer(source: MetricSource, target: str) -> Answer:
    """The answer to GET `target`: an object, or a Status that says why there is none."""
    url = urlsplit(target)
    try:
        answer = _looked_up(source, url.path, {key: values[-1] for key, values in parse_qs(url.query).items()})
    except SelectorError as error:
        return refusal(HTTPStatus.BAD_REQUEST, "BadRequest", str(error))
    return answer or refusal(HTTPStatus.NOT_FOUND, "NotFound", f"there is nothing at {url.path}")


def _looked_up(source: MetricSource, path: str, query: Mapping[str, str]) -> Answer | None:
    match [unquote(word) for word in path.strip("/").split("/")]:
        case ["apis"]:
            return _groups()
        case ["apis", group] if group in _VERSIONS:
            return Answer(HTTPStatus.OK, {"kind": "APIGroup", "apiVersion": "v1", **_group(group)})
        case ["apis", group, version] if f"{group}/{version}" in (EXTERNAL, CUSTOM):
            return _resources(f"{group}/{version}", source.metrics)
        case ["apis", group, version, "namespaces", namespace, metric] if f"{group}/{version}" == EXTERNAL:
            return _external(source, namespace, metric, query)
        case ["apis", group, version, "namespaces", namespace, "pods", pod, metric] if f"{group}/{version}" == CUSTOM:
            return _custom(source, namespace, pod, metric, query)
    return None


def refusal(status: HTTPStatus, reason: str, message: str) -> Answer:
    """A Status object, as every Kubernetes API answers what it cannot do."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return Answer(status, {**body, "message": message, "reason": reason, "code": int(status)})


def _group(group: str) -> dict[str, Any]:
    version = {"groupVersion": _VERSIONS[group], "version": _VERSIONS[group].partition("/")[2]}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _groups() -> Answer:
    return Answer(
        HTTPStatus.OK,
        {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in _VERSIONS]},
    )


def _resources(group_version: str, metrics: Sequence[str]) -> Answer:
    before, kind = ("", "ExternalMetricValueList") if group_version == EXTERNAL else ("pods/", "MetricValueList")
    resources = [
        {"name": f"{before}{metric}", "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
        for metric in metrics
    ]
    body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
    return Answer(HTTPStatus.OK, body)


def _external(source: MetricSource, namespace: str, metric: str, query: Mapping[str, str]) -> Answer:
    values = _values_of(source, source.of_deployments, namespace, metric, query.get("labelSelector", ""))
    items = [
        {
            "metricName": metric,
            "metricLabels": dict(value.labels),
            "timestamp": _time(value),
            "windowSeconds": round(value.window_s),
            "value": f"{value.value_m}m",
        }
        for value in values
    ]
    return _list("ExternalMetricValueList", EXTERNAL, items, metric)


def _custom(source: MetricSource, namespace: str, pod: str, metric: str, query: Mapping[str, str]) -> Answer:
    if query.get("metricLabelSelector"):
        raise SelectorError("metricLabelSelector: metrics of pods have no labels of their own: select pods by theirs")
    values = _values_of(source, source.of_pods, namespace, metric, query.get("labelSelector", ""))
    items = [
        {
            "describedObject": {"kind": "Pod", "namespace": namespace, "name": value.pod, "apiVersion": "v1"},
            "metric": {"name": metric, "selector": None},
            "timestamp": _time(value),
            "windowSeconds": round(value.window_s),
            "value": f"{value.value_m}m",
        }
        for value in values
        if pod in (_ALL, value.pod)
    ]
    return _list("MetricValueList", CUSTOM, items, metric)


def _values_of(
    source: MetricSource, ask: Callable[[str, str], Sequence[Value]], namespace: str, metric: str, selector: str
) -> list[Value]:
    wanted = parse_selector(selector)
    return (
        [value for value in ask(namespace, metric) if selects(wanted, value.labels)] if metric in source.metrics else []
    )


def _list(kind: str, group_version: str, items: list[dict[str, Any]], metric: str) -> Answer:
    """What is not known is an error to the HPA, which then leaves the size as it is; an empty list would be too, but
    without a reason that somebody can read."""
    if not items:
        message = f"{metric}: there is no such metric, or nothing was measured of what is selected"
        return refusal(HTTPStatus.NOT_FOUND, "NotFound", message)
    return Answer(HTTPStatus.OK, {"kind": kind, "apiVersion": group_version, "metadata": {}, "items": items})


def _time(value: Value) -> str:
    return dt.datetime.fromtimestamp(int(value.time_s), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
