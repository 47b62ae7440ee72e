"""Replica states as metric rows."""

from testbed.measurement.metric_log import MetricLog
from testbed.measurement.replica_metrics import replica_rows
from testbed.serving.service import ReplicaEvent

SECOND = 1_000_000_000


def log(*events):
    rows = replica_rows([ReplicaEvent(time_s * SECOND, *rest) for time_s, *rest in events], 10 * SECOND)
    return MetricLog.from_rows(rows)


def test_a_replica_that_comes_and_goes_shows_each_state_on_the_run_clock_and_its_start_up_time():
    measured = log(
        (2, "replica-1", "starting"),
        (15, "replica-1", "ready", 12.9),
        (40, "replica-1", "draining"),
        (41, "replica-1", "gone"),
    )
    rows = measured.select("replica", "state", replica="replica-1")
    assert list(zip(rows["time_s"], rows["state"], strict=True)) == [
        (-8.0, "starting"),
        (5.0, "ready"),
        (30.0, "draining"),
        (31.0, "gone"),
    ]
    (start_up,) = measured.select("replica", "start_up_seconds").itertuples()
    assert (start_up.time_s, start_up.value, start_up.unit, start_up.replica) == (5.0, 12.9, "s", "replica-1")


def test_a_replica_that_never_became_ready_has_no_start_up_time():
    measured = log((2, "replica-0", "starting"), (9, "replica-0", "gone"))
    assert measured.select("replica", "start_up_seconds").empty
    assert measured.select("replica", "state")["state"].tolist() == ["starting", "gone"]
