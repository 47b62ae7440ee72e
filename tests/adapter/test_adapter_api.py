"""The adapter's two APIs over values written by hand, whom it lets ask, and its configuration."""

from __future__ import annotations

import http.client
import http.server
import io
import json
import shutil
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.adapter.api import Value, answer
from testbed.adapter.config import AdapterConfig
from testbed.adapter.selectors import SelectorError, parse_selector, selects
from testbed.adapter.server import AdapterServer, Trust
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.localcluster import pki

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"


class Written:
    """One deployment of two pods, one of them measured."""

    metrics = ("load", "silence")

    def of_pods(self, namespace: str, metric: str) -> Sequence[Value]:
        assert metric in self.metrics  # nobody asks a source for what it does not have
        known = (namespace, metric) == ("default", "load")
        return [Value("web-1", {"app": "web"}, 1500, 1_700_000_000.9, 14.6)] if known else []

    def of_deployments(self, namespace: str, metric: str) -> Sequence[Value]:
        assert metric in self.metrics  # nobody asks a source for what it does not have
        known = (namespace, metric) == ("default", "load")
        return [Value("", {"deployment": name}, 2, 1_700_000_000.0, 15.0) for name in ("a", "b")] if known else []


def test_an_external_metric_is_selected_by_its_labels():
    status, body = answer(Written(), f"{EXTERNAL}/namespaces/default/load?labelSelector=deployment%3Db")
    assert status == 200
    assert body == {
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [
            {
                "metricName": "load",
                "metricLabels": {"deployment": "b"},
                "timestamp": "2023-11-14T22:13:20Z",
                "windowSeconds": 15,
                "value": "2m",
            }
        ],
    }
    assert len(answer(Written(), f"{EXTERNAL}/namespaces/default/load").body["items"]) == 2


def test_a_pods_metric_is_selected_by_the_pods_labels_or_its_name():
    for path in ("pods/%2A/load?labelSelector=app%3Dweb", "pods/web-1/load", "pods/*/load?metricLabelSelector="):
        status, body = answer(Written(), f"{CUSTOM}/namespaces/default/{path}")
        assert (status, body["kind"]) == (200, "MetricValueList")
        (item,) = body["items"]
        assert item["describedObject"] == {"kind": "Pod", "namespace": "default", "name": "web-1", "apiVersion": "v1"}
        assert (item["metric"]["name"], item["value"], item["windowSeconds"]) == ("load", "1500m", 15)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{EXTERNAL}/namespaces/default/silence", 404),  # a missing measurement is missing
        (f"{EXTERNAL}/namespaces/default/unheard_of", 404),
        (f"{EXTERNAL}/namespaces/other/load", 404),
        (f"{EXTERNAL}/namespaces/default/load?labelSelector=deployment%3Dc", 404),
        (f"{EXTERNAL}/namespaces/default/load?labelSelector=%3D", 400),
        (f"{CUSTOM}/namespaces/default/pods/web-2/load", 404),
        (f"{CUSTOM}/namespaces/default/pods/*/load?labelSelector=app%3Ddb", 404),
        (f"{CUSTOM}/namespaces/default/pods/*/load?metricLabelSelector=a%3Db", 400),
        (f"{CUSTOM}/namespaces/default/services/web/load", 404),
        ("/apis/custom.metrics.k8s.io/v1beta1", 404),
        ("/", 404),
    ],
)
def test_what_there_is_not_is_a_status(path: str, code: int):
    status, body = answer(Written(), path)
    assert (status, body["kind"], body["code"]) == (code, "Status", code)
    assert body["reason"] in ("NotFound", "BadRequest")


def test_discovery_names_every_metric():
    names = {group["name"] for group in answer(Written(), "/apis").body["groups"]}
    assert names == {"external.metrics.k8s.io", "custom.metrics.k8s.io"}
    assert answer(Written(), "/apis/custom.metrics.k8s.io").body["preferredVersion"]["version"] == "v1beta2"
    external, custom = (answer(Written(), path).body["resources"] for path in (EXTERNAL, CUSTOM))
    assert [one["name"] for one in external] == ["load", "silence"]
    assert [one["name"] for one in custom] == ["pods/load", "pods/silence"]


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("app=web,tier!=db", True),
        ("app==web", True),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (web, db),!old", True),
        ("app notin (web, db)", False),
        ("missing notin (a)", True),
        ("app,kis/model=m", True),
        ("old", False),
        ("app=", False),
    ],
)
def test_selectors_hold_as_in_kubernetes(selector: str, holds: bool):
    labels = {"app": "web", "tier": "front", "kis/model": "m"}
    assert selects(parse_selector(selector), labels) is holds


@pytest.mark.parametrize("selector", ["=web", "app=web,", "app in web", "app > 3"])
def test_a_selector_that_cannot_be_read_is_refused(selector: str):
    with pytest.raises(SelectorError, match="cannot be read: write key=value"):
        parse_selector(selector)


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    monkeypatch.setattr(pki, "PKI", tmp_path / "pki")
    for name, file in (
        ("CA", "ca.crt"),
        ("FRONT_PROXY_CA", "front-proxy-ca.crt"),
        ("SERVICE_ACCOUNT_KEY", "service-account.key"),
        ("SERVICE_ACCOUNT_PUBLIC_KEY", "service-account.pub"),
    ):
        monkeypatch.setattr(pki, name, tmp_path / "pki" / file)
    pki.write_certificates()
    pki.issue("impostor", pki.FRONT_PROXY_CA, "/CN=impostor", "clientAuth")
    pki.issue("stranger", pki.CA, "/CN=front-proxy-client", "clientAuth")
    pki.serving_certificate("localhost", tmp_path / "tls")
    return tmp_path


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def source() -> Written:
    return Written()


@pytest.fixture
def server(certificates: Path, source: Written, log: io.StringIO) -> Iterator[AdapterServer]:
    trust = Trust(pki.FRONT_PROXY_CA.read_text(), frozenset({"front-proxy-client"}))
    tls = certificates / "tls"
    made = AdapterServer(source, ("127.0.0.1", 0), tls / "tls.crt", tls / "tls.key", trust, log)
    made.start()
    yield made
    made.close()


def status_for(server: AdapterServer, certificate: str | None) -> int:
    context = ssl.create_default_context(cafile=pki.CA)
    if certificate is not None:
        context.load_cert_chain(pki.PKI / f"{certificate}.crt", pki.PKI / f"{certificate}.key")
    connection = http.client.HTTPSConnection("localhost", server.port, timeout=60, context=context)
    try:
        connection.request("GET", f"{EXTERNAL}/namespaces/default/load")
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_the_front_proxy_may_ask(server: AdapterServer, log: io.StringIO):
    idle = socket.create_connection(("localhost", server.port))  # begins no handshake: it holds nobody up
    assert status_for(server, "front-proxy-client") == 200
    assert status_for(server, "impostor") == 403
    for name in (None, "stranger"):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            status_for(server, name)
    idle.close()
    assert log.getvalue() == ""  # a handshake that fails is the client's affair


def test_a_source_that_fails_is_a_500_and_a_line_with_what_was_asked(
    server: AdapterServer, source: Written, log: io.StringIO
):
    def fail(namespace: str, metric: str) -> Sequence[Value]:
        raise ZeroDivisionError("a window of\nno length")

    source.of_deployments = fail  # type: ignore[method-assign]
    assert status_for(server, "front-proxy-client") == 500
    (line,) = log.getvalue().splitlines()
    told = json.loads(line)
    assert told["request"] == f"GET {EXTERNAL}/namespaces/default/load"
    assert told["error"] == "ZeroDivisionError: a window of no length"


def test_what_fails_beside_a_request_is_a_line_too(
    server: AdapterServer, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
):
    def fail(handler: object) -> None:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "handle", fail)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        status_for(server, "front-proxy-client")
    assert json.loads(log.getvalue())["error"] == "RuntimeError: no more threads"


def test_files_that_are_no_certificates_are_refused(certificates: Path):
    tls = certificates / "tls"
    good = Trust(pki.FRONT_PROXY_CA.read_text(), frozenset())
    with pytest.raises(ConfigError, match="no certificate to serve with"):
        AdapterServer(Written(), ("127.0.0.1", 0), tls / "tls.key", tls / "tls.key", good)
    with pytest.raises(ConfigError, match="authority of the front proxy"):
        AdapterServer(Written(), ("127.0.0.1", 0), tls / "tls.crt", tls / "tls.key", Trust("nothing", frozenset()))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"window_s": 0.5}, "window_s 0.5 is below scrape_period_s 1"),
        ({"deployments": []}, "deployments"),
        ({"deployments": [{"deployment": "a", "model": "m"}] * 2}, "a is named twice"),
        ({"windows": 3}, "did you mean 'window_s'"),
        ({"tls": {"certificate": "a"}}, "tls.key"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(changed: dict[str, Any], told: str, tmp_path: Path):
    right: dict[str, Any] = {
        "deployments": [{"deployment": "a", "model": "m"}],
        "tls": {"certificate": "tls.crt", "key": "tls.key"},
    }
    file = tmp_path / "adapter.yaml"
    file.write_text(yaml.safe_dump(right))
    assert load_config(file, AdapterConfig).window_s == 15.0
    file.write_text(yaml.safe_dump({**right, **changed}))
    with pytest.raises(ConfigError) as error:
        load_config(file, AdapterConfig)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["testbed/configs", "manifests/adapter/base", "manifests/adapter/local"])
def test_the_configurations_that_ship_can_be_read(file: str):
    assert load_config(Path(__file__).parents[2] / file / "adapter.yaml", AdapterConfig).deployments
