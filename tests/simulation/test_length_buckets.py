"""A batch is padded to its longest request, and takes what a batch of that bucket takes: in the kernel and in KISim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadgen.artifact import ArtifactError
from loadgen.lengths import ListedLengths, with_lengths
from loadgen.patterns import Constant
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.profile import LengthTime, ServiceProfile
from testbed.simulation.cluster.config import ServedModel
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from testbed.simulation.simulator import simulate
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile
from workloads.catalog import ServiceConfig
from workloads.errors import KisError

MEAN_S = (0.004, 0.006, 0.008, 0.010)
BUCKETS = (16, 64, 128)
ROWS_S = np.array([[0.001 + 0.25 * one for one in MEAN_S], [0.0005 + 0.5 * one for one in MEAN_S], MEAN_S])
SERVICE = ServiceConfig(max_batch_size=4, length_buckets=BUCKETS)
LENGTHS = ListedLengths(tokens=(5, 16, 40, 100), weights=(4, 3, 2, 1))


def profile() -> ServiceProfile:
    times = flat_profile(MEAN_S).service_time
    lengths = (
        LengthTime(tokens=16, offset_s=0.001, factor=0.25, batches=100),
        LengthTime(tokens=64, offset_s=0.0005, factor=0.5, batches=100),
        LengthTime(tokens=128, offset_s=0.0, factor=1.0, batches=0),
    )
    return flat_profile(MEAN_S).model_copy(update={"service_time": times.model_copy(update={"lengths": lengths})})


def traffic(rate: float, seed: int = 3) -> Schedule:
    return with_lengths(poisson_schedule(Constant(rate=rate), 20.0, seed, "m"), LENGTHS, seed)


def took_and_should_take(
    schedule: Schedule, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[list[int], list[float], set[int]]:
    """Of each batch: nanoseconds that it took, and that its longest request's bucket and its size take; the buckets."""
    assert schedule.tokens is not None
    bucket = np.searchsorted(BUCKETS, schedule.tokens)[ids]
    took, should, buckets = [], [], set()
    for start in np.unique(starts):
        mine = starts == start
        longest = int(bucket[mine].max())
        buckets.add(longest)
        took.append(int(ends[mine].max() - start))
        should.append(float(ROWS_S[longest, mine.sum() - 1] * 1e9))
    return took, should, buckets


def test_kisim_runs_a_batch_as_long_as_its_longest_request_takes() -> None:
    schedule = traffic(300.0)
    log = simulate(schedule, profile(), SERVICE, seed=1).batches.frame
    columns = (log[name].to_numpy() for name in ("request_id", "start_ns", "end_ns"))
    took, should, buckets = took_and_should_take(schedule, *columns)
    assert took == pytest.approx(should, abs=1)
    assert buckets == {0, 1, 2}


def test_kisim_runs_the_same_batches_as_the_kernel() -> None:
    schedule = traffic(300.0)
    assert schedule.tokens is not None
    log = simulate(schedule, profile(), SERVICE, seed=1).batches.frame
    alone = simulate_batches(
        schedule.scheduled_ns,
        np.pad(ROWS_S, ((0, 0), (1, 0))) * 1e9,
        1.0,
        BatchingRules(max_batch_size=4),
        bucket=np.searchsorted(BUCKETS, schedule.tokens),
    )
    assert log.sort_values("request_id")["end_ns"].tolist() == alone.end_ns.tolist()


def test_requests_of_one_length_are_a_service_with_that_row_alone() -> None:
    arrival_ns = traffic(250.0).scheduled_ns
    rules = BatchingRules(max_batch_size=4)
    table = np.pad(ROWS_S, ((0, 0), (1, 0))) * 1e9
    for row in range(3):
        padded = simulate_batches(arrival_ns, table, np.ones(1), rules, bucket=row)
        alone = simulate_batches(arrival_ns, table[row], np.ones(1), rules)
        assert padded.end_ns.tolist() == alone.end_ns.tolist()
    with pytest.raises(ValueError, match=r"a row 0\.\.2"):
        simulate_batches(arrival_ns, table, np.ones(1), rules, bucket=3)


def test_lengths_that_nobody_gives_are_drawn_as_they_are_distributed() -> None:
    config = cluster(gpus=1, max_batch_size=1, length_buckets=BUCKETS, lengths=LENGTHS.model_dump())
    services = [make_service(0, config.models[0], GPU, profile())]
    sim = KISim(config, services, PatternTraffic((Constant(rate=50.0),), 1), keep_rows=True)
    sim.advance(200)
    rows = sim.all_rows()
    took_s = (rows["end_ns"] - rows["start_ns"]) / 1e9
    for bucket, share in enumerate((0.7, 0.2, 0.1)):
        assert np.mean(np.isclose(took_s, ROWS_S[bucket, 0])) == pytest.approx(share, abs=0.02)


def test_what_does_not_fit_is_said_in_one_line() -> None:
    with pytest.raises(ArtifactError, match="length bucket 32 is not in the profile"):
        simulate(traffic(10.0), profile(), SERVICE.model_copy(update={"length_buckets": (32, 128)}), seed=1)
    with pytest.raises(KisError, match="100 tokens, the longest bucket is 64"):
        simulate(traffic(10.0), profile(), SERVICE.model_copy(update={"length_buckets": (16, 64)}), seed=1)
    with pytest.raises(KisError, match="the traffic has no lengths"):
        simulate(replace(traffic(10.0), tokens=None), profile(), SERVICE, seed=1)
    with pytest.raises(ValueError, match=r"up to 128 tokens, length_buckets \[16\]"):
        ServedModel(
            name="m",
            profiles={GPU: "profile.json"},
            latency_target_s=1,
            length_buckets=(16,),
            lengths=ListedLengths(tokens=(128,)),
        )
