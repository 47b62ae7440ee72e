"""`kis tune-service`: which settings there are, which are the best, and the whole of it on a real server."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.access import Access
from loadgen.discovery import model_configuration, service_config
from loadgen.schedule import Schedule
from testbed.errors import ConfigError
from testbed.pipeline.capacity import Option
from testbed.pipeline.service_settings import Setting, best, front, grid, nearest, normal, one_replicas_share
from testbed.pipeline.service_tuning import tune_service
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from testbed.reporting.reports import write_report
from testbed.reporting.service_tuning import sentence
from testbed.serving.server_process import ServerProcess, free_ports
from testbed.serving.tritonserver import find_tritonserver, make_backend_directory, server_command, server_environment
from testbed.simulation.intervals import PredictionInterval
from tests.golden import Silent
from tests.loadgen.tls_proxy import Proxy, authority
from workloads.catalog import DynamicBatching, ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions, write_repository

OWN = ServiceConfig(max_batch_size=12, dynamic_batching=DynamicBatching(max_queue_size=64))


def config_of(**given) -> TuneServiceConfig:
    return TuneServiceConfig.model_validate({"target_ms": 40, **given})


def test_the_grid_is_every_size_delay_and_number_of_instances_and_keeps_the_queue_policy():
    settings = grid(config_of(instances=(1, 2), queue_delay_s=(0, 0.002)), OWN, batched=True)
    assert {one.max_batch_size for one in settings} == {1, 2, 4, 8, 12}
    assert len(settings) == 2 * 5 * 2
    assert all(one.dynamic_batching is not None and one.dynamic_batching.max_queue_size == 64 for one in settings)


def test_preferred_sizes_that_do_not_fit_make_no_second_setting():
    settings = grid(config_of(max_batch_size=(4, 8), preferred_batch_sizes=((), (4,))), OWN, batched=True)
    preferred = [one.dynamic_batching.preferred_batch_sizes for one in settings if one.max_batch_size == 4]
    assert set(preferred) == {()}
    assert len(settings) == len(set(settings)) == 2 * 3 * (1 + 2)


def test_a_model_without_batching_has_its_instances_to_choose_alone():
    own = ServiceConfig(max_batch_size=1, dynamic_batching=None)
    assert [one.instances for one in grid(config_of(instances=(1, 3)), own, batched=False)] == [1, 3]


def test_a_batch_that_the_model_is_not_made_for_is_refused():
    with pytest.raises(ConfigError, match="max_batch_size 32 is above what the model is made for, 12"):
        grid(config_of(max_batch_size=(32,)), OWN, batched=True)


def setting(replicas: int, throughput: float, latency: float, *, holds: bool = True, instances: int = 1) -> Setting:
    known = PredictionInterval(latency, latency, latency, 0.9)
    service = ServiceConfig(replicas=replicas, instances=instances)
    return Setting("m", Option(service, known, known, 0.5, holds), throughput, True)


def test_the_best_has_the_fewest_replicas_then_the_most_room_and_holds():
    few, room, fast = setting(1, 100, 0.03), setting(1, 200, 0.03), setting(2, 900, 0.01)
    broken = setting(1, 999, 0.01, holds=False)
    assert best([fast, broken, few, room], config_of()) == [room, few, fast]
    assert best([broken], config_of()) == []


def test_settings_that_are_the_same_to_the_simulator_are_one_pick():
    assert len(best([setting(1, 100, 0.03), setting(1, 100, 0.03), setting(1, 90, 0.03)], config_of())) == 2


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30))
def test_no_setting_beats_one_of_the_front_in_both(points):
    settings = [setting(1, throughput, latency) for throughput, latency in points]
    kept = front(settings)
    for one in settings:
        beaten = any(
            other.throughput_rps >= one.throughput_rps and other.option.latency_s.middle <= one.option.latency_s.middle
            for other in kept
        )
        assert beaten
    for one in kept:
        assert not any(
            other.throughput_rps > one.throughput_rps and other.option.latency_s.middle < one.option.latency_s.middle
            for other in settings
        )


def test_the_replicas_shares_are_the_traffic():
    whole = Schedule(np.arange(10, dtype=np.int64) * 10**9, np.full(10, "m", dtype=object), 10.0)
    share = one_replicas_share(whole, 3)
    assert share.scheduled_s.tolist() == [0, 3, 6, 9]
    assert share.duration_s == 10


def test_two_instances_are_nearer_to_three_than_to_one():
    assert nearest((1, 3, 16), 2) == 3
    assert nearest((1, 16), 2) == 1


@contextmanager
def triton(folder: Path, *flags: str, config: Path | None = None) -> Iterator[int]:
    """A server of a user's with an emulated model; its HTTP port. config: a config.pbtxt instead of the model's."""
    server, ports = find_tritonserver(), free_ports(None)
    folder.mkdir()
    options = BackendOptions(emulated=EmulatedProfile.linear(0.004, 0.001, 8, sigma=0.02))
    write_repository(folder / "models", find_model("emulated"), ServiceConfig(max_batch_size=8), options)
    if config is not None:
        shutil.copyfile(config, folder / "models/emulated/config.pbtxt")
    backends = make_backend_directory(folder / "backends", server)
    prefix = f"kis-tune-service-{ports.http}-"
    command = server_command(server, backends, folder / "models", ports, shm_prefix=prefix, gpu=False)
    process = ServerProcess([*command, *flags], server_environment(1, gpu=False), folder / "server.log", prefix)
    try:
        _wait(ports.http, folder / "server.log")
        yield ports.http
    finally:
        process.kill()


def _wait(port: int, log: Path) -> None:
    for _ in range(600):
        try:
            with urlopen(f"http://127.0.0.1:{port}/v2/models/emulated/ready"):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def small(port: int, **given) -> TuneServiceConfig:
    return config_of(
        server=f"http://127.0.0.1:{port}",
        instances=(1, 2),
        max_batch_size=(2, 8),
        queue_delay_s=(0, 0.002),
        traffic={"pattern": "constant", "parameters": {"rate": 60}, "duration_s": 4},
        fit={"requests": 250, "duration_s": 1, "capacity_s": 0, "burst_repeats": 5, "loads": (0.1,)},
        picks=1,
        sample_period_s=0.5,
        **given,
    )


@pytest.mark.server
def test_settings_are_loaded_measured_and_confirmed_and_the_model_has_its_own_ones_again(tmp_path):
    with triton(tmp_path / "server", "--model-control-mode=explicit", "--load-model=emulated") as port:
        before = model_configuration(f"127.0.0.1:{port}", "emulated")
        config = small(port, price_per_gpu_hour=2, currency="EUR")
        tuned = tune_service(config, tmp_path / "out", Silent(), look=None)
        assert model_configuration(f"127.0.0.1:{port}", "emulated") == before
        assert len(tuned["settings"]) == 8
        assert all(
            row["measured"] and row["cost_per_hour"] == 2 * row["service"]["replicas"] for row in tuned["settings"]
        )
        (pick,) = tuned["picks"]
        assert set(pick["runs"]) == {"traffic", "most"}
        chosen = ServiceConfig.model_validate(tuned["settings"][pick["setting"]]["service"])
        assert tuned["effort"]["confirmed_runs"] == 2
        for name in ("traffic", "most"):
            folder = tmp_path / "out/confirmed/runs" / pick["runs"][name]["run"]
            served = ServiceConfig.model_validate(json.loads((folder / "run.json").read_text())["service"])
            assert normal(served) == normal(chosen)
        measured = {path.name for path in (tmp_path / "out/measured").iterdir()}
        assert measured == {"emulated-n1", "emulated-n2"}
        again = tune_service(config, tmp_path / "out", Silent(), look=None)
        assert again["picks"] == tuned["picks"]  # nothing was made again
    write_report(tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "EUR/h" in page
    assert sentence(tuned).startswith("Use ")


@pytest.mark.server
def test_it_goes_through_a_proxy_with_tls_and_leaves_its_token_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KIS_TEST_TOKEN", "s3cret-0f-this-test")
    with (
        authority(tmp_path / "pki") as pem,
        triton(tmp_path / "server", "--model-control-mode=explicit", "--load-model=emulated") as port,
        Proxy({"/triton": f"127.0.0.1:{port}"}, pem, token="s3cret-0f-this-test") as proxy,
    ):
        access = {"ca": pem / "ca.crt", "headers": {"Authorization": "${KIS_TEST_TOKEN}"}}
        server = f"https://localhost:{proxy.port}/triton"
        few = {"instances": (1,), "max_batch_size": (4,), "queue_delay_s": (0,), "server": server}
        config = small(port).model_copy(update={"access": Access.model_validate(access), **few})
        slowly = {"requests": 400, "loads": (0.05,)}  # the proxy is slow, and lone requests are wanted
        config = config.model_copy(update={"fit": config.fit.model_copy(update=slowly)})
        tuned = tune_service(config, tmp_path / "out", Silent(), look=None)
    (pick,) = tuned["picks"]
    assert set(pick["runs"]) == {"traffic", "most"}
    assert any("/load HTTP" in head for head in proxy.heads)
    write_report(tmp_path / "out")
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) > 20
    assert [file for file in written if b"s3cret" in file.read_bytes()] == []


@pytest.mark.server
def test_a_server_that_loads_no_models_is_measured_as_it_is_and_confirmed_after_a_restart(tmp_path):
    with triton(tmp_path / "server") as port:
        tuned = tune_service(small(port), tmp_path / "out", Silent(), look=None)
        own = service_config(model_configuration(f"127.0.0.1:{port}", "emulated"))
    assert [row["measured"] for row in tuned["settings"]] == [
        row["service"]["instances"] == own.instances for row in tuned["settings"]
    ]
    (pick,) = tuned["picks"]
    chosen = tuned["settings"][pick["setting"]]["service"]
    assert (chosen["instances"], pick["runs"]) == (2, {})  # it has one
    assert "--model-control-mode=explicit" in pick["open"]
    write_report(tmp_path / "out")
    assert "not run: " in (tmp_path / "out/report.md").read_text()
    with triton(tmp_path / "again", config=tmp_path / "out" / pick["file"]) as port:
        again = tune_service(small(port), tmp_path / "out", Silent(), look=None)
    assert again["settings"] == tuned["settings"]
    assert set(again["picks"][0]["runs"]) == {"traffic", "most"}
