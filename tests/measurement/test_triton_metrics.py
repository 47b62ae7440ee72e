"""What Triton tells, from pages written by hand in the server's format, and over HTTP from a server that gives them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from testbed.errors import ServingError
from testbed.measurement import triton_metrics
from testbed.measurement.sampler import MissedSample
from testbed.measurement.triton_metrics import TritonAddress, TritonSource, parse_metrics, read_gauges, read_statistics

PAGE = """# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="resnet50",version="1"} 40
nv_inference_request_success{model="resnet50",version="0"} 2
nv_inference_request_success{model="bert",version="1"} 7
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="resnet50",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="resnet50",reason="OTHER",version="1"} 0
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="resnet50",version="1"} 80454
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="resnet50",version="1"} 5
# TYPE nv_inference_queue_summary_us summary
nv_inference_queue_summary_us_count{model="resnet50",version="1"} 40
nv_inference_queue_summary_us{model="resnet50",version="1",quantile="0.95"} Nan
# TYPE nv_gpu_power_usage gauge
nv_gpu_power_usage{gpu_uuid="GPU-a"} 71.5
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} NaN
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.5
"""


def stage(count, ns):
    return {"count": count, "ns": ns}


STATISTICS = {
    "model_stats": [
        {
            "name": "resnet50",
            "version": "1",
            "inference_count": 7,
            "execution_count": 3,
            "inference_stats": {
                "success": stage(7, 900),
                "fail": stage(1, 50),
                "queue": stage(7, 300),
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": stage(executions, 10_000_000),
                    "compute_infer": stage(executions, 480_000_000),
                    "compute_output": stage(executions, 10_000_000),
                }
                for size, executions in ((1, 1), (3, 2))
            ],
        }
    ]
}


class TestMetricsPage:
    def test_keeps_the_models_counters_and_gauges_under_tritons_names_of_the_newest_version(self):
        rows = parse_metrics(PAGE, "resnet50", "replica-0")
        of_model = {(name, labels.get("reason")): (value, unit) for _, name, labels, value, unit in rows}
        assert of_model == {
            ("nv_inference_request_success", None): (40, "count"),
            ("nv_inference_request_failure", "REJECTED"): (3, "count"),
            ("nv_inference_request_failure", "OTHER"): (0, "count"),
            ("nv_inference_queue_duration_us", None): (80454, "us"),
            ("nv_inference_pending_request_count", None): (5, "count"),
            ("nv_gpu_power_usage", None): (71.5, "watt"),
        }

    def test_labels_name_model_and_endpoint(self):
        labels = {name: labels for _, name, labels, _, _ in parse_metrics(PAGE, "resnet50", "replica-0")}
        assert labels["nv_inference_queue_duration_us"] == {"model": "resnet50", "endpoint": "replica-0"}
        assert labels["nv_gpu_power_usage"] == {"gpu_uuid": "GPU-a", "endpoint": "replica-0"}

    def test_a_gpu_value_that_is_nan_has_no_row(self):
        assert "nv_gpu_utilization" not in {row[1] for row in parse_metrics(PAGE, "resnet50", "replica-0")}

    @pytest.mark.parametrize("text", ["<html>{oops", "", PAGE.replace("resnet50", "another")])
    def test_a_page_that_is_none_or_lacks_the_model_is_refused(self, text):
        with pytest.raises(ServingError, match="replica-0"):
            parse_metrics(text, "resnet50", "replica-0")


@pytest.fixture
def triton():
    """A local server that answers with `pages` by path; -> (host:port, pages)."""
    pages = {"/v2/models/resnet50/stats": json.dumps(STATISTICS), "/metrics": PAGE}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 400)
            self.end_headers()
            self.wfile.write((body or '{"error":"requested model is not available"}').encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", pages
    server.shutdown()
    thread.join()
    server.server_close()


def batches(rows):
    return {(r[2]["endpoint"], r[1], r[2]["batch_size"]): r[3] for r in rows if r[1].startswith("batch_")}


def test_a_page_that_does_not_end_is_given_up_and_one_that_is_too_large_is_refused(monkeypatch):
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 1000)
                    time.sleep(0.01)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        with pytest.raises(ServingError, match="does not come to an end in time"):
            read_gauges(host, "m", timeout_s=0.3)
        monkeypatch.setattr(triton_metrics, "_MOST_BYTES", 5000)
        with pytest.raises(ServingError, match="more than 5000 bytes"):
            read_gauges(host, "m", timeout_s=5.0)
        server.shutdown()


def test_fewer_than_no_requests_cannot_wait(triton):
    host, pages = triton
    pages["/metrics"] = PAGE.replace(
        'pending_request_count{model="resnet50",version="1"} 5',
        'pending_request_count{model="resnet50",version="1"} -5',
    )
    with pytest.raises(ServingError, match="-5 requests wait"):
        read_gauges(host, "resnet50")


class TestTritonSource:
    def test_reads_batches_and_metrics_of_every_endpoint_there_is_now(self, triton):
        host, _ = triton
        there = [TritonAddress("a", f"http://{host}", f"{host}/metrics")]
        source = TritonSource("resnet50", lambda: there)
        first = source.sample()
        assert batches(first) == {
            ("a", "batch_executions", "1"): 1,
            ("a", "batch_compute_seconds", "1"): 0.5,
            ("a", "batch_executions", "3"): 2,
            ("a", "batch_compute_seconds", "3"): 0.5,
        }
        assert "nv_inference_queue_duration_us" in {row[1] for row in first}

        there[:] = [TritonAddress("b", host, None)]  # scaled: another replica, whose metrics port is not reached
        second = source.sample()
        assert {row[2]["endpoint"] for row in second} == {"b"}
        assert {row[1] for row in second} == {"batch_executions", "batch_compute_seconds"}

    def test_an_endpoint_that_is_down_is_missed_and_the_others_keep_their_rows(self, triton):
        host, _ = triton
        source = TritonSource(
            "resnet50",
            lambda: [TritonAddress("gone", "http://127.0.0.1:9", None), TritonAddress("up", host, f"{host}/metrics")],
        )
        with pytest.raises(MissedSample, match=r"endpoint gone: .*does not answer") as missed:
            source.sample()
        assert {row[2]["endpoint"] for row in missed.value.rows} == {"up"}

    def test_a_metrics_page_that_fails_leaves_the_batches(self, triton):
        host, pages = triton
        pages["/metrics"] = "not a page {"
        with pytest.raises(MissedSample, match="cannot be read") as missed:
            TritonSource("resnet50", lambda: [TritonAddress("a", host, f"{host}/metrics")]).sample()
        assert len(batches(missed.value.rows)) == 4

    def test_a_model_that_is_not_loaded_is_said_in_the_servers_own_words(self, triton):
        with pytest.raises(ServingError, match=r"answers 400 .*requested model is not available"):
            read_statistics(triton[0], "bert")

    @pytest.mark.parametrize("address", ["{host}", "http://{host}", "http://{host}/", "{host}/metrics"])
    def test_the_metrics_address_may_leave_out_scheme_and_page(self, triton, address):
        there = TritonAddress("a", triton[0], address.format(host=triton[0]))
        names = {row[1] for row in TritonSource("resnet50", lambda: [there]).sample()}
        assert "nv_inference_queue_duration_us" in names

    def test_a_proxy_in_the_environment_is_not_asked(self, triton):
        code = f"import testbed.measurement.triton_metrics as t; t.read_statistics('{triton[0]}', 'resnet50')"
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
        asked = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert asked.returncode == 0, asked.stderr
