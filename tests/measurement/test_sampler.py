"""The sampler with sources made by hand. Periods are long or short enough that a slow machine changes nothing."""

import errno
import json
import threading
import time

import pytest

from loadgen.artifact import ArtifactError
from testbed.measurement.metric_log import MetricLog
from testbed.measurement.sample_stream import SampleStream, read_samples
from testbed.measurement.sampler import MissedSample, Sampler, SourceHealth

NEVER_S = 3600.0  # a period that passes in no test: the first and the closing reading only


class Counted:
    """Gives 1, 2, 3, ...; `after(n)` waits until the n-th reading was asked for."""

    def __init__(self, name="counted", answer=None):
        self.name = name
        self.asked = 0
        self._answer = answer or (lambda n: [(name, "n", {}, n, "count")])
        self._changed = threading.Condition()

    def sample(self):
        with self._changed:
            self.asked += 1
            self._changed.notify_all()
        return self._answer(self.asked)

    def after(self, n):
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked >= n, timeout=60)


@pytest.fixture
def stream(tmp_path):
    return tmp_path / "raw" / "metrics.jsonl"


def test_reads_at_the_start_at_every_period_and_once_more_at_the_end(stream):
    source = Counted()
    with Sampler([source], stream, period_s=0.01) as sampler:
        source.after(4)
    log = sampler.finish(0)
    assert log.frame["value"].tolist() == list(range(1, source.asked + 1))
    assert source.asked >= 5
    assert sampler.readings["counted"].taken == source.asked


def test_a_run_shorter_than_the_period_still_has_a_difference(stream):
    source = Counted()
    with Sampler([source], stream, NEVER_S) as sampler:
        source.after(1)
    assert sampler.finish(0).frame["value"].tolist() == [1, 2]


def test_times_are_on_the_run_clock_and_readings_before_the_start_are_negative(stream):
    source = Counted()
    with Sampler([source], stream, NEVER_S) as sampler:
        source.after(1)
        while not stream.read_bytes():
            time.sleep(0.001)
        start_ns = time.monotonic_ns()
    end_ns = time.monotonic_ns()
    before, after = sampler.finish(start_ns).frame["time_ns"]
    assert before <= 0 <= after <= end_ns - start_ns


def test_ticks_are_absolute_however_long_a_reading_takes(stream, monkeypatch):
    """Readings of 30 ms at a period of 1 s on a clock of our own: the third is due at 2 s, not at 2.06 s."""
    clock, due = Clock(), []

    def slow(n):
        due.append(clock.now_ns)
        clock.now_ns += 30_000_000
        return []

    source = Counted(answer=slow)
    sampler = Sampler([source], stream)
    clock.drive(sampler, monkeypatch, until_ns=3_500_000_000)
    sampler._watch(source, begin_ns=0)
    assert due == [0, 10**9, 2 * 10**9, 3 * 10**9, 3_500_000_000]
    assert sampler.readings["counted"] == SourceHealth(5, 0, None)


def test_ticks_that_a_slow_reading_ran_over_are_missed_not_made_up(stream, monkeypatch):
    clock, due = Clock(), []

    def stalls_once(n):
        due.append(clock.now_ns)
        clock.now_ns += 2_500_000_000 if n == 2 else 0
        return []

    source = Counted(answer=stalls_once)
    sampler = Sampler([source], stream)
    clock.drive(sampler, monkeypatch, until_ns=4_500_000_000)
    sampler._watch(source, begin_ns=0)
    assert due == [0, 10**9, 4 * 10**9, 4_500_000_000]  # 2 s and 3 s passed meanwhile
    assert sampler.readings["counted"] == SourceHealth(4, 2, "a reading was over 2.5 s after it was due: 2 skipped")


class Clock:
    """A clock that only waiting and slow readings move; the sampler is told to stop at `until_ns`."""

    now_ns = 0

    def drive(self, sampler, monkeypatch, until_ns):
        def wait(timeout):
            self.now_ns = min(until_ns, self.now_ns + round(timeout * 1e9))
            return self.now_ns >= until_ns

        monkeypatch.setattr(sampler._stopping, "wait", wait)
        monkeypatch.setattr("testbed.measurement.sampler.time.monotonic_ns", lambda: self.now_ns)


def test_a_source_that_fails_leaves_no_row_and_its_first_reason(stream):
    def answer(n):
        if n < 2:
            raise ConnectionError("refused")
        return [("flaky", "n", {}, n, "count")]

    source, steady = Counted("flaky", answer), Counted("steady")
    with Sampler([source, steady], stream, NEVER_S) as sampler:
        source.after(1)
        steady.after(1)
    log = sampler.finish(0)
    assert log.select("flaky", "n")["value"].tolist() == [2]
    assert log.select("steady", "n")["value"].tolist() == [1, 2]
    assert sampler.readings == {
        "flaky": SourceHealth(1, 1, "ConnectionError: refused"),
        "steady": SourceHealth(2, 0, None),
    }
    assert log.provenance["readings"]["flaky"] == {
        "taken": 1,
        "missed": 1,
        "first_reason": "ConnectionError: refused",
    }


def test_a_reading_missed_in_part_keeps_the_rows_that_came(stream):
    def answer(n):
        raise MissedSample("endpoint 1 is down", [("triton", "n", {"endpoint": "0"}, n, "count")])

    source = Counted("triton", answer)
    with Sampler([source], stream, NEVER_S) as sampler:
        source.after(1)
    assert sampler.finish(0).frame["value"].tolist() == [1, 2]
    assert sampler.readings["triton"] == SourceHealth(0, 2, "endpoint 1 is down")
    assert sampler.readings["triton"].lost_share == 1.0


def test_a_source_that_stalls_costs_no_other_source_its_readings(stream):
    released = threading.Event()

    def stalls(n):
        released.wait(30)
        return []

    steady = Counted("steady")
    with Sampler([Counted("stalled", stalls), steady], stream, period_s=0.01) as sampler:
        steady.after(5)
        released.set()
    assert len(sampler.finish(0).select("steady", "n")) >= 5


def test_values_that_are_no_numbers_are_left_out(stream):
    source = Counted(answer=lambda n: [("c", "a", {}, float("nan"), "s"), ("c", "b", {}, 2.0, "s")])
    with Sampler([source], stream, NEVER_S) as sampler:
        source.after(1)
    assert set(sampler.finish(0).frame["name"]) == {"b"}


def test_rows_from_elsewhere_are_sorted_in_and_the_log_can_be_written(stream, tmp_path):
    source = Counted()
    with Sampler([source], stream, NEVER_S) as sampler:
        source.after(1)
    log = sampler.finish(0, [(5, "replica", "state", {"replica": "0", "state": "ready"}, 1.0, "count")])
    assert log.frame["source"].tolist() == ["replica", "counted", "counted"]
    log.write(tmp_path / "metrics.parquet")
    again = MetricLog.read(tmp_path / "metrics.parquet")
    assert again.frame.equals(log.frame)
    assert again.provenance == log.provenance


def test_two_sources_of_one_name_are_refused(stream):
    with pytest.raises(ValueError, match="differ in name"):
        Sampler([Counted(), Counted()], stream)


ROW = ["s", "n", {}, 1.0, "count"]


class TestStream:
    def test_what_was_read_is_on_disk_at_once(self, stream):
        SampleStream(stream).append(7, [("s", "n", {"k": "v"}, 1.0, "count")])
        assert read_samples(stream, start_monotonic_ns=5) == [(2, "s", "n", {"k": "v"}, 1.0, "count")]

    def test_a_line_that_a_kill_cut_short_is_left_out_and_no_other(self, tmp_path):
        lines = "".join(json.dumps([t, [ROW]]) + "\n" for t in range(3))
        for length in range(len(lines)):
            (tmp_path / "cut").write_text(lines[:length])
            assert [row[0] for row in read_samples(tmp_path / "cut", 0)] == list(range(lines[:length].count("\n")))

    def test_a_full_disk_loses_nothing_while_the_process_lives(self, stream):
        kept = SampleStream(stream)
        kept.append(1, [ROW])
        disk, kept._file = kept._file, FullDisk(kept._file, takes=4)
        kept.append(2, [ROW])
        assert [row[0] for row in read_samples(stream, 0)] == [1]
        assert [row[0] for row in kept.rows(0)] == [1, 2]
        kept._file = FullDisk(disk, takes=40)  # room for the line that waits, not for both
        kept.append(3, [ROW])
        assert [row[0] for row in kept.rows(0)] == [1, 2, 3]
        kept._file = disk  # somebody made room
        kept.append(4, [ROW])
        assert [row[0] for row in read_samples(stream, 0)] == [1, 2, 3, 4]
        assert kept.failure == "metrics.jsonl: No space left on device"

    @pytest.mark.parametrize("content", ["no json\n", "[]\n", "[1, [[2]]]\n", '["a", [["s", "n", {}, 1, "s"]]]\n'])
    def test_a_file_that_is_no_stream_is_refused_with_the_line(self, tmp_path, content):
        (tmp_path / "metrics.jsonl").write_text(json.dumps([1, [ROW]]) + "\n" + content)
        with pytest.raises(ArtifactError, match="line 2 is not a reading"):
            read_samples(tmp_path / "metrics.jsonl", 0)

    def test_a_missing_file_is_said(self, tmp_path):
        with pytest.raises(ArtifactError, match="No such file"):
            read_samples(tmp_path / "none", 0)


class FullDisk:
    """A file whose disk takes a few bytes more, then refuses, as an unbuffered file does."""

    def __init__(self, file, takes):
        self._file, self._takes = file, takes

    def write(self, data):
        if not self._takes:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, self._takes = self._file.write(data[: self._takes]), 0
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)
