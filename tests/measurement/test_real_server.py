"""Everything at once on a real tritonserver: what the sources say must fit together."""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.measurement.batch_files import read_batch_files
from testbed.measurement.process_metrics import ProcessSource
from testbed.measurement.replica_metrics import replica_rows
from testbed.measurement.sampler import Sampler
from testbed.measurement.triton_metrics import TritonAddress, TritonSource, read_statistics
from testbed.serving.local import LocalService
from workloads.catalog import DynamicBatching, ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions

REQUESTS = 24


def infer(address, number):
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    body = json.dumps({"id": str(number), "inputs": [x]}).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://{address}/v2/models/emulated/infer", body), timeout=60)


def statistics_of(address, succeeded):
    """The statistics once they count so many requests: the server writes them after the answer."""
    for _ in range(500):
        statistics = read_statistics(address, "emulated")
        if statistics.succeeded >= succeeded:
            break
        time.sleep(0.01)
    return statistics


@pytest.mark.server
def test_metrics_statistics_and_batch_files_tell_of_the_same_requests(tmp_path):
    config = ServiceConfig(max_batch_size=4, dynamic_batching=DynamicBatching(max_queue_delay_s=0.005))
    options = BackendOptions(
        batch_log_dir=tmp_path / "batches", emulated=EmulatedProfile.linear(0.004, 0.001, 4, sigma=0.0)
    )
    with LocalService(tmp_path / "service", find_model("emulated"), config, options) as service:
        (endpoint,) = service.endpoints()
        infer(endpoint.http, "warm-up")
        before = statistics_of(endpoint.http, 1)
        start_ns = time.monotonic_ns()
        sources = [
            TritonSource("emulated", lambda: [TritonAddress(e.name, e.http, e.metrics) for e in service.endpoints()]),
            ProcessSource(lambda: {f"server:{e.name}": e.pid for e in service.endpoints() if e.pid is not None}),
        ]
        with Sampler(sources, tmp_path / "metrics.jsonl") as sampler:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: infer(endpoint.http, number), range(REQUESTS)))
            after = statistics_of(endpoint.http, 1 + REQUESTS)
        events = service.events()
    log = sampler.finish(start_ns, replica_rows(events, start_ns))
    batches = read_batch_files(tmp_path / "batches", start_ns, measured_only=True)

    assert {readings.first_reason for readings in sampler.readings.values()} == {None}
    assert after.succeeded - before.succeeded == REQUESTS
    assert sorted(batches.frame["request_id"]) == list(range(REQUESTS))
    in_files = batches.batches()["batch_size"].value_counts().to_dict()
    earlier = {size: batch.executions for size, batch in before.batches.items()}
    between = {size: batch.executions - earlier.get(size, 0) for size, batch in after.batches.items()}
    assert {size: executions for size, executions in between.items() if executions} == in_files

    of_page = log.select("triton", "nv_inference_request_success", endpoint="replica-0")["value"]
    assert of_page.iloc[-1] == 1 + REQUESTS
    executions = log.select("triton", "batch_executions").groupby("batch_size")["value"].last()
    assert executions.sum() == after.executions
    for size, batch in after.batches.items():
        assert batch.compute_ns / batch.executions / 1e9 > 0.004 + 0.001 * size

    assert log.select("process", "cpu_seconds", role="server:replica-0")["value"].is_monotonic_increasing
    assert log.select("process", "memory_rss", role="server:replica-0")["value"].min() > 10e6
    assert log.select("replica", "state")["state"].tolist()[:2] == ["starting", "ready"]
    (start_up_s,) = log.select("replica", "start_up_seconds")["value"]
    assert start_up_s > 0
