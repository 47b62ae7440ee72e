"""What holds in any cluster: conservation, Little's law, monotonicity, and agreement with the closed kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.patterns import make_pattern
from testbed.calibration.profile import DeviceUse, LoadPoint
from testbed.measurement.latency_histogram import quantile_of
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic, Users
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from tests.oracles.closed_forms import machine_repair
from tests.oracles.cluster_worlds import GPU, cluster, finite_source, flat_profile, simulate
from tests.oracles.splitmix import of_run, uniform

MEAN_S = (0.005, 0.006, 0.007, 0.008)


def open_loop(rate: float, seed: int = 1, **model) -> KISim:
    config = cluster(gpus=8, **{"max_batch_size": 4, **model})
    services = [make_service(0, config.models[0], GPU, flat_profile(MEAN_S))]
    traffic = PatternTraffic((make_pattern("constant", rate=rate),), seed)
    return KISim(config, services, traffic, seed=seed, keep_rows=True)


@pytest.mark.parametrize("after_idle_s", [(), (0.0, 0.0005, 0.001, 0.002)])
def test_request_for_request_it_is_the_closed_kernel(after_idle_s):
    """Fixed replicas, round robin: the stream and the closed kernel serve the same requests at the same times."""
    rng = np.random.default_rng(3)
    arrival_s = np.sort(rng.uniform(0, 20, 12_000))
    noise = (0.8, 1.0, 1.4)
    rules = {"max_queue_delay_s": 0.002}
    config = cluster(gpus=8, replicas=3, instances=2, max_batch_size=4, dynamic_batching=rules)
    profile = flat_profile(MEAN_S, noise=noise, inter_batch_gap_s=0.0002, after_idle_s=after_idle_s)
    sim = simulate(config, arrival_s, profile, seed=5)
    for until_s in (0.5, 3.0, 3.0, 17.123, 30.0):  # however it is cut
        sim.advance(until_s)
    rows = np.sort(sim.all_rows(), order="id")
    number = np.arange(len(arrival_s))
    drawn = np.interp(uniform(of_run(5), number, 3), [0, 0.5, 1], noise)
    expected = simulate_batches(
        np.rint(arrival_s * 1e9).astype(np.int64),
        np.array([0.0, *MEAN_S]) * 1e9,
        drawn,
        BatchingRules(max_batch_size=4, instances=2, max_queue_delay_ns=2_000_000),
        replicas=3,
        pause_ns=np.array([200_000.0]),
        after_idle_ns=np.array(after_idle_s or (0.0,)) * 1e9,
    )
    assert rows["start_ns"].tolist() == expected.start_ns.tolist()
    assert rows["end_ns"].tolist() == expected.end_ns.tolist()
    assert rows["batch_size"].tolist() == expected.batch_size.tolist()
    assert rows["pod"].tolist() == expected.replica.tolist()


def test_a_device_is_used_while_networks_run_where_the_profile_tells_and_else_while_batches_do():
    arrival_s = np.arange(0.05, 10, 0.05)  # each finds an idle replica
    known = DeviceUse(network_s=(0.002, 0.003, 0.004, 0.005), idle_w=None, batch_j=None, request_j=None)
    for use, seconds in ((known, 0.002), (None, MEAN_S[0])):
        profile = flat_profile(MEAN_S).model_copy(update={"device_use": use})
        sim = simulate(cluster(gpus=1, max_batch_size=4), arrival_s, profile, seed=1)
        sim.advance(11)
        served = sim.totals("m").ok
        assert served > 100
        assert float(sim.device_active_s().sum()) == pytest.approx(served * seconds, rel=1e-6)


def test_a_devices_energy_is_of_its_batches_where_the_profile_tells_and_else_of_its_use():
    arrival_s = np.repeat(np.arange(0.05, 10, 0.05), 3)  # a batch of one, and one of two behind it
    by_batch = DeviceUse(network_s=None, idle_w=100.0, batch_j=0.5, request_j=0.25)
    load = tuple(LoadPoint(rate_rps=1.0, utilisation=share, power_w=100 + 300 * share) for share in (0.1, 0.9))
    for profile in (
        flat_profile(MEAN_S).model_copy(update={"device_use": by_batch, "load": load}),
        flat_profile(MEAN_S).model_copy(update={"load": load}),
    ):
        sim = simulate(cluster(gpus=2, replicas=1, max_batch_size=4), arrival_s, profile, seed=1)
        sim.advance(11)
        pairs = sim.totals("m").ok // 3
        energy_j = np.sort(sim.device_energy_j())
        assert energy_j[0] == pytest.approx(11 * 100)  # nobody uses it
        used_j = pairs * (2 * 0.5 + 3 * 0.25) if profile.device_use else 300 * pairs * (MEAN_S[0] + MEAN_S[1])
        assert energy_j[1] == pytest.approx(11 * 100 + used_j)
    given = cluster(gpus=1, gpu_kind={"power_w": (50.0, 250.0)})
    sim = simulate(given, arrival_s[::3], flat_profile(MEAN_S), seed=1)
    sim.advance(11)
    assert sim.device_energy_j() == pytest.approx([11 * 50 + 200 * sim.totals("m").ok * MEAN_S[0]])
    unknown = simulate(cluster(gpus=1), arrival_s, flat_profile(MEAN_S), seed=1)
    assert np.isnan(unknown.device_energy_j()).all()


def test_every_request_ends_once_or_is_still_under_way():
    sim = open_loop(900, replicas=2, client={"timeout_s": 0.05, "retries": 1, "backoff_s": 0.01})
    sim.advance(5)
    sim.scale("m", 5)
    sim.advance(12)
    sim.crash(0)
    sim.advance(13)
    sim.scale("m", 1)
    sim.advance(30)
    rows, totals = sim.all_rows(), sim.totals("m")
    assert len(set(rows["id"].tolist())) == len(rows)
    assert totals.ok + totals.error + totals.timeout == len(rows)
    live = {int(request) for request in sim.stream.sim.requests["id"] if request >= 0} - set(rows["id"].tolist())
    assert totals.arrived == len(rows) + len(live)
    assert totals.timeout > 0
    assert totals.error > 0


def test_littles_law():
    """Requests in the system = rate x time in it."""
    sim = open_loop(700, replicas=2)
    held = []
    for step in range(1, 40_001):
        sim.advance(step * 0.005)
        held.append(sim.totals("m").waiting)
    totals = sim.totals("m")
    rate, latency_s = totals.arrived / sim.now_s, totals.latency_s / totals.ok
    assert np.mean(held) == pytest.approx(rate * latency_s, rel=0.02)


def test_more_replicas_never_raise_the_mean_latency_under_the_same_draws():
    means = []
    for replicas in (1, 2, 4, 8):
        sim = open_loop(550, replicas=replicas, balancer="least_requests")
        sim.advance(60)
        totals = sim.totals("m")
        means.append(totals.latency_s / totals.ok)
    assert means == sorted(means, reverse=True)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=6).map(sorted))
def test_how_a_run_is_cut_does_not_change_it(cuts):
    whole, cut = open_loop(800, replicas=3), open_loop(800, replicas=3)
    whole.advance(20)
    for until_s in cuts:
        cut.advance(until_s)
    cut.advance(20)
    one, other = (np.sort(sim.all_rows(), order="id") for sim in (whole, cut))
    assert one.tobytes() == other.tobytes()


def test_latency_quantiles_from_the_histogram_are_within_their_stated_error():
    sim = open_loop(900, replicas=2)
    sim.advance(30)
    rows = sim.all_rows()
    latency_s = (rows["completed_ns"] - rows["scheduled_ns"]) / 1e9
    for q in (0.5, 0.95, 0.99):
        assert quantile_of(sim.histogram("m"), q) == pytest.approx(np.quantile(latency_s, q), rel=0.0056)


@pytest.mark.parametrize(("users", "servers"), [(6, 1), (10, 3)])
def test_closed_loop_users_are_the_machine_repair_model(users: int, servers: int):
    """Exponential think and service times: M/M/c with a finite source. The sharp version is in `make bench`."""
    sim = finite_source(users, servers, until_s=4000)
    totals = sim.totals("m")
    throughput, response_s = machine_repair(users, servers, think_s=0.5, service_s=0.1)
    assert totals.ok / sim.now_s == pytest.approx(throughput, rel=0.01)
    assert totals.latency_s / totals.ok == pytest.approx(response_s, rel=0.01)


def test_users_that_come_back_are_no_more_than_were_asked_for():
    """Those that went still think when the others come."""
    group = Users(0, ((0.0, 3), (10.1, 1), (10.2, 3)), think_s=1.0)
    sim = simulate(cluster(replicas=4), (), flat_profile([0.5]), users=[group])
    sim.advance(40)
    times = sim.all_rows()["scheduled_ns"] / 1e9
    assert np.sum((times >= 20) & (times < 35)) == 3 * 10  # every 1.5 s, three of them


def test_each_model_has_users_of_its_own():
    config = cluster(replicas=2)
    first = config.models[0]
    config = config.model_copy(update={"models": (first, first.model_copy(update={"name": "other"}))})
    services = [make_service(m, model, GPU, flat_profile([0.5])) for m, model in enumerate(config.models)]
    groups = [Users(0, ((0.0, 3),), think_s=1.0), Users(1, ((0.0, 1), (15.0, 2)), think_s=0.5)]
    sim = KISim(config, services, None, users=groups, keep_rows=True)
    sim.advance(30)
    rows = sim.all_rows()
    times = rows["scheduled_ns"] / 1e9
    sent = [np.sum((rows["model"] == m) & (times >= low) & (times < low + 15)) for m in (0, 1) for low in (0, 15)]
    assert sent == [3 * 10, 3 * 10, 15, 2 * 15]


def test_users_that_are_taken_away_stop_after_their_answer():
    group = Users(0, ((0.0, 3), (10.0, 1), (20.0, 0)), think_s=1.0)
    sim = simulate(cluster(replicas=4), (), flat_profile([0.5]), users=[group])
    sim.advance(40)
    times = sim.all_rows()["scheduled_ns"] / 1e9
    assert np.sum(times < 10) == 3 * 7  # every 1.5 s, three of them
    assert np.sum((times >= 10) & (times < 20)) <= 7
    assert np.sum(times > 20) == 0
