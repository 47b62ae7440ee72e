"""A real Triton whose emulated accelerator becomes slower while it serves: found in its metrics, and measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.adaptation.adaptive import Adaptive, make_adaptive
from testbed.adaptation.settings import AdaptSettings, DriftSettings, RecalibrationSettings
from testbed.autoscaling.live.scraper import LiveObservation, PodScraper
from testbed.autoscaling.policies import Predictive
from testbed.calibration.profile import ServiceProfile
from testbed.config import ClientConfig, ServeConfig
from testbed.pipeline.real_run import run_real
from testbed.pipeline.target import Target, served
from testbed.pipeline.traffic import Identity
from testbed.simulation.cluster.config import ClusterConfig
from workloads.catalog import ServiceConfig
from workloads.emulated_profile import EmulatedProfile

pytestmark = pytest.mark.server
RATE, SECONDS, DRIFT_S, FACTOR = 25.0, 45.0, 16.0, 1.4
# Batches so long that what other work on this machine adds to them, milliseconds, is little beside the change.
MEAN_S = (0.040, 0.048, 0.056, 0.064, 0.072, 0.080, 0.088, 0.096)
ADDED_S = 0.0007  # by the server, to a batch
FASTER = Path("results/golden-emulated/profile-emulated.json")  # of a service that is eight times as fast: its noise
SETTINGS = AdaptSettings(
    drift=DriftSettings(window_s=2.0, level_windows=6, least_change=0.25),
    recalibration=RecalibrationSettings(windows=6),
)


class NoBench:
    """Nobody thinks candidates over: the machine is busy serving."""

    def submit(self, work: Callable[[], object]) -> None:
        pass

    def answer(self) -> object | None:
        return None

    def close(self) -> None:
        pass


def watcher(folder: Path) -> Adaptive:
    faster = ServiceProfile.read(FASTER)
    times = faster.service_time.model_copy(update={"mean_s": tuple(one + ADDED_S for one in MEAN_S)})
    faster.model_copy(update={"service_time": times}).write(folder.with_name("profile.json"))
    profile = str(folder.with_name("profile.json"))
    served = {"name": "emulated", "profiles": {"emulated": profile}, "latency_target_s": 0.3}
    pools = [{"gpus": 1, "gpu_kind": "emulated"}]
    cluster = ClusterConfig.model_validate({"gpu_kinds": {"emulated": {}}, "pools": pools, "models": [served]})
    incumbent = Predictive(replica_capacity_rps=60.0, provisioning_delay_s=9.0, max_replicas=1)
    return make_adaptive(incumbent, cluster, SETTINGS, folder, NoBench(), "a real Triton")


def watch(policy: Adaptive, target: Target, stop: threading.Event) -> None:
    """As `kis controller` does: a scrape and a decision every second."""
    scraper, memory = PodScraper(target.model), None
    while not stop.wait(1.0 - time.monotonic() % 1.0):
        now_s = time.monotonic()
        scraper.scrape(now_s, target.addresses())
        memory = policy.decide(LiveObservation(now_s, 1, [], tuple(scraper.scrapes)), memory).memory
    scraper.close()


def test_a_real_service_that_becomes_slower_is_found_and_measured(tmp_path: Path) -> None:
    slowness = tmp_path / "slowness"
    emulated = EmulatedProfile(mean_s=MEAN_S, sigma=0.05, slowness_file=slowness)
    serve = ServeConfig(model="emulated", emulated=emulated, service=ServiceConfig())
    schedule = poisson_schedule(make_pattern("constant", rate=RATE), SECONDS, 1, "emulated")
    policy, stop, drifted_s = watcher(tmp_path / "adaptation"), threading.Event(), []

    def on_progress(share: float) -> None:
        if share * SECONDS >= DRIFT_S and not drifted_s:
            slowness.write_text(str(FACTOR))
            drifted_s.append(time.monotonic())

    with served(serve, tmp_path / "serving") as target:
        watching = threading.Thread(target=watch, args=(policy, target, stop))
        watching.start()
        try:
            identity = Identity("drift", "constant", {"rate": RATE}, 1)
            run_real(target, schedule, tmp_path / "run", identity, ClientConfig(), 1.0, on_progress)
        finally:
            stop.set()
            watching.join()
    steps = policy.journal.entries
    print([(round(step.time_s - drifted_s[0], 1), step.state, step.why) for step in steps])
    assert [step.state for step in steps[:2]] == ["ALARMED", "RECALIBRATING"]
    assert 0 < steps[0].time_s - drifted_s[0] < 15
    assert abs(steps[0].figures["change_s"] - drifted_s[0]) < 5
    factor = steps[1].figures["factor"]
    # Other work on this machine only adds to a batch; what the server adds to one becomes no slower.
    assert 0.92 * FACTOR < factor["value"] < 1.25 * FACTOR
