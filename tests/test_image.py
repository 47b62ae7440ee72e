"""The image kis-testbed, run as a pod runs it: an ordinary user without rights, a read-only root, no network.

`make test-image` builds it first. KIS_TEST_IMAGE names another; BUILDER is what runs it: docker, podman, or one of them
with options ("podman --runtime runc").
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = os.environ.get("KIS_TEST_IMAGE", f"kis-testbed:{VERSION}")
ENGINE = shlex.split(os.environ.get("BUILDER") or next(filter(shutil.which, ("docker", "podman")), ""))
# Of processes and open files: an engine's defaults may be more than it may give.
LIMITS = ("--ulimit=nproc=4096:4096", "--ulimit=nofile=4096:4096")
CONFINED = ("--read-only", "--tmpfs=/tmp:rw,mode=1777", "--cap-drop=ALL", "--security-opt=no-new-privileges")
ALONE = ("--network=none", "--shm-size=256m")
ANSWERS = """
import numpy, sys, tritonclient.http
server = tritonclient.http.InferenceServerClient("127.0.0.1:8000")
x = tritonclient.http.InferInput("x", [1, 4], "FP32")
x.set_data_from_numpy(numpy.arange(4, dtype=numpy.float32).reshape(1, 4))
print(server.infer("emulated", [x]).as_numpy("y").tolist())
"""
pytestmark = [pytest.mark.image, pytest.mark.skipif(not ENGINE, reason="needs docker or podman")]


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, check=False)


def run(*command: str, entrypoint: str = "kis", options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in a container of its own, to its end."""
    return engine("run", "--rm", *LIMITS, *CONFINED, *ALONE, *options, f"--entrypoint={entrypoint}", IMAGE, *command)


@pytest.fixture
def start() -> Iterator[Callable[..., Callable[..., subprocess.CompletedProcess[str]]]]:
    """start(*command) -> inside(*command): what goes on in a container, and what is asked in it meanwhile."""
    started = []

    def begin(
        *command: str, entrypoint: str = "kis", options: tuple[str, ...] = ()
    ) -> Callable[..., subprocess.CompletedProcess[str]]:
        name = f"kis-test-{uuid.uuid4().hex[:8]}"
        started.append(name)
        how = ("--detach", f"--name={name}", f"--entrypoint={entrypoint}")
        done = engine("run", *how, *LIMITS, *CONFINED, *ALONE, *options, IMAGE, *command)
        assert done.returncode == 0, done.stderr
        return lambda *asked: engine("exec", name, *asked)

    yield begin
    for name in started:
        engine("rm", "--force", name)


def answer(inside: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """What Triton on port 8000 of the container answers, once it is ready."""
    deadline = time.monotonic() + 60
    while (done := inside("python3", "-c", ANSWERS)).returncode != 0:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(1)
    return done.stdout.strip()


@pytest.fixture
def pod_folder(tmp_path: Path) -> Path:
    """A folder with the settings of manifests/overlays/embedded, and one for Triton that the user may write to."""
    settings, server = tmp_path / "settings", tmp_path / "server"
    settings.mkdir()
    shutil.copy(ROOT / "manifests/overlays/embedded/serve.yaml", settings)
    server.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2], settings, server):
        folder.chmod(0o777 if folder == server else 0o755)
    return tmp_path


def containers() -> tuple[dict[str, Any], dict[str, Any]]:
    """Of manifests/components/embedded-server: what prepares the pod, and its server."""
    file = ROOT / "manifests" / "components" / "embedded-server" / "deployment.yaml"
    pod = yaml.safe_load(file.read_text())["spec"]["template"]["spec"]
    return pod["initContainers"][0], pod["containers"][0]


def test_it_says_what_it_is() -> None:
    assert run("--version").stdout.strip() == f"kis {VERSION}"
    (told,) = json.loads(engine("image", "inspect", IMAGE).stdout)
    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert told["Config"]["User"] == "1000:1000"


def test_it_has_no_more_than_it_needs() -> None:
    """Neither pip nor a compiler, nothing of the build, and nothing that the user may change."""
    unwanted = "command -v pip gcc; ls -Ad /src /run/secrets/* 2> /dev/null"
    changeable = "find /opt /usr /etc -not -type l '(' -user kis -o -perm -o+w ')'"
    assert run("-c", f"{unwanted}; {changeable}; echo looked", entrypoint="sh").stdout == "looked\n"


def test_the_doctor_finds_the_embedded_server() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    assert "tritonserver  ok" in done.stdout


def test_it_serves(start: Callable[..., Any]) -> None:
    inside = start("serve", "--model", "emulated", "--http-port", "8000")
    assert answer(inside) == "[[0.0, 1.0, 2.0, 3.0]]"
    assert inside("id", "-u").stdout.strip() == "1000"


def test_it_is_a_triton_pod_and_loads_it(pod_folder: Path, start: Callable[..., Any]) -> None:
    """The commands of the manifests, in the containers' order; then Locust, as in manifests/load."""
    prepare, server = containers()
    settings, writable = f"{pod_folder}/settings:/etc/kis:ro", f"{pod_folder}/server:/srv/triton"
    first, *rest = prepare["command"]
    done = run(*rest, entrypoint=first, options=("--volume", settings, "--volume", writable))
    assert done.returncode == 0, done.stderr
    inside = start(*server["args"], entrypoint="tritonserver", options=("--volume", f"{writable}:ro"))
    assert answer(inside) == "[[0.0, 1.0, 2.0, 3.0]]"
    locust = ("python3", "-m", "locust", "-f", "/opt/kis/loadgen/bursty.py", "--headless", "--only-summary")
    traffic = ("--host=http://127.0.0.1:8000", "--base=10", "--spike=40", "--run-time=5s", "--run-dir=/tmp/run")
    replayed = inside(*locust, *traffic)
    assert "requests.parquet" in inside("ls", "/tmp/run").stdout, replayed.stderr


@pytest.mark.timeout(900)  # it compiles the loops, beside whatever else runs
def test_it_simulates() -> None:
    installed = "import testbed; print(testbed.__path__[0])"
    profile = run("-c", installed, entrypoint="python3").stdout.strip() + "/examples/resnet50-h200-fp16.json"
    done = run("simulate", "--profile", profile, "--replicas", "2", "--pattern", "constant", "--set", "rate=300")
    assert done.returncode == 0, done.stderr
    assert "P95" in done.stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("kis", "controller", "/etc/kis/controller.yaml"), "kis: no Kubernetes configuration"),
        (("kis", "activator", "/etc/kis/activator.yaml"), "kis: no Kubernetes configuration"),
        (("kis", "adapter", "/etc/kis/controller.yaml"), "kis: /etc/kis/controller.yaml"),
        (("python3", "-m", "testbed.serving.load_pod", "/etc/kis/load.yaml", "/tmp", "worker"), "load pod: "),
    ],
)
def test_what_needs_a_cluster_says_so_in_a_line(command: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for file in ("controller/controller.yaml", "activator/activator.yaml", "load/load.yaml"):
        shutil.copy(ROOT / "manifests" / file, tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    first, *rest = command
    done = run(*rest, entrypoint=first, options=("--volume", f"{tmp_path}:/etc/kis:ro"))
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert len(done.stderr.strip().splitlines()) == 1
