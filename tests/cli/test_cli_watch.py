"""`kis watch` over folders that are being written, a controller's page, and a deployment behind an API of our own."""

from __future__ import annotations

import io
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console
from test_cli import kis

from loadgen.endpoints import write_endpoints
from loadgen.job import ReplayJob, RequestShape
from loadgen.row_stream import Row, RowStream, collect_rows
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures, Verdict
from testbed.cli.console import ConsoleReporter
from testbed.cli.watched_frame import drawn
from testbed.controller.exporter import Exporter
from testbed.controller.health import Pulse, serve
from testbed.controller.loop import Turn
from testbed.errors import ConfigError
from testbed.measurement.sample_stream import SampleStream
from testbed.pipeline.run_reader import LineTail
from testbed.pipeline.watched import FolderSource, PageSource
from testbed.progress import PROGRESS, Progress
from testbed.reporting.live import Frame
from testbed.run_dir import Device, RunDir, RunManifest
from tests.loadgen.tls_proxy import Proxy, authority
from workloads.catalog import ServiceConfig, TensorSpec
from workloads.files import write_json

COLUMNS = 80


def shown(frame: Frame) -> str:
    screen = Console(width=COLUMNS, file=io.StringIO(), color_system=None)
    screen.print(drawn(frame))
    text: str = screen.file.getvalue()
    assert max(map(len, text.splitlines())) <= COLUMNS
    return text


class Run:
    """A run of 100 requests in 10 s that began begun_s ago; each is answered after 50 ms."""

    def __init__(self, folder: Path, begun_s: float, deployment: bool = False) -> None:
        self.run = RunDir(folder).create()
        self.run.raw.mkdir()
        self.begun_s = begun_s
        self.manifest = RunManifest(
            run_id=folder.name,
            kind="real",
            state="running",
            model="resnet50",
            weights="random",
            device=Device(kind="cpu", name="a processor with quite a long name and many cores"),
            service=ServiceConfig(replicas=2),
            pattern="constant",
            seed=0,
            duration_s=10.0,
        )
        self.run.write_manifest(self.manifest)
        self.times_ns = (np.arange(100) * 1e8).astype(np.int64)
        Schedule(self.times_ns, np.full(100, "resnet50", dtype=object), 10.0).write(self.run.schedule)
        endpoints = folder / "endpoints.json"
        write_endpoints(endpoints, ["127.0.0.1:1"])
        inputs = (TensorSpec(name="x", datatype="FP32", shape=(4,)),)
        job = ReplayJob(
            schedule=self.run.schedule,
            run_dir=folder,
            endpoints=endpoints,
            requests={"resnet50": RequestShape(inputs=inputs)},
        )
        write_json(self.run.raw / "job.json", job)

    def begin(self) -> RowStream:
        start_ns = round((time.time() - self.begun_s) * 1e9)
        self.start_monotonic_ns = time.monotonic_ns() - round(self.begun_s * 1e9)
        client = ClientFigures(
            worker=0, workers=1, pid=1, start_unix_ns=start_ns, start_monotonic_ns=self.start_monotonic_ns
        )
        write_json(self.run.raw / "client-0.json", client)
        return RowStream(self.run.raw / "rows-0.arrows", 100, 10.0)

    def answer(self, stream: RowStream, until_s: float) -> None:
        now_ns = round(until_s * 1e9)
        for number in np.flatnonzero(self.times_ns + 50_000_000 <= now_ns):
            sent_ns = int(self.times_ns[number])
            stream.append(Row(int(number), "127.0.0.1:1", sent_ns, sent_ns + 50_000_000, 0, None))
        stream.flush(now_ns)


def test_a_run_shows_its_rate_its_p95_its_replicas_and_the_time_that_is_left(tmp_path: Path) -> None:
    run = Run(tmp_path / "measure", begun_s=6.0)
    run.answer(run.begin(), until_s=6.0)
    text = shown(FolderSource(run.run.path, 0.040).frame())
    assert "0:06 of 0:10, 0:04 left" in text
    assert "60 answered, 0 failed, of 100" in text
    assert "10.0/s answered, 10.0/s offered, in the last 6 s" in text
    assert "50.0 ms in the last 6 s, 50.0 ms so far; target 40.0 ms" in text
    assert "1 ready, 1 starting, 2 asked for" in text


def test_requests_that_an_interrupted_run_did_not_come_to_are_unsent(tmp_path: Path) -> None:
    run = Run(tmp_path / "measure", begun_s=6.0)
    run.answer(run.begin(), until_s=2.0)
    clients = (ClientFigures.model_validate_json((run.run.raw / "client-0.json").read_bytes()),)
    collect_rows(run.run.raw, Schedule.read(run.run.schedule), clients).write(run.run.requests)
    run.run.write_manifest(run.manifest.model_copy(update={"state": "interrupted"}))
    assert "20 answered, 0 failed, 80 unsent, of 100" in shown(FolderSource(run.run.path, None).frame())


def test_what_is_half_written_is_not_there_yet(tmp_path: Path) -> None:
    run = Run(tmp_path / "measure", begun_s=6.0)
    source = FolderSource(run.run.path, None)
    assert source.frame().running  # no client yet
    stream = run.begin()
    (run.run.raw / "metrics.jsonl").write_text('[1, [["triton", "nv_inference_pend')
    run.answer(stream, until_s=2.0)
    stream.append(Row(99, "a", 1, 2, 0, None))
    stream.flush(3_000_000_000)
    rows = run.run.raw / "rows-0.arrows"
    whole = rows.read_bytes()
    cut = whole.rstrip(b"\0")[:-20]
    rows.write_bytes(cut)
    view = source.frame().run
    assert view is not None
    assert view.pace is not None
    assert view.pace.answered == 20
    rows.write_bytes(whole)
    view = source.frame().run
    assert view is not None
    assert view.pace is not None
    assert view.pace.answered == 21
    (run.run.path / "run.json").write_text('{"run_id": ')
    assert source.frame().run is not None


def test_a_deployment_that_is_sampled_shows_its_changes_and_the_controllers_reason(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "steady-knative-real-1", begun_s=6.0)
    run.answer(run.begin(), until_s=6.0)
    samples = SampleStream(run.run.raw / "metrics.jsonl")
    for second, spec, ready in ((1, 2, 2), (3, 4, 2), (5, 4, 3)):
        counts = {"spec": spec, "ready": ready, "pending": 0}
        rows = [("deployment", f"{name}_replicas", {"model": "m"}, float(n), "count") for name, n in counts.items()]
        rows += [("triton", "nv_inference_pending_request_count", {"endpoint": e}, 3.0, "count") for e in "ab"]
        samples.append(run.start_monotonic_ns + second * 10**9, rows)
    turn = Turn(time.time() - 3.0, True, 2, 4, 4, "busy", "")
    Exporter("web", "knative", [], log=(run.run.path / "controller.jsonl").open("w", buffering=1)).tell(turn, {})
    text = shown(FolderSource(tmp_path, None).frame())
    assert "3 ready, 1 starting, 4 asked for" in text
    assert "6 in the server's queues" in text
    assert "2 -> 4, 0:03 ago: busy" in text
    assert text.count("2 -> 4, 0:03 ago") == 2  # the decision, and the change that was seen


def test_a_study_shows_its_verdicts_and_what_is_to_come(tmp_path: Path) -> None:
    experiment = {
        "traffic": {"steady": {"duration_s": 10}},
        "policies": {"fixed": {}},
        "repeats": 3,
        "cluster": {"models": [{"latency_target_s": 0.07}]},
    }
    write_json(tmp_path / "experiment.json", experiment)
    for number, verdict in ((1, Verdict(valid=True)), (2, Verdict(valid=False, reasons=("[late]",)))):
        run = Run(tmp_path / "runs" / f"steady-fixed-real-{number}", begun_s=60.0)
        run.run.write_manifest(run.manifest.model_copy(update={"state": "complete", "verdict": verdict}))
    with ConsoleReporter(tmp_path) as reporter:
        reporter.phase("steady-fixed-real-3: start with 2 pods")
        frame = FolderSource(tmp_path, None).frame()
        text = shown(frame)
        assert frame.running
        assert frame.run is not None
        assert frame.run.target_s == 0.07
        assert "steady-fixed-real-3: start with 2 pods" in text
        assert "at least 0:10 for the runs to come" in text
        assert "1 VALID, 1 INVALID, 1 to come" in text
        assert "steady-fixed-real-2: [late]" in text
    ended = FolderSource(tmp_path, None).frame()
    assert not ended.running
    assert "nothing is running here" in shown(ended)


def test_progress_goes_with_its_command_and_is_in_nobodys_way(tmp_path: Path) -> None:
    later = tmp_path / "results"
    with ConsoleReporter(later) as reporter:
        reporter.phase("before there is a folder")
        assert not later.exists()
        later.mkdir()
        reporter.progress(0.25)
        told = Progress.model_validate_json((later / PROGRESS).read_text())
        assert (told.phase, told.share) == ("before there is a folder", 0.25)
        assert (told.pid, told.host) == (os.getpid(), platform.node())
        reporter.progress(0.5)  # so soon after it nothing is written
        assert Progress.model_validate_json((later / PROGRESS).read_text()).share == 0.25
    assert list(later.iterdir()) == []


def test_a_command_that_was_killed_is_told(tmp_path: Path) -> None:
    gone = Progress(phase="fit", begun_unix_s=0.0, phase_unix_s=0.0, pid=2**22 + 1, host=platform.node())
    write_json(tmp_path / PROGRESS, gone)
    done = kis("watch", str(tmp_path), "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "was killed" in " ".join(done.stdout.split())


def test_a_run_of_locust_itself_is_shown_without_a_manifest(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", begun_s=6.0)
    run.answer(run.begin(), until_s=6.0)
    run.run.manifest_file.unlink()
    view = FolderSource(run.run.path, None).frame().run
    assert view is not None
    assert (view.what, view.state, view.requests) == ("resnet50", "running", 100)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere", "nowhere is no folder: give a results folder"),
        (".", ". is no folder that kis writes results into"),
        ("http://127.0.0.1:9/metrics", "Connection refused): is metrics_port of the controller set"),
    ],
    ids=["nowhere", "another folder", "no page"],
)
def test_a_target_that_is_none_is_one_line(tmp_path: Path, target: str, said: str) -> None:
    done = kis("watch", target, "--once", cwd=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert done.stderr.count("\n") <= 3


TURN = Turn(5.0, True, 2, 5, 4, "queue_time_ms 9.8 a pod, target 5", "at most 2 more at once", ready=1, pending=1)


def page(exporter: Exporter, pulse: Pulse) -> int:
    return serve(0, exporter.registry, [pulse], lambda: exporter.last)


def test_a_controllers_page_shows_its_replicas_and_its_last_words() -> None:
    exporter = Exporter("triton-bert", "knative", [], log=io.StringIO())
    port = page(exporter, Pulse(60.0))
    assert "0 decisions" in kis("watch", f"http://127.0.0.1:{port}", "--once").stdout
    exporter.tell(TURN._replace(time_s=time.time() - 7.0), {"triton-bert-1": "it does not answer"})
    text = " ".join(kis("watch", f"http://127.0.0.1:{port}/metrics", "--once").stdout.split())
    for part in (
        "triton-bert under knative, acts",
        "1 ready, 3 starting, 4 asked for",
        "5 by the policy",
        "1 pod has not started",
        "1 ready pod tells nothing",
        "2 -> 4, the policy wants 5, 0:07 ago: queue_time_ms 9.8 a pod, target 5; held back: at most 2 more at once",
        "1 decisions, 1 changes, 1 held back",
    ):
        assert part in text


def test_a_controller_that_hangs_or_goes_away_is_told_and_watched_on() -> None:
    clock = [100.0]
    exporter = Exporter("triton-bert", "knative", [], log=io.StringIO())
    source = PageSource(f"http://127.0.0.1:{page(exporter, Pulse(60.0, lambda: clock[0]))}")
    clock[0] += 75
    assert source.frame().problems == ("the control loop has been silent for 75 s",)
    source._url = "http://127.0.0.1:9/metrics"
    gone = source.frame()
    assert gone.running
    assert gone.controller is not None
    assert "no answer any more" in gone.problems[0]


def test_a_page_behind_a_proxy_is_watched_and_a_refusal_is_told(tmp_path: Path) -> None:
    exporter = Exporter("triton-bert", "knative", [], log=io.StringIO())
    routes = {"/kis": f"127.0.0.1:{page(exporter, Pulse(60.0))}"}
    with authority(tmp_path / "pki") as pem, Proxy(routes, pem, token="s3cret") as proxy:
        watched = ("watch", f"https://localhost:{proxy.port}/kis/metrics", "--once", "--ca", str(pem / "ca.crt"))
        (tmp_path / "headers").write_text("Authorization: s3cret")
        assert "0 decisions" in kis(*watched, "--header-file", str(tmp_path / "headers")).stdout
        assert "it refuses these requests (401): give what it asks for" in kis(*watched).stderr
        assert "its certificate is not trusted" in kis(*watched[:3]).stderr
        assert "was not checked" in kis(*watched[:3], "--insecure", "--header", "Authorization: s3cret").stdout


def test_a_page_of_several_deployments_is_not_taken_for_one() -> None:
    exporter = Exporter("triton-bert", "knative", [], log=io.StringIO())
    exporter.also("triton-resnet50", "hpa")
    source = PageSource(f"http://127.0.0.1:{page(exporter, Pulse(60.0))}")
    with pytest.raises(
        ConfigError, match=r"several deployments \(triton-bert, triton-resnet50\): watch deployment/NAME"
    ):
        source.frame()


def test_another_page_is_no_controllers() -> None:
    from prometheus_client import CollectorRegistry

    done = kis("watch", f"http://127.0.0.1:{serve(0, CollectorRegistry(), [])}", "--once")
    assert "is not a controller's page" in " ".join(done.stderr.split())


POD = {
    "metadata": {"name": "web-1"},
    "spec": {"containers": [{"name": "triton"}]},
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    },
}
WAITS = {"metadata": {"name": "web-2"}, "spec": {"containers": [{"name": "triton"}]}, "status": {"phase": "Pending"}}
API = {
    "/apis/apps/v1/namespaces/serving/deployments/web/scale": {
        "metadata": {"name": "web"},
        "spec": {"replicas": 2},
        "status": {"replicas": 2, "selector": "app=web"},
    },
    "/api/v1/namespaces/serving/pods": {"items": [POD, WAITS]},
    "/api/v1/namespaces/serving/events": {
        "items": [
            {
                "metadata": {"name": "e"},
                "involvedObject": {},
                "reason": "Scaled",
                "message": "1 -> 2: busy",
                "lastTimestamp": "2026-01-01T00:00:00Z",
            }
        ]
    },
}


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of a server that answers as an API server does, for one deployment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = API.get(self.path.partition("?")[0])
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    named = [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}]
    contexts = [{"name": "one", "context": {"cluster": "one", "user": "one"}}]
    body = {"clusters": named, "contexts": contexts, "users": [{"name": "one", "user": {}}], "current-context": "one"}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(body))
    yield file
    server.shutdown()


def test_a_deployment_shows_its_pods_and_the_last_event(kubeconfig: Path) -> None:
    flags = ("--namespace", "serving", "--kubeconfig", str(kubeconfig), "--once")
    text = " ".join(kis("watch", "deployment/web", *flags).stdout.split())
    assert "1 ready, 1 starting, 2 asked for" in text
    assert "1 pod has not started" in text
    assert "decision 1 -> 2, " in text
    assert "ago: busy" in text
    assert "web-2 is not ready" in text
    assert "the API answers 404" in kis("watch", "deployment/other", *flags).stderr


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    tail = LineTail(file)
    assert list(tail.read()) == []
    file.write_text('{"a": 1}\n{"a":')
    assert list(tail.read()) == [{"a": 1}]
    file.write_text('{"a": 1}\n{"a": 2}\nnonsense\n')
    assert list(tail.read()) == [{"a": 2}]
    assert list(tail.read()) == []


def test_the_run_that_is_made_now_is_shown_and_its_verdict_when_it_has_one(tmp_path: Path) -> None:
    now = Run(tmp_path / "runs" / "b", begun_s=6.0)
    stream = now.begin()
    now.answer(stream, until_s=6.0)
    before = Run(tmp_path / "runs" / "a", begun_s=60.0)
    before.run.write_manifest(before.manifest.model_copy(update={"state": "complete", "verdict": Verdict(valid=True)}))
    os.utime(before.run.manifest_file, (time.time() + 5, time.time() + 5))
    source = FolderSource(tmp_path, None)
    view = source.frame().run
    assert view is not None
    assert (view.run_id, view.verdict) == ("b", None)
    late = Verdict(valid=False, reasons=("late",))
    now.run.write_manifest(now.manifest.model_copy(update={"state": "complete", "verdict": late}))
    os.utime(now.run.manifest_file, (time.time() + 9, time.time() + 9))
    view = source.frame().run
    assert view is not None
    assert (view.run_id, view.verdict) == ("b", "INVALID: late")
