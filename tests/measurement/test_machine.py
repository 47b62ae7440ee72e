"""A look at the machine: its arithmetic under a clock of our own, its reading of the system, and one real look."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.measurement.cgroup import read_cpu_quota
from testbed.measurement.machine import CpuTimes, look, quantiles_ms, shares, wake_up_lateness_s

MS = 1_000_000


class StalledClock:
    """Time passes in waits alone; the wait during which `stall_at_ns` comes returns `stall_ns` after it."""

    def __init__(self, stall_at_ns: int, stall_ns: int) -> None:
        self.now_ns = 0
        self._stall = (stall_at_ns, stall_ns)

    def __call__(self) -> int:
        return self.now_ns

    def wait_until(self, instant_ns: int) -> None:
        at_ns, length_ns = self._stall
        self.now_ns = max(self.now_ns, instant_ns)
        if at_ns <= instant_ns < at_ns + length_ns:
            self.now_ns = max(self.now_ns, at_ns + length_ns)


def test_every_wake_up_that_is_due_in_a_stall_is_late() -> None:
    clock = StalledClock(stall_at_ns=10 * MS, stall_ns=5 * MS)
    late_s = wake_up_lateness_s(0.04, clock, clock.wait_until, period_s=0.002)
    assert len(late_s) == 20
    late_ms = [round(1e3 * value, 6) for value in late_s if value > 0]
    assert late_ms == [5.0, 3.0, 1.0]  # due at 10, 12 and 14 ms, as requests would be


def test_quantiles_are_in_milliseconds_and_missing_where_nothing_was_measured() -> None:
    clock = StalledClock(stall_at_ns=10 * MS, stall_ns=5 * MS)
    p50_ms, p99_ms, worst_ms = quantiles_ms(wake_up_lateness_s(0.04, clock, clock.wait_until, period_s=0.002))
    assert (p50_ms, worst_ms) == (0.0, 5.0)
    assert p99_ms == pytest.approx(5.0 - 0.19 * 2.0)  # linear between the two largest of 20
    assert quantiles_ms(wake_up_lateness_s(0.04, clock, clock.wait_until)[:0]) == (None, None, None)


def test_other_work_is_what_is_busy_without_ourselves() -> None:
    before, after = CpuTimes(100.0, 50.0, 1.0), CpuTimes(106.0, 53.5, 1.3)
    busy, steal = shares(before, after, own_s=0.5)
    assert busy == pytest.approx(0.5)
    assert steal == pytest.approx(0.05)


def test_a_system_that_does_not_tell_has_no_shares() -> None:
    assert shares(CpuTimes(0.0, 0.0, None), CpuTimes(6.0, 3.0, None), 0.0) == (0.5, None)
    assert shares(CpuTimes(0.0, 0.0, 0.0), CpuTimes(0.0, 0.0, 0.0), 0.1) == (None, None)


def tree(root: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """A membership file, and a mount with those files; `__` in a name is a slash."""
    (root / "membership").write_text(membership)
    mount = root / "mount"
    for name, text in files.items():
        file = mount / name.replace("__", "/").replace("_max", ".max").replace("_stat", ".stat")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "membership", mount


def test_the_tightest_quota_of_the_cgroups_above_counts(tmp_path: Path) -> None:
    files = {"a__cpu_max": "150000 100000\n", "a__b__cpu_max": "200000 100000\n", "a__b__c__cpu_max": "max 100000\n"}
    quota = read_cpu_quota(*tree(tmp_path, "0::/a/b/c\n", a__cpu_stat="nr_throttled 7\n", **files))
    assert quota == (1.5, 7)


def test_version_1_has_its_quota_in_two_files_and_none_is_below_zero(tmp_path: Path) -> None:
    membership, mount = tree(tmp_path, "4:memory:/x\n2:cpu,cpuacct:/docker/1234\n0::/\n")
    folder = mount / "cpu,cpuacct"  # of a container: its own folder is the root of what it sees
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("50000\n")
    (folder / "cpu.stat").write_text("nr_periods 10\nnr_throttled 3\nthrottled_time 5\n")
    assert read_cpu_quota(membership, mount) == (0.5, 3)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert read_cpu_quota(membership, mount) == (None, None)


def test_where_there_are_no_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert read_cpu_quota(tmp_path / "none", tmp_path / "nowhere") == (None, None)


def test_a_real_look_finds_what_every_machine_has() -> None:
    machine = look(0.05)
    assert machine.cores >= 1
    assert machine.wakeups == 25
    if machine.wakeup_p99_ms is not None:  # a system without the timer has none
        assert 0 <= machine.wakeup_p50_ms <= machine.wakeup_p99_ms <= machine.wakeup_worst_ms
    assert machine.busy_share is None or 0 <= machine.busy_share <= 1
    assert machine.steal_share is None or 0 <= machine.steal_share <= 1
