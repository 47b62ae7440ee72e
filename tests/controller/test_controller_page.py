"""What the controller tells of itself: its metrics, its log, and whether it still turns."""

from __future__ import annotations

import io
import json
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from testbed.controller.exporter import Exporter
from testbed.controller.health import Pulse, serve
from testbed.controller.loop import Turn
from testbed.errors import ConfigError
from testbed.serving.kubernetes_api import own_namespace


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_loop_that_hangs_is_told_at_healthz_until_it_turns_again():
    clock = Clock()
    pulse = Pulse(60.0, clock)
    port = serve(0, CollectorRegistry(), [pulse])
    clock.now_s += 60
    assert ask(port, "/healthz") == (200, "ok\n")
    clock.now_s += 15
    assert ask(port, "/healthz") == (503, "the control loop has been silent for 75 s\n")
    pulse.beat()
    assert ask(port, "/healthz") == (200, "ok\n")


def test_an_election_that_hangs_is_told_beside_a_loop_that_turns():
    clock = Clock()
    loop, election = Pulse(60.0, clock), Pulse(60.0, clock, "the election")
    port = serve(0, CollectorRegistry(), [loop, election])
    clock.now_s += 75
    loop.beat()
    assert ask(port, "/healthz") == (503, "the election has been silent for 75 s\n")


def test_a_client_that_asks_nothing_keeps_nobody_waiting():
    port = serve(0, CollectorRegistry(), [Pulse(60.0)])
    with socket.create_connection(("127.0.0.1", port)):
        assert ask(port, "/healthz") == (200, "ok\n")


def test_the_other_paths_are_the_metrics_page():
    exporter = Exporter("triton-bert", "knative", [Pulse(60.0)], log=io.StringIO())
    turn = Turn(5.0, True, 2, 5, 4, "busy", "at most 2 more at once", ready=1, pending=1)
    exporter.tell(turn, {"triton-bert-1": "it does not answer"})
    status, page = ask(serve(0, exporter.registry, [Pulse(60.0)]), "/metrics")
    assert status == 200
    told = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    labels = '{deployment="triton-bert",policy="knative"}'
    for name, value in {
        "wanted_replicas": 5,
        "spec_replicas": 4,
        "ready_replicas": 1,
        "pending_pods": 1,
        "silent_pods": 1,
        "acting": 1,
        "decisions_total": 1,
        "patches_total": 1,
        "holds_total": 1,
    }.items():
        assert float(told[f"kis_controller_{name}{labels}"]) == value


def test_several_deployments_have_a_page_and_a_log_together():
    log = io.StringIO()
    bert = Exporter("triton-bert", "knative", [Pulse(60.0)], log=log)
    resnet = bert.also("triton-resnet50", "hpa")
    bert.tell(Turn(5.0, True, 2, 5, 4, "busy", ""), {})
    resnet.tell(Turn(5.5, True, 3, 3, None, "", ""), {})
    samples = [sample for family in bert.registry.collect() for sample in family.samples]
    spec = {s.labels["deployment"]: s.value for s in samples if s.name == "kis_controller_spec_replicas"}
    assert spec == {"triton-bert": 4, "triton-resnet50": 3}
    counted = {s.labels["deployment"]: s.value for s in samples if s.name == "kis_controller_patches_total"}
    assert counted == {"triton-bert": 1, "triton-resnet50": 0}
    assert [json.loads(line)["deployment"] for line in log.getvalue().splitlines()] == [
        "triton-bert",
        "triton-resnet50",
    ]
    assert json.loads(str(bert.last))["policy"] == "hpa"


def test_counters_are_there_before_they_count():
    exporter = Exporter("triton-bert", "knative", [Pulse(60.0)], log=io.StringIO())
    samples = [sample for family in exporter.registry.collect() for sample in family.samples]
    counted = {sample.name: sample.value for sample in samples if sample.name.endswith("_total")}
    assert counted == {f"kis_controller_{what}_total": 0 for what in ("decisions", "patches", "holds")}


def test_what_is_not_known_is_not_told():
    log = io.StringIO()
    exporter = Exporter("triton-bert", "knative", [Pulse(60.0)], log=log)
    exporter.tell(Turn(5.0, True, None, None, None, "", "the API does not answer"), {})
    names = {sample.name for family in exporter.registry.collect() for sample in family.samples}
    assert not names & {f"kis_controller_{what}" for what in ("ready_replicas", "pending_pods", "spec_replicas")}
    line = json.loads(log.getvalue())
    assert line["refusal"] == "the API does not answer"
    assert line["ready"] is None


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"metrics_port {port}: Address already in use: choose another"):
            serve(port, CollectorRegistry(), [Pulse(60.0)])


def test_the_namespace_is_the_pods_own_or_default(tmp_path):
    assert own_namespace(tmp_path / "namespace") == "default"
    (tmp_path / "namespace").write_text("serving\n")
    assert own_namespace(tmp_path / "namespace") == "serving"


def test_the_last_line_of_the_log_is_at_decision_once_there_is_one():
    log = io.StringIO()
    exporter = Exporter("triton-bert", "knative", [Pulse(60.0)], log=log)
    port = serve(0, exporter.registry, [Pulse(60.0)], lambda: exporter.last)
    assert ask(port, "/decision")[0] == 404
    exporter.tell(Turn(5.0, True, 2, 5, 4, "busy", "", ready=1, pending=1), {})
    status, said = ask(port, "/decision")
    logged = json.loads(log.getvalue())
    assert status == 200
    assert json.loads(said) == {key: value for key, value in logged.items() if key != "time"}
