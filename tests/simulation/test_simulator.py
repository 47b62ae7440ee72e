"""One service in KISim: its client gives up and drops as the real one; replicas that slow each other share a device."""

from __future__ import annotations

import numpy as np
import pytest

from loadgen.client_limits import ClientLimits
from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.request_rows import RowsError, with_rows
from loadgen.schedule import poisson_schedule
from testbed.calibration.sharing import shares_a_device
from testbed.simulation import stream_loop
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from testbed.simulation.simulator import SimulatedRun, simulate
from tests.oracles.cluster_worlds import flat_profile
from workloads.catalog import ServiceConfig

MEAN_S = [0.010, 0.012, 0.014, 0.016]
TWO = ServiceConfig(replicas=2, max_batch_size=4)


def p50_s(*interference: float) -> float:
    """Of two replicas at 250/s, whose batches are long together and short alone."""
    profile = flat_profile(MEAN_S).model_copy(update={"interference": interference})
    schedule = poisson_schedule(make_pattern("constant", rate=250.0), 40.0, 3, profile.model)
    run = simulate(schedule, profile, TWO, 1)
    assert len(run.requests) == len(schedule)
    assert run.requests.ok.all()
    return float(np.median(run.requests.latency_s))


def test_with_hardly_any_interference_it_is_as_with_a_device_each() -> None:
    assert p50_s(1.0, 1.001) == pytest.approx(p50_s(), rel=0.02)


def test_arrivals_that_may_not_be_written_do_not_compile_the_loops_again() -> None:
    """As they come from a file: it took half a minute more in the first campaign after an installation."""
    profile = flat_profile(MEAN_S)
    schedule = poisson_schedule(make_pattern("constant", rate=50.0), 2.0, 3, profile.model)
    simulate(schedule, profile, TWO, 1)
    known = len(stream_loop.run_until.signatures)
    schedule.scheduled_ns.flags.writeable = False
    simulate(schedule, profile, TWO, 1)
    assert len(stream_loop.run_until.signatures) == known


def test_with_interference_it_takes_longer() -> None:
    assert p50_s(1.0, 1.5) > 1.25 * p50_s(1.0, 1.0)


@pytest.mark.parametrize(
    ("interference", "replicas", "shared"),
    [((), 2, False), ((1.0, 1.05), 2, False), ((1.0, 1.4), 1, False), ((1.0, 1.4), 2, True)],
)
def test_only_what_is_noticed_is_simulated_so(interference: tuple[float, ...], replicas: int, shared: bool) -> None:
    profile = flat_profile(MEAN_S).model_copy(update={"interference": interference})
    assert shares_a_device(profile, replicas) is shared


def overload(client: ClientLimits | None) -> SimulatedRun:
    """20 s of 100 requests/s with a spike of 900 in the middle, to one replica that serves 250."""
    spike = make_pattern("bursty", base=100.0, spike=900.0, spike_s=5.0, every_s=15.0)
    schedule = poisson_schedule(spike, 20.0, 3, "m")
    return simulate(schedule, flat_profile(MEAN_S), ServiceConfig(replicas=1, max_batch_size=4), 1, client)


def test_without_a_client_everything_is_answered_however_late() -> None:
    log = overload(None).requests
    assert log.ok.all()
    assert log.latency_s.max() > 10


def test_it_serves_what_the_kernel_serves() -> None:
    log = overload(None).requests
    arrival_ns = log.frame["scheduled_ns"].to_numpy()
    alone = simulate_batches(arrival_ns, [0, *(1e9 * one for one in MEAN_S)], 1.0, BatchingRules(max_batch_size=4))
    assert log.frame["completed_ns"].tolist() == alone.end_ns.tolist()


def test_requests_of_several_rows_are_served_as_the_kernel_serves_them() -> None:
    schedule = with_rows(
        poisson_schedule(make_pattern("constant", rate=150.0), 40.0, 3, "m"), {1: 2.0, 2: 1.0, 4: 1.0}, 3
    )
    run = simulate(schedule, flat_profile(MEAN_S), ServiceConfig(max_batch_size=4), 1)
    service_ns = [0, *(1e9 * one for one in MEAN_S)]
    rules = BatchingRules(max_batch_size=4)
    alone = simulate_batches(schedule.scheduled_ns, service_ns, 1.0, rules, rows=schedule.rows)
    assert run.requests.frame["completed_ns"].tolist() == alone.end_ns.tolist()
    batches = run.batches.frame.sort_values("request_id")
    assert batches["batch_size"].tolist() == alone.batch_size.tolist()
    assert batches["position"].tolist() == alone.position.tolist()
    rows = run.metrics.frame.query("name == 'nv_inference_count'")["value"].max()
    assert rows == schedule.rows.sum()


def test_more_rows_than_a_batch_has_are_refused() -> None:
    schedule = with_rows(poisson_schedule(make_pattern("constant", rate=50.0), 2.0, 3, "m"), {5: 1.0}, 3)
    with pytest.raises(RowsError, match=r"requests of 5 rows, and model 'm' takes at most 4 in one \(max_batch_size"):
        simulate(schedule, flat_profile(MEAN_S), ServiceConfig(max_batch_size=4), 1)
    alone = ServiceConfig(max_batch_size=8, dynamic_batching=None)
    with pytest.raises(RowsError, match=r"takes at most 4 in one \(the largest batch of its profile"):
        simulate(schedule, flat_profile(MEAN_S), alone, 1)


def test_a_client_that_waits_two_seconds_gives_up_after_them() -> None:
    whole = overload(None)
    patient, run = whole.requests, overload(ClientLimits(timeout_s=2.0, max_in_flight=100_000))
    log = run.requests
    late = patient.latency_s > 2.0
    assert late.sum() > 1000
    assert (log.frame["status"] == "timeout").tolist() == late.tolist()
    waited_s = log.seconds("completed_ns")[late] - log.seconds("scheduled_ns")[late]
    assert waited_s.tolist() == pytest.approx([2.0] * int(late.sum()))
    assert log.latency_s[~late].tolist() == patient.latency_s[~late].tolist()  # the server knows nothing of it
    # It runs, and logs, what nobody waits for any more.
    assert run.batches.busy_s(20.0) == pytest.approx(whole.batches.busy_s(20.0), rel=1e-9)
    executed = run.metrics.executed("m")
    assert executed == len(run.batches.frame)
    assert executed == len(patient)


def most_in_flight(requests: RequestLog) -> int:
    """Largest number of requests under way at any moment, the one that is being sent included."""
    sent_s = np.sort(requests.seconds("sent_ns"))
    sent_s = sent_s[np.isfinite(sent_s)]
    ends_s = np.sort(requests.seconds("completed_ns"))
    return int((np.arange(1, len(sent_s) + 1) - np.searchsorted(ends_s, sent_s, side="right")).max())


def test_requests_beyond_the_limit_are_dropped_and_the_others_are_faster() -> None:
    log = overload(ClientLimits(max_in_flight=200)).requests
    counts = log.counts()
    assert counts["dropped"] > 1000
    assert counts["ok"] + counts["dropped"] == len(log)
    assert len(log) == len(overload(None).requests)
    assert most_in_flight(log) <= 200
    # Two hundred that wait before a replica that serves 250/s: not much over .8 s, where it was over 10.
    assert 0.6 < np.nanmax(log.latency_s) < 1.0
    in_spike = (log.seconds("scheduled_ns") > 11) & (log.seconds("scheduled_ns") < 15)
    served = log.ok[in_spike].sum() / 4
    assert served == pytest.approx(250, rel=0.05)


def test_a_limit_that_is_never_reached_changes_nothing() -> None:
    usual = overload(None).requests
    limited = overload(ClientLimits(timeout_s=60.0, max_in_flight=most_in_flight(usual)))
    assert limited.requests.frame.equals(usual.frame)


def test_a_long_simulation_tells_how_far_it_is() -> None:
    schedule = poisson_schedule(make_pattern("constant", rate=100.0), 10.0, 3, "m")
    told: list[float] = []
    simulate(schedule, flat_profile(MEAN_S), TWO, 1, on_progress=told.append)
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 1.0
