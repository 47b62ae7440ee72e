"""How often 90 % intervals hold what they are of: `pytest tests/bench/test_bench_coverage.py --benchmark-only -s`.

Of the capacity: in made-up studies. Of the next run: on results/golden-emulated, every real run, repeats too, with two
questions. `pattern`: before anybody knows the arrivals (other arrivals of the same pattern in each draw, as `kis plan
--pattern` and `kis simulate --cluster --draws` have them). `arrivals`: for exactly those that came (as on a trace).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.run_dir import run_dirs
from testbed.simulation.intervals import interval
from testbed.simulation.simulator import simulate
from tests.golden import restored
from tests.oracles.known_curves import covered_by_kind

DRAWS = 200
STUDIES = 1000


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
    golden = restored("golden-emulated", tmp_path)
    profile = ServiceProfile.read(golden / "profile-emulated.json")
    runs = run_dirs(golden)
    runs = [run for run in runs if run.manifest.held_out and run.manifest.kind == "real"]
    found = {}

    def look() -> None:
        intervals = {}
        for run in runs:
            schedule, service = Schedule.read(run.schedule), run.manifest.service
            key = (service.label, schedule.scheduled_ns.tobytes())
            if key not in intervals:  # repeats have the same arrivals

                def p95(drawn: ServiceProfile, seed: int, run=run, schedule=schedule, service=service) -> float:
                    if question == "pattern":
                        pattern = make_pattern(run.manifest.pattern, **run.manifest.pattern_parameters)
                        schedule = poisson_schedule(pattern, schedule.duration_s, seed, "emulated")
                    return float(np.quantile(simulate(schedule, drawn, service, seed).requests.latency_s, 0.95))

                intervals[key] = interval(profile, p95, DRAWS, seed=1)
            log = RequestLog.read(run.requests)
            found[run.path.name] = (float(np.quantile(log.latency_s[log.ok], 0.95)), intervals[key])

    benchmark.pedantic(look, rounds=1)
    inside = [band.low <= real <= band.high for real, band in found.values()]
    width = np.median([(band.high - band.low) / band.middle for _, band in found.values()])
    for name, (real, band) in found.items():
        mark = " " if band.low <= real <= band.high else "*"
        print(f"{mark} {name}: {1e3 * real:.2f} in {1e3 * band.low:.2f} to {1e3 * band.high:.2f} ms")
    print(f"{question}: {np.mean(inside):.1%} of {len(inside)} runs inside; median width {width:.1%}")
    assert (0.85 if question == "pattern" else 0.8) <= np.mean(inside) <= 0.95
