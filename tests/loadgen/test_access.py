"""Headers and certificates: what is written down has no value of a header, and what is wrong is one line."""

from __future__ import annotations

import json
import os
import pickle
import ssl
from pathlib import Path

import pytest
from fake_http_server import FakeServer, Reply
from tls_proxy import Proxy, authority

from loadgen.access import Access, AccessError, given_headers, hidden
from loadgen.discovery import DiscoveryError, list_models, model_tensors
from loadgen.job import ReplayJob, RequestShape, run_replay
from loadgen.patterns import Constant
from loadgen.refused import why_no_grpc, why_no_tls
from loadgen.schedule import poisson_schedule
from loadgen.transport import WARM
from testbed.config import ReplayConfig
from testbed.config_file import load_config
from testbed.errors import ConfigError, ServingError
from testbed.measurement.triton_metrics import read_page

SECRET = "s3cret-0f-this-test"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("KIS_TEST_TOKEN", SECRET)
    for name in [name for name in os.environ if name.startswith("KIS_HEADER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KIS_HEADER_X_KEY", "of another test")


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    with authority(tmp_path_factory.mktemp("pem") / "pki") as folder:
        yield folder


def test_what_was_typed_is_sent_and_not_written_down():
    access = Access(headers=given_headers([f"X-Key: {SECRET}", "Authorization: Bearer ${KIS_TEST_TOKEN}"]))
    assert access.header_values() == {"x-key": SECRET, "authorization": f"Bearer {SECRET}"}
    assert access.headers == {"X-Key": "${KIS_HEADER_X_KEY}", "Authorization": "Bearer ${KIS_TEST_TOKEN}"}
    assert access.variables() == {"KIS_HEADER_X_KEY": SECRET, "KIS_TEST_TOKEN": SECRET}
    for written in (access.model_dump_json(), repr(access), str(pickle.dumps(access))):
        assert SECRET not in written
    assert Access.model_validate_json(access.model_dump_json()) == access


def test_a_dollar_sign_of_a_password_stays(monkeypatch):
    assert Access(headers=given_headers(["X-Key: pa$$ 5$ word"])).header_values() == {"x-key": "pa$$ 5$ word"}


def test_headers_of_a_file_come_first(tmp_path):
    file = tmp_path / "headers"
    file.write_text(f"# ours\n\nX-Key: {SECRET}\nx-other:1\n")
    access = Access(headers={"X-OTHER": "${KIS_TEST_TOKEN}"}, header_files=(file,))
    assert access.header_values() == {"x-key": SECRET, "x-other": SECRET}
    assert SECRET not in access.model_dump_json()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (SECRET, "is no header: give 'Name: value'"),
        (f"a b: {SECRET}", "is no header: give 'Name: value'"),
        (f"Content-Length: {SECRET}", "header Content-Length cannot be given"),
        (f"X: {SECRET}\x01", "another character that no header may have"),
    ],
)
def test_what_is_no_header_is_refused_and_not_repeated(tmp_path, line, said):
    (tmp_path / "headers").write_text(line)
    with pytest.raises(AccessError, match=said) as refused:
        Access(header_files=(tmp_path / "headers",)).header_values()
    assert SECRET not in str(refused.value)


def test_a_variable_or_a_file_that_is_not_there_is_named():
    with pytest.raises(AccessError, match="header X: the environment variable NOT_THERE is not set: export it"):
        Access(headers={"X": "${NOT_THERE}"}).header_values()
    with pytest.raises(AccessError, match="--header-file none: No such file"):
        Access(header_files=(Path("none"),)).header_values()


def test_a_configuration_names_headers_and_has_none(tmp_path):
    file = tmp_path / "replay.yaml"
    file.write_text("access: {headers: {Authorization: 'Bearer ${KIS_TEST_TOKEN}'}, header_files: [more], ca: ca.crt}")
    access = load_config(file, ReplayConfig).access
    assert (access.ca, access.header_files) == (tmp_path / "ca.crt", (tmp_path / "more",))
    file.write_text(f"access: {{headers: {{Authorization: Bearer {SECRET}}}}}")
    with pytest.raises(ConfigError, match=r"access\.headers: Authorization is written out") as refused:
        load_config(file, ReplayConfig)
    file.write_text(f"server: https://me:{SECRET}@box")
    with pytest.raises(Exception, match="an address has no user") as password:
        load_config(file, ReplayConfig)
    assert SECRET not in f"{refused.value} {password.value}"


def test_what_a_server_repeats_is_hidden():
    access = Access(headers={"Authorization": "Bearer ${KIS_TEST_TOKEN}"})
    said = f"not {SECRET}, nor Bearer {SECRET}; the Bearer"
    assert hidden(said, access.secrets()) == "not ***, nor ***; the Bearer"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"ca": "none.crt"}, r"--ca .*none.crt \(No such file or directory\): give a file with certificates"),
        ({"ca": "ca.key"}, r"--ca .*ca.key \(NO_CERTIFICATE_OR_CRL_FOUND\)"),
        (
            {"cert": "client.crt", "key": "ca.key"},
            r"--cert .* and --key .* \(KEY_VALUES_MISMATCH\): give",
        ),
    ],
)
def test_a_wrong_file_is_named(pem, files, said):
    with pytest.raises(AccessError, match=said):
        Access(**{name: pem / file for name, file in files.items()}).context()


def ask(pem, behind, path="", scheme="https", trusted=True, client=False, host="localhost", headers=None, **proxy):
    access = Access(
        ca=pem / "ca.crt" if trusted else None,
        cert=pem / "client.crt" if client else None,
        key=pem / "client.key" if client else None,
        headers={"Authorization": "${KIS_TEST_TOKEN}"} if headers is None else headers,
    )
    with Proxy({"/triton": behind}, pem, **proxy) as running:
        return list_models(f"{scheme}://{host}:{running.port}{path}", access)


def test_a_path_a_token_and_certificates_of_both_sides_are_let_in(pem):
    with FakeServer() as server:
        asked = {"path": "/triton", "token": SECRET}
        assert ask(pem, server.address, **asked) == ("toy",)
        assert ask(pem, server.address, **asked, host="127.0.0.1") == ("toy",)
        assert ask(pem, server.address, **asked, ask_for_client=True, client=True) == ("toy",)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"trusted": False}, "certificate is not trusted .*: give the authority's with --ca FILE"),
        ({"name": "other"}, "certificate is of another name .*'localhost'.*: give the name that it was made for"),
        ({"name": "other", "host": "127.0.0.1"}, "certificate is of another name"),
        ({"ask_for_client": True}, "seems to ask for a certificate .*: give one that it trusts with --cert"),
        ({"scheme": "http"}, "it speaks TLS there: give https://"),
        ({"path": "/trition"}, r"has nothing there \(404\): check the path, which is what comes before /v2"),
        ({"token": "x", "headers": {}}, r"refuses these requests \(401\): give what it asks for, e.g. --header"),
        ({"token": "x"}, r"refuses these requests \(401\): check the value of authorization"),
        ({"token": "x", "refusal": 403}, r"refuses these requests \(403\): check the value of authorization"),
        ({"token": "x", "refusal": 302}, r"sends clients to another address \(302\): give that one"),
        ({"token": "x", "refusal": 503}, r"no Triton behind it \(503\): start Triton, or check the path"),
    ],
)
def test_who_is_not_let_in_is_told_why_in_one_line(pem, asked, said):
    with FakeServer() as server, pytest.raises(DiscoveryError, match=said) as refused:
        ask(pem, server.address, **{"path": "/triton"} | asked)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_tls_to_a_port_without_it_is_told(pem):
    with Proxy({"": "127.0.0.1:9"}, None) as plain, pytest.raises(DiscoveryError, match="TLS"):
        list_models(f"https://localhost:{plain.port}")


def test_an_unchecked_certificate_is_let_in_only_when_that_is_asked_for(pem):
    with FakeServer() as server, Proxy({"": server.address}, pem, name="other") as proxy:
        assert list_models(f"https://localhost:{proxy.port}", Access(insecure=True)) == ("toy",)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "Tls handshake failed: SSL_ERROR_SSL: error:1:x:CERTIFICATE_VERIFY_FAILED: self-signed: OK",
            "trusted (self-s",
        ),
        ("UNAUTHENTICATED: Hostname Verification Check failed.", "of another name"),
        ("Cannot check peer: missing selected ALPN property.", "no HTTP/2 there"),
        ("Tls handshake failed: SSL_ERROR_SSL: error:1:x:WRONG_VERSION_NUMBER", "it speaks no TLS there"),
        ("Tls handshake failed: SSL_ERROR_SSL: SSLV3_ALERT_CERTIFICATE_REQUIRED", "seems to ask for a certificate"),
        ("Received http2 header with status: 401", "refuses these requests (401)"),
        ("Received http2 header with status: 404", "has nothing there (404)"),
    ],
)
def test_what_grpc_says_is_put_into_the_same_words(said, meant):
    assert meant in (why_no_grpc(said, Access()) or "")
    assert why_no_grpc("failed to connect to all addresses: Connection refused", Access()) is None


def test_a_certificate_that_has_expired_is_told():
    expired = ssl.SSLCertVerificationError()
    expired.verify_code, expired.verify_message = 10, "certificate has expired"
    assert "certificate has expired): have it renewed" in (why_no_tls(expired) or "")


def test_headers_do_not_follow_a_redirection(pem):
    access = Access(ca=pem / "ca.crt", headers={"Authorization": "${KIS_TEST_TOKEN}"})
    with Proxy({}, pem, token="x", refusal=302) as proxy:
        with pytest.raises(ServingError, match=r"sends clients to another address \(302\)"):
            read_page(f"https://localhost:{proxy.port}/metrics", 5, access)
        assert len(proxy.heads) == 1


def test_connections_are_opened_once_and_a_redirection_is_no_answer(pem, tmp_path):
    with FakeServer() as server, Proxy({"": server.address}, pem) as proxy:
        access = Access(ca=pem / "ca.crt")
        url = f"https://localhost:{proxy.port}"
        served = model_tensors(url, "toy", access=access)
        poisson_schedule(Constant(rate=100), 1, 1, "toy").write(tmp_path / "schedule.parquet")
        job = ReplayJob(
            schedule=tmp_path / "schedule.parquet",
            run_dir=tmp_path,
            endpoints=(url,),
            access=access,
            requests={"toy": RequestShape(inputs=served.inputs, batched=served.batched)},
            spin_s=0,
        )
        before = proxy.connections
        log = run_replay(job)
        assert log.ok.all(), log.frame["detail"].value_counts()
        assert proxy.connections - before == WARM  # a ticket of TLS 1.3 in an idle one does not close it
        server.behave = lambda request_id: Reply(302)
        assert set(run_replay(job).frame["detail"]) == {"HTTP 302: {}"}
    assert json.loads((tmp_path / "raw/job.json").read_text())["access"]["ca"] == str(pem / "ca.crt")
