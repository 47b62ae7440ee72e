"""Models of a user's kind on a real tritonserver: what a model is sent is what was asked for, or it is refused."""

from __future__ import annotations

import json
from unittest.mock import patch

import numpy as np
import pytest
from fake_http_server import FakeServer, Reply
from own_models import own_server

from loadgen.discovery import DiscoveryError, model_tensors, parse_values
from loadgen.job import ReplayJob, run_replay
from loadgen.patterns import Constant
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule, poisson_schedule
from testbed.config import CalibrateConfig
from testbed.errors import CalibrationError
from testbed.measurement.triton_metrics import belongs_to, read_page
from testbed.pipeline.calibrate import calibrate
from testbed.pipeline.target import Sent, remote
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from tests.pipeline.recording_reporter import RecordingReporter

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def replayed(server, tmp_path):
    """Sends a second of traffic to a model, and gives what the client and the model saw of it."""

    def replay(model, shapes=None, transport="http", rows=None, **sent):
        before = len(server.sent(model))
        target = remote(
            server.http, model, f"http://127.0.0.1:{server.ports.metrics}/metrics", None, shapes, Sent(**sent)
        )
        folder = tmp_path / f"{model}-{before}"
        folder.mkdir()
        schedule = poisson_schedule(Constant(rate=20), 1, 1, model)
        (schedule if rows is None else with_rows(schedule, rows, 1)).write(folder / "schedule.parquet")
        endpoints = (f"127.0.0.1:{server.ports.grpc}",) if transport == "grpc" else (server.http,)
        log = run_replay(
            ReplayJob(
                schedule=folder / "schedule.parquet",
                run_dir=folder,
                endpoints=endpoints,
                requests={model: target.requests},
                transport=transport,
                spin_s=0,
            )
        )
        return log, [each["sent"] for each in server.sent(model)[before:]]

    return replay


def all_ok(log) -> bool:
    assert log.counts()["ok"] == len(log), log.frame["detail"].value_counts()
    return True


def test_every_datatype_arrives_as_it_was_given(replayed):
    values = {"of_bool": "true", "of_uint64": "18446744073709551615", "of_int8": "-128", "of_fp16": "0.5"}
    log, sent = replayed("types", values=values)
    assert all_ok(log)
    assert len(sent) == len(log)
    first = sent[0]
    assert first["of_bool"]["data"] == [True, True]
    assert first["of_uint64"]["data"] == [18446744073709551615] * 2
    assert first["of_int8"]["data"] == [-128, -128]
    assert first["of_fp16"]["data"] == [0.5, 0.5]


@pytest.mark.parametrize("transport", ["http", "http_shm", "grpc"])
def test_bf16_and_texts_go_over_every_transport(replayed, transport):
    log, sent = replayed("brain", transport=transport)
    assert all_ok(log)
    assert sent[0]["h"]["shape"] == [1, 4]
    log, sent = replayed("numbers", transport=transport, values={"IN0": "12.5"})
    assert all_ok(log)
    assert sent[0]["IN0"] == {"shape": [1, 3], "data": 3 * (4 + len("12.5"))}


def test_free_sizes_are_those_that_were_given(replayed, server):
    with pytest.raises(DiscoveryError, match="--shape INPUT:1,1"):
        model_tensors(server.http, "words")
    with pytest.raises(DiscoveryError, match="--shape input_ids:1,128"):
        model_tensors(server.http, "whole")
    assert replayed("words", {"INPUT": (1, 1)})[1][0]["INPUT"]["shape"] == [1, 1, 1]
    assert replayed("whole", {"input_ids": (1, 128)})[1][0]["input_ids"]["shape"] == [1, 128]  # no batch dimension
    log, sent = replayed("edges", {"edges": (0, 2)})
    assert all_ok(log)
    assert sent[0]["edges"] == {"shape": [0, 2], "data": []}


def test_an_optional_input_is_sent_when_it_is_named(replayed):
    log, sent = replayed("optional")
    assert all_ok(log)
    assert set(sent[0]) == {"input_ids"}
    log, sent = replayed("optional", values={"end_id": "7"})
    assert all_ok(log)
    assert sent[0]["end_id"]["data"] == [7]


def test_ranges_and_files_fill_an_input(replayed, server, tmp_path):
    np.save(tmp_path / "ids.npy", np.arange(8))
    values = parse_values(["input__1=0..1", f"input__2=@{tmp_path / 'ids.npy'}"])
    log, sent = replayed("libtorch", values=values)
    assert all_ok(log)
    assert set(sent[0]["input__1"]["data"]) <= {0, 1}
    assert sent[0]["input__2"]["data"] == list(range(8))
    np.save(tmp_path / "ids.npy", np.arange(9))
    for wrong, words in (
        ({"input__2": values["input__2"]}, r"input 'input__2' has shape \[8\]: 9 values"),
        ({"input__1": "one"}, "--input input__1=one: .*INT64"),
        ({"input__9": "1"}, "no input 'input__9': its inputs are input__0"),
    ):
        with pytest.raises(Exception, match=words):
            model_tensors(server.http, "libtorch", None, wrong)


def test_a_file_of_requests_is_sent_in_turn(replayed, tmp_path):
    file = tmp_path / "requests.json"
    entries = [{"input_ids": {"content": [1, 2], "shape": [1, 2]}}, {"input_ids": {"content": [3], "shape": [1, 1]}}]
    file.write_text(json.dumps({"data": entries}))
    log, sent = replayed("whole", file=file)
    assert all_ok(log)
    data = [tuple(each["input_ids"]["data"]) for each in sent]
    assert {(1, 2), (3,)} == set(data)
    assert abs(data.count((3,)) - len(data) / 2) <= 1


def test_requests_may_carry_batches_of_several_sizes(replayed):
    log, sent = replayed("plain", rows={1: 1.0, 3: 1.0})
    assert all_ok(log)
    assert {tuple(each["x"]["shape"]) for each in sent} == {(1, 4), (3, 4)}


def test_requests_of_several_rows_form_the_batches_that_the_rules_say(server, tmp_path):
    """Behind a batch of 0.4 s, one request every 30 ms: what runs together is no matter of luck."""
    rows = np.array([1, 2, 1, 5, 1, 3, 8, 2, 2, 1])
    at_ns = np.r_[0, 30 * np.arange(1, len(rows))] * 1_000_000 + 50_000_000
    names = np.full(len(rows), "rowed", dtype=object)
    Schedule(at_ns, names, 1.0, {}, None, rows).write(tmp_path / "schedule.parquet")
    target = remote(server.http, "rowed", f"http://127.0.0.1:{server.ports.metrics}/metrics")
    log = run_replay(
        ReplayJob(
            schedule=tmp_path / "schedule.parquet",
            run_dir=tmp_path,
            endpoints=(server.http,),
            requests={"rowed": target.requests},
            spin_s=0,
        )
    )
    rules = BatchingRules.of(target.service, inter_batch_gap_ns=0)
    simulated = simulate_batches(at_ns, [0, *[401e6] * 8], 1.0, rules, rows=rows)
    completed_s = log.frame.sort_values("request_id")["completed_ns"].to_numpy(dtype=float) / 1e9
    batch = np.searchsorted(np.sort(completed_s)[np.flatnonzero(np.diff(np.sort(completed_s)) > 0.2)], completed_s)
    assert all_ok(log)
    assert batch.tolist() == np.unique(simulated.end_ns, return_inverse=True)[1].tolist()
    assert batch.max() >= 4


@pytest.mark.parametrize("model", ["sequence", "decoupled"])
def test_what_has_no_single_answer_is_refused_before_traffic(server, model):
    with pytest.raises(DiscoveryError, match=f"model '{model}' is "):
        model_tensors(server.http, model)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("both", "an ensemble of models"),
        ("cached", "a response cache"),
        ("rated", "a rate limiter"),
        ("ranked", "priority levels"),
    ],
)
def test_what_no_simulation_models_is_measured_and_told(server, model, words):
    target = remote(server.http, model)
    assert words in target.unmodelled[0]
    assert words in target.notes[0]


def test_rules_and_instances_are_read_as_they_are_served(server):
    served = {name: model_tensors(server.http, name).service for name in ("groups", "limited", "timed", "alone")}
    assert served["groups"].instances == 3
    assert served["limited"].dynamic_batching.max_queue_size == 2
    assert served["timed"].dynamic_batching.default_timeout_s == 0.02
    assert served["alone"].dynamic_batching is None


def test_a_full_queue_refuses_as_many_as_the_rules_say(server, tmp_path):
    """As many as with every end of a batch missed, or as with none, or between: which ones is a race inside Triton."""
    target = remote(server.http, "limited", f"http://127.0.0.1:{server.ports.metrics}/metrics")
    poisson_schedule(Constant(rate=300), 4, 1, "limited").write(tmp_path / "schedule.parquet")
    log = run_replay(
        ReplayJob(
            schedule=tmp_path / "schedule.parquet",
            run_dir=tmp_path,
            endpoints=(server.http,),
            requests={"limited": target.requests},
            spin_s=0,
        )
    )
    rules, sent_ns = BatchingRules.of(target.service, inter_batch_gap_ns=1_000_000), log.frame["sent_ns"].sort_values()
    service_ns = np.array([0, *[21.0] * 4]) * 1e6
    all_missed, none = (
        int((simulate_batches(sent_ns, service_ns, 1.0, rules, missed=missed).status == 0).sum()) for missed in (1, 0)
    )
    assert 0.8 * all_missed <= log.ok.sum() <= 1.05 * none
    assert none > 8 * all_missed
    assert log.frame["detail"][~log.ok].str.contains("Exceeds maximum queue size").all()


def test_the_newest_version_answers(replayed, server):
    log, _ = replayed("versions")
    assert all_ok(log)
    assert {each["version"] for each in server.sent("versions")} == {"2"}


def test_the_servers_own_words_are_kept(replayed):
    log, _ = replayed("failing", values={"x": "1"})
    details = log.frame["detail"].dropna()
    assert len(details) == len(log) // 20
    assert all("the embedding index is out of range" in detail for detail in details)


def test_a_page_of_another_server_is_not_read(server, replayed):
    replayed("alone")
    page, http = f"http://127.0.0.1:{server.ports.metrics}/metrics", f"http://{server.http}"
    assert belongs_to(page, http, "alone")
    assert not belongs_to(page.replace(str(server.ports.metrics), str(server.ports.http)), http, "alone")
    text = read_page(page).replace('model="alone",version="1"} ', 'model="alone",version="1"} 9')
    with FakeServer() as other, patch.object(other, "_answer", lambda *_: Reply(body=text.encode())):
        assert not belongs_to(f"http://{other.address}/metrics", http, "alone")


def test_a_model_that_fails_ends_a_calibration_in_the_servers_words(server, tmp_path):
    config = CalibrateConfig.model_validate({"studies": [{"model": "broken", "configurations": [{}]}]})
    target = remote(server.http, "broken", f"http://127.0.0.1:{server.ports.metrics}/metrics")
    with pytest.raises(CalibrationError, match=r"broken fails lone requests: .*the embedding index is out of range"):
        calibrate(config, tmp_path / "broken", RecordingReporter(), target, look=None)
