"""The replay harness and perf_analyzer against the same server, in turns: what each delivers of the rate asked for.

    make bench ARGS="-k peers"

Skipped unless perf_analyzer is on PATH, or PERF_ANALYZER names it. NVIDIA's client wheels carried the program up to
2.41: `pip download --no-deps tritonclient==2.41.1`, and unzip bin/perf_analyzer from it.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from loadgen.job import ReplayJob, RequestShape, run_replay
from loadgen.patterns import Constant
from loadgen.schedule import poisson_schedule
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions

PROGRAM = os.environ.get("PERF_ANALYZER") or shutil.which("perf_analyzer")
SECONDS = 8


@pytest.mark.skipif(PROGRAM is None, reason="no perf_analyzer on PATH, and PERF_ANALYZER is not set")
@pytest.mark.parametrize("rate", [500, 1_000, 2_000])
def test_delivered_and_p95_beside_perf_analyzer(benchmark, tmp_path, rate):
    """Poisson arrivals at a rate that the server can hold (4,000/s in full batches)."""
    spec = find_model("emulated")
    options = BackendOptions(emulated=EmulatedProfile.linear(0.001, 0.000125, 8))
    poisson_schedule(Constant(rate=rate), float(SECONDS), 1, spec.name).write(tmp_path / "schedule.parquet")
    with LocalService(tmp_path / "serving", spec, ServiceConfig(), options) as service:
        job = ReplayJob(
            schedule=tmp_path / "schedule.parquet",
            run_dir=tmp_path,
            endpoints=service.endpoints_file,
            requests={spec.name: RequestShape(inputs=spec.inputs)},
        )
        log = benchmark.pedantic(run_replay, args=(job,), rounds=1)
        theirs = perf_analyzer(service.endpoints()[0].http, spec.name, rate, tmp_path / "perf.csv")
    ours_rps = log.counts()["ok"] / SECONDS
    ours_p95_ms = 1e3 * float(np.nanpercentile(log.latency_s, 95))
    print(
        f"\n{rate}/s asked: ours {ours_rps:.0f}/s answered, P95 from the schedule {ours_p95_ms:.2f} ms; perf_analyzer "
        f"{theirs['rate']:.0f}/s, P95 from the send {theirs['p95_ms']:.2f} ms; "
        f"delivered {ours_rps / theirs['rate']:.3f} times as much"
    )
    assert ours_rps >= 0.99 * len(log) / SECONDS


def perf_analyzer(url: str, model: str, rate: int, file: Path) -> dict[str, float]:
    """Its own figures for that request rate."""
    assert PROGRAM is not None
    command = [PROGRAM, "-m", model, "-u", url, "-i", "http", "--async", "--request-distribution", "poisson"]
    command += ["--request-rate-range", str(rate), "--measurement-interval", "3000"]
    command += ["-s", "100", "-f", str(file), "--percentile", "95"]  # three windows, however they differ
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if not file.exists():
        pytest.fail(f"perf_analyzer: {done.stdout[-500:]} {done.stderr[-500:]}")
    row = next(csv.DictReader(file.read_text().splitlines()))
    return {"rate": float(row["Inferences/Second"]), "p95_ms": float(row["p95 latency"]) / 1e3}
