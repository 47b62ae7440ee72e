"""A real tritonserver behind a proxy with TLS, a path and a token: what talks to a user's server goes through it, and
leaves the token nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from own_models import OwnServer, own_server
from tls_proxy import Proxy, authority

from loadgen.request_log import RequestLog
from testbed.measurement.metric_log import MetricLog

pytestmark = pytest.mark.server

TOKEN = "s3cret-0f-this-test"
GRPC_TOKEN = "s3cret-0f-grpc"
LOCUST = Path(__file__).parents[2] / "loadgen" / "bursty.py"
TRAFFIC = ["--pattern", "constant", "--set", "rate=40", "--duration", "2"]


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    with authority(tmp_path_factory.mktemp("pem") / "pki") as folder:
        yield folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    restricted = f"--grpc-restricted-protocol=inference:kis={GRPC_TOKEN}"
    with own_server(tmp_path_factory.mktemp("own"), restricted) as running:
        yield running


@dataclass
class Behind:
    """The addresses of the proxy."""

    port: int
    grpc_port: int
    pem: Path
    heads: list[str]

    @property
    def flags(self) -> list[str]:
        url = f"https://localhost:{self.port}/team/triton"
        return ["--server", url, "--metrics", f"https://localhost:{self.port}/figures/metrics", *self.access]

    @property
    def access(self) -> list[str]:
        return ["--ca", str(self.pem / "ca.crt"), "--header", "Authorization: Bearer ${KIS_TEST_TOKEN}"]


@pytest.fixture
def proxy(pem: Path, server: OwnServer):
    routes = {"/team/triton": server.http, "/figures": f"127.0.0.1:{server.ports.metrics}"}
    over_grpc = Proxy({"": f"127.0.0.1:{server.ports.grpc}"}, pem, raw=True)
    with Proxy(routes, pem, token=f"Bearer {TOKEN}") as http, over_grpc as grpc:
        yield Behind(http.port, grpc.port, pem, http.heads)


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of ours, in that folder."""
    here = Path(__file__).parents[2]
    variables = os.environ | {"KIS_TEST_TOKEN": TOKEN, "PYTHONPATH": str(here)} | environment
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def holds(done: subprocess.CompletedProcess[str], folder: Path, *secrets: str) -> list[str]:
    """Files, or what was printed, that have a secret."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert len(files) > 5, files.keys()
    files |= {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    return [name for name, content in files.items() for secret in secrets if secret.encode() in content]


def test_replay_goes_through_it_and_leaves_the_token_nowhere(tmp_path, proxy):
    done = run(tmp_path, "testbed.cli", "replay", *proxy.flags, "--model", "plain", *TRAFFIC, "--out", "run")
    assert done.returncode in (0, 3), done.stderr
    log = RequestLog.read(tmp_path / "run/requests.parquet")
    assert log.ok.all(), log.frame["detail"].value_counts()
    assert set(log.frame["endpoint"]) == {f"https://localhost:{proxy.port}/team/triton"}
    assert all(f"host: localhost:{proxy.port}" in head.lower() for head in proxy.heads)
    metrics = MetricLog.read(tmp_path / "run/metrics.parquet").frame
    assert {"nv_inference_request_success", "batch_executions"} <= set(metrics["name"])
    assert holds(done, tmp_path, TOKEN) == []
    written = json.loads((tmp_path / "run/raw/job.json").read_text())["access"]
    assert written["headers"] == {"Authorization": "Bearer ${KIS_TEST_TOKEN}"}


def test_a_header_that_is_written_out_or_in_a_file_is_left_nowhere_either(tmp_path, proxy):
    (tmp_path / "headers").write_text(f"# ours\nX-Other: {GRPC_TOKEN}\n")
    flags = [*proxy.flags[:-1], f"Authorization: Bearer {TOKEN}", "--header-file", "../headers"]
    words = ["replay", *flags, "--model", "plain", *TRAFFIC, "--client.workers", "2", "--out", "run"]
    done = run(tmp_path / "here", "testbed.cli", *words)
    assert done.returncode in (0, 3), done.stderr
    assert RequestLog.read(tmp_path / "here/run/requests.parquet").ok.all()
    assert f"x-other: {GRPC_TOKEN}" in proxy.heads[-1].lower()
    assert holds(done, tmp_path / "here", TOKEN, GRPC_TOKEN) == []


def test_what_a_server_repeats_of_the_token_is_left_out(tmp_path, pem, server):
    with Proxy({"": server.http}, pem, refuse_infer=True) as proxy:
        proxy_flags = ["--server", f"https://localhost:{proxy.port}", "--ca", str(pem / "ca.crt")]
        proxy_flags += ["--header", "Authorization: Bearer ${KIS_TEST_TOKEN}"]
        words = ["replay", *proxy_flags, "--model", "plain", *TRAFFIC, "--out", "run"]
        done = run(tmp_path, "testbed.cli", *words)
    details = set(RequestLog.read(tmp_path / "run/requests.parquet").frame["detail"])
    assert details == {"HTTP 401: who is ***?"}
    assert holds(done, tmp_path, TOKEN) == []


@pytest.mark.parametrize("transport", ["grpc", "http_shm"])
def test_the_other_transports_go_through_it(tmp_path, proxy, transport):
    flags = [*proxy.flags, "--grpc", f"grpcs://localhost:{proxy.grpc_port}", "--transport", transport]
    flags += ["--header", "Triton-Grpc-Protocol-kis: ${KIS_GRPC_TOKEN}"]
    words = ["replay", *flags, "--model", "plain", *TRAFFIC, "--out", "run"]
    done = run(tmp_path, "testbed.cli", *words, KIS_GRPC_TOKEN=GRPC_TOKEN)
    assert done.returncode in (0, 3), done.stderr
    log = RequestLog.read(tmp_path / "run/requests.parquet")
    assert log.ok.all(), log.frame["detail"].value_counts()
    assert holds(done, tmp_path, TOKEN, GRPC_TOKEN) == []


def test_grpc_says_what_is_wrong(tmp_path, proxy, pem, server):
    wrong = {
        "its certificate is not trusted": (proxy.grpc_port, []),
        "it speaks no TLS there": (server.ports.grpc, ["--ca", str(pem / "ca.crt")]),
        "gRPC has no --insecure": (proxy.grpc_port, ["--insecure"]),
    }
    for said, (port, flags) in wrong.items():
        words = ["replay", "--server", server.http, "--grpc", f"grpcs://localhost:{port}", "--transport", "grpc"]
        done = run(tmp_path, "testbed.cli", *words, *flags, "--model", "plain", *TRAFFIC, "--out", said[-8:])
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
    with Proxy({"": f"127.0.0.1:{server.ports.grpc}"}, pem, name="other", raw=True) as other:
        words = ["replay", "--server", server.http, "--grpc", f"grpcs://localhost:{other.port}", "--transport", "grpc"]
        words += ["--ca", str(pem / "ca.crt"), "--model", "plain", *TRAFFIC, "--out", "run"]
        assert "its certificate is of another name" in run(tmp_path, "testbed.cli", *words).stderr


@pytest.mark.parametrize("how", ["typed, for two processes", "of LOCUST_HEADER"])
def test_a_locust_pattern_goes_through_it(tmp_path, proxy, how):
    words = ["-f", str(LOCUST), "--headless", "--host", proxy.flags[1], *proxy.access[:2], "--model", "plain"]
    words += ["-t", "2s", "--spike", "40", "--run-dir", "run", "--html", "locust.html", "--csv", "csv"]
    header = f"Authorization: Bearer {TOKEN}"
    more = ["--header", header, "--processes", "2"] if "typed" in how else []
    done = run(tmp_path, "locust", *words, *more, **({} if more else {"LOCUST_HEADER": header}))
    assert done.returncode in (0, 3), done.stderr
    assert RequestLog.read(tmp_path / "run/requests.parquet").ok.all()
    assert holds(done, tmp_path, TOKEN) == []
