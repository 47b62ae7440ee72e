"""Request for request, the kernel does what the SimPy model of the same rules does; and what every server must do."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testbed.simulation.kernel import KernelResult, simulate_batches
from testbed.simulation.rules import BatchingRules
from tests.oracles import simpy_triton


@dataclass(frozen=True)
class World:
    """One random case: everything that simulate_batches takes."""

    arrival_ns: list[int]
    service_ns: list[float]
    rules: BatchingRules
    noise: list[float]
    slow: list[float]
    slow_step_ns: int
    extra_ns: list[float]
    pause_ns: list[float]
    missed: list[int]
    rows: list[int]
    replicas: int
    balancer: str
    assigned: list[int] | None

    def kernel(self) -> KernelResult:
        return simulate_batches(
            self.arrival_ns,
            self.service_ns,
            self.noise,
            self.rules,
            replicas=self.replicas,
            balancer=self.balancer,
            assigned=self.assigned,
            slow=self.slow,
            slow_step_ns=self.slow_step_ns,
            extra_ns=self.extra_ns,
            pause_ns=self.pause_ns,
            missed=self.missed,
            rows=self.rows,
        )

    def oracle(self) -> list[simpy_triton.Request]:
        costs = simpy_triton.Costs(
            self.service_ns, self.noise, self.slow, self.slow_step_ns, self.extra_ns, self.pause_ns, self.missed
        )
        return simpy_triton.simulate(
            self.arrival_ns,
            self.rules,
            costs,
            replicas=self.replicas,
            balancer=self.balancer,
            assigned=self.assigned,
            rows=self.rows,
        )


def random_world(rng: random.Random) -> World:
    """A small busy service; times are small multiples of one unit, so that many events fall together."""
    unit = rng.choice([1, 500, 1000, 1000, 10**6, 10**8])
    n = rng.randint(1, 50)
    jitter = rng.choice([0, 0, 1, 7])
    gaps = [rng.choice([0, 0, 1, 2, 3, 5, 8, 13]) * unit + jitter * rng.randint(0, 1) for _ in range(n)]
    batch = rng.randint(1, 8)
    replicas, mixed = rng.choice([1, 1, 1, 2, 3]), rng.random() < 0.5
    rules = BatchingRules(
        max_batch_size=batch,
        instances=rng.randint(1, 3),
        dynamic=rng.random() < 0.95,
        preferred_batch_sizes=tuple(rng.sample(range(1, batch + 1), rng.randint(0, min(3, batch)))),
        max_queue_delay_ns=rng.choice([0, rng.randint(1, 20) * unit, rng.randint(1, 30) * 1000]),
        default_timeout_ns=rng.choice([0, 0, rng.randint(1, 30) * unit]),
        timeout_action=rng.choice(["REJECT", "DELAY"]),
        max_queue_size=rng.choice([0, 0, 0, rng.randint(1, 10)]),
        inter_batch_gap_ns=rng.choice([0, rng.randint(1, 5) * unit]),
        timer_slack_ns=rng.choice([0, 0, unit]),
    )
    return World(
        arrival_ns=np.cumsum(gaps).tolist(),
        service_ns=[0.0] + [float(rng.randint(0, 30) * unit) for _ in range(batch)],
        rules=rules,
        noise=[rng.choice([0.5, 1.0, 1.3]) for _ in range(rng.choice([1, n]))],
        slow=[rng.choice([0.5, 1.0, 2.0]) for _ in range(rng.randint(1, 5))],
        slow_step_ns=7 * unit,
        extra_ns=[rng.choice([0.0, float(unit)]) for _ in range(rng.choice([1, n]))],
        pause_ns=[rng.choice([0.0, 2.0 * unit]) for _ in range(rng.choice([1, n]))],
        missed=[rng.choice([0, 1]) for _ in range(rng.choice([1, n]))],
        rows=[rng.randint(1, batch) if mixed else 1 for _ in range(n)],
        replicas=replicas,
        balancer=rng.choice(["round_robin", "least_requests"]),
        assigned=[rng.randrange(replicas) for _ in range(n)] if rng.random() < 0.2 else None,
    )


def assert_agreement(world: World) -> None:
    result, expected = world.kernel(), world.oracle()
    for column in KernelResult._fields:
        assert getattr(result, column).tolist() == [getattr(request, column) for request in expected], (column, world)


worlds = st.randoms(use_true_random=False).map(random_world)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(worlds)
def test_kernel_and_simpy_model_agree_on_every_request(world: World):
    assert_agreement(world)


@pytest.mark.parametrize("block", range(4))
def test_they_agree_on_thousands_of_busy_worlds(block: int):
    """Hypothesis finds the smallest case; plain chance meets rare ones: the rarest rule decides one world in 1500."""
    for seed in range(block * 1500, (block + 1) * 1500):
        assert_agreement(random_world(random.Random(seed)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(worlds)
def test_counting_and_walking_the_queue_form_the_same_batches(world: World):
    """Requests of one row each: [1] is counted, the same number of each request is walked."""
    counted, walked = (replace(world, rows=rows).kernel() for rows in ([1], [1] * len(world.arrival_ns)))
    for column in KernelResult._fields:
        assert getattr(counted, column).tolist() == getattr(walked, column).tolist()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(worlds)
def test_every_request_is_answered_once_and_no_earlier_than_it_came(world: World):
    result = world.kernel()
    assert set(result.status.tolist()) <= {0, 1, 2}
    assert np.all(result.start_ns >= np.array(world.arrival_ns))
    assert np.all(result.end_ns >= result.start_ns)
    of_batch: dict[tuple[int, ...], list[int]] = {}
    for i in np.flatnonzero(result.status == 0).tolist():
        key = (result.replica[i], result.instance[i], result.start_ns[i], result.end_ns[i], result.batch_size[i])
        of_batch.setdefault(tuple(map(int, key)), []).append(i)
    for (*_, size), requests in of_batch.items():  # each row in a place of its own; several batches may take no time
        places = [row for i in requests for row in range(result.position[i], result.position[i] + world.rows[i])]
        assert sorted(places) == sorted([*range(size)] * (len(places) // size))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(worlds)
def test_no_batch_over_the_limit_and_no_instance_in_two_batches(world: World):
    result = world.kernel()
    served = result.status == 0
    assert result.batch_size.max(initial=0) <= world.rules.max_batch_size
    assert world.rules.dynamic or result.batch_size[served].tolist() == np.array(world.rows)[served].tolist()
    for replica in range(world.replicas):
        for instance in range(world.rules.instances):
            mine = served & (result.replica == replica) & (result.instance == instance) & (result.position == 0)
            runs = sorted(zip(result.start_ns[mine].tolist(), result.end_ns[mine].tolist(), strict=True))
            for (_, end), (start, _) in pairwise(runs):
                assert start >= end + world.rules.inter_batch_gap_ns


@settings(max_examples=300, deadline=None, derandomize=True)
@given(worlds)
def test_a_replica_starts_its_requests_in_the_order_they_came(world: World):
    if world.rules.default_timeout_ns and world.rules.timeout_action == "DELAY":
        return  # the only rule that lets one overtake
    result = world.kernel()
    for replica in range(world.replicas):
        mine = (result.status == 0) & (result.replica == replica)
        assert np.all(np.diff(result.start_ns[mine]) >= 0)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds)
def test_replicas_do_not_know_of_each_other(world: World):
    """With an explicit assignment, each replica does what it does alone."""
    target = np.arange(len(world.arrival_ns)) % world.replicas
    world = replace(world, assigned=target.tolist(), extra_ns=[0.0], pause_ns=[0.0], noise=[1.0], missed=[0])
    together = world.kernel()
    for replica in range(world.replicas):
        mine = np.flatnonzero(target == replica)
        arrivals = np.array(world.arrival_ns)[mine].tolist()
        rows = np.array(world.rows)[mine].tolist()
        alone = replace(world, arrival_ns=arrivals, rows=rows, assigned=None, replicas=1).kernel()
        assert together.start_ns[mine].tolist() == alone.start_ns.tolist()
        assert together.end_ns[mine].tolist() == alone.end_ns.tolist()


@example(2.0)
@given(st.floats(0.1, 5))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_stretching_time_stretches_every_answer(factor: float):
    """Without delays in whole microseconds and without half-second looks, the rules have no scale of their own."""
    rng = np.random.default_rng(7)
    unit = 1000
    arrival = np.cumsum(rng.integers(0, 9, 200)) * unit
    service = np.array([0.0, *range(5, 13)]) * unit
    stretch = round(factor * 10) or 1
    base = simulate_batches(arrival, service, [1.0], BatchingRules(instances=2))
    longer = simulate_batches(arrival * stretch, service * stretch, [1.0], BatchingRules(instances=2))
    assert (base.end_ns * stretch).tolist() == longer.end_ns.tolist()
