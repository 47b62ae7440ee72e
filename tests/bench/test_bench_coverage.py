"""How often 90 % intervals hold what they are of: `pytest tests/bench/test_bench_coverage.py --benchmark-only -s`.

Of the capacity: in made-up studies. Of the next run: on every held-out real run of the calibrations, repeats too, with
two questions. `pattern`: before anybody knows the arrivals (other arrivals of the same pattern in each draw, as `kis
plan --pattern` and `kis simulate --cluster --draws` have them). `arrivals`: for those that came (as on a trace).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.run_dir import RunDir, run_dirs
from testbed.simulation.intervals import PredictionInterval, interval
from testbed.simulation.simulator import simulate
from tests.golden import restored
from tests.oracles.known_curves import covered_by_kind

DRAWS = 200
STUDIES = 1000
GOLDEN = (
    "golden-emulated",
    "golden-emulated-slow",
    "golden-bert",
    "golden-resnet50",
    "golden-gpu-bert-fp32",
    "golden-gpu-bert-fp16",
    "golden-gpu-resnet50-fp16",
)


@pytest.mark.timeout(1800)
def test_coverage_of_the_capacitys_interval(benchmark):
    """A thousand made-up studies of each kind of service, in one run and in six that differ by 1 %."""
    found = benchmark.pedantic(covered_by_kind, args=(np.random.default_rng(7), STUDIES), rounds=1)
    for (name, runs), share in found.items():
        print(f"{name}, runs: {runs}: {share:.1%}")
    print(f"all: {np.mean(list(found.values())):.1%}")
    assert 0.88 <= np.mean(list(found.values())) <= 0.92


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("question", ["pattern", "arrivals"])
def test_interval_coverage_on_real_runs(benchmark, question: str, tmp_path: Path):
    found: dict[str, list[tuple[str, float, PredictionInterval]]] = {}

    def look() -> None:
        for name in GOLDEN:
            folder = restored(name, tmp_path)
            runs = [run for run in run_dirs(folder) if run.manifest.held_out and run.manifest.kind == "real"]
            found[name] = list(_bands(folder, runs, question))

    benchmark.pedantic(look, rounds=1)
    everything = [one for golden in found.values() for one in golden]
    for name, golden in found.items():
        for run_id, real_s, band in golden:
            mark = " " if band.low <= real_s <= band.high else "*"
            print(f"{mark} {run_id}: {1e3 * real_s:.2f} in {1e3 * band.low:.2f} to {1e3 * band.high:.2f} ms")
        print(f"{name}, {question}: {_told(golden)}")
    print(f"all, {question}: {_told(everything)}")
    inside = np.mean([band.low <= real_s <= band.high for _, real_s, band in everything])
    assert inside >= 0.86  # 0.94 at most is the aim; docs/explanation/evidence.md has the measured share


def _bands(folder: Path, runs: list[RunDir], question: str) -> Iterator[tuple[str, float, PredictionInterval]]:
    """Of each real run: its name, its P95, and the interval for it."""
    intervals: dict[tuple[str, str, bytes], PredictionInterval] = {}
    for run in runs:
        profile = ServiceProfile.read(folder / f"profile-{run.manifest.model}.json")
        schedule, service = Schedule.read(run.schedule), run.manifest.service
        key = (run.manifest.model, service.label, schedule.scheduled_ns.tobytes())
        if key not in intervals:  # repeats have the same arrivals

            def p95(drawn: ServiceProfile, seed: int, run=run, schedule=schedule, service=service) -> float:
                if question == "pattern":
                    pattern = make_pattern(run.manifest.pattern, **run.manifest.pattern_parameters)
                    schedule = poisson_schedule(pattern, schedule.duration_s, seed, run.manifest.model)
                return float(np.quantile(simulate(schedule, drawn, service, seed).requests.latency_s, 0.95))

            intervals[key] = interval(profile, p95, DRAWS, seed=1)
        log = RequestLog.read(run.requests)
        yield run.path.name, float(np.quantile(log.latency_s[log.ok], 0.95)), intervals[key]


def _told(runs: list[tuple[str, float, PredictionInterval]]) -> str:
    inside = np.mean([band.low <= real_s <= band.high for _, real_s, band in runs])
    width = np.median([(band.high - band.low) / band.middle for _, _, band in runs])
    return f"{inside:.1%} of {len(runs)} runs inside; median width {width:.1%}"
