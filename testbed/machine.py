"""What a look at the machine found before measuring, and what that means for the runs. Pure; measurement looks.

A run is VALID only if its client kept the schedule. A machine whose timed wake-ups come late cannot keep it, however
often the run is made: that is said before minutes are spent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from loadgen.validity import ValidityLimits

STOLEN_SHARE = 0.01  # of the processors' time: as much as the requests that a P99 of lag leaves out
BUSY_SHARE = 0.10  # of the processors' time, with other work
# Read without a system call; an hpet or acpi_pm costs about a microsecond at each look.
FAST_CLOCKS = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "xen"}


class Machine(BaseModel):
    """A look at the machine that the client ran on, of `duration_s`. None: not known; for a limit: there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    looked_unix_ns: int
    duration_s: float
    wakeups: int  # timed as the load generator's
    wakeup_p50_ms: float | None = None  # how late
    wakeup_p99_ms: float | None = None
    wakeup_worst_ms: float | None = None
    steal_share: float | None = None  # of all processors' time, that the hypervisor gave to others
    busy_share: float | None = None  # of all processors' time, that other processes than the look used
    cores: int  # that this process may use
    quota_cores: float | None = None  # of its cgroup
    throttled_periods: int | None = None  # of the cgroup's quota, during the look
    clock_source: str | None = None
    shm_free_bytes: int | None = None  # of /dev/shm
    open_files: int | None = None  # limit of this process

    @property
    def lateness(self) -> str:
        """`0.02 ms P50, 4.9 ms P99, 18 ms at worst`."""
        wakeups_ms = (self.wakeup_p50_ms, self.wakeup_p99_ms, self.wakeup_worst_ms)
        named = zip(wakeups_ms, ("P50", "P99", "at worst"), strict=True)
        return ", ".join(f"{_ms(value)} ms {name}" for value, name in named if value is not None) or "not measured"

    @property
    def line(self) -> str:
        """Its figures in one line."""
        quota = "" if self.quota_cores is None else f" (quota {self.quota_cores:g})"
        parts = [f"{_counted(self.cores, 'core')}{quota}", f"timed wake-ups late by {self.lateness}"]
        if self.busy_share is not None:
            parts.append(f"other work uses {100 * self.busy_share:.0f} % of the processors")
        if self.steal_share is not None:
            parts.append(f"the hypervisor takes {100 * self.steal_share:.1f} %")
        return "; ".join(parts)

    def keeps(self, lag_limit_ms: float) -> bool | None:
        """False if wake-ups alone are later at P99 than requests may be; None: they were not measured."""
        return None if self.wakeup_p99_ms is None else self.wakeup_p99_ms <= lag_limit_ms


@dataclass(frozen=True)
class Needs:
    """What the runs want of the machine; None: nothing is known of it."""

    cores: int | None = None  # that work at the same time: client, server, and the model's threads
    shm_bytes: int | None = None
    open_files: int | None = None  # of one client process


def troubles(machine: Machine, limits: ValidityLimits | None = None, needs: Needs | None = None) -> tuple[str, ...]:
    """Why runs are not likely to be VALID on this machine, each with its figure and what would help. Empty: no reason
    is known."""
    needs = needs or Needs()
    return (
        *_of_wakeups(machine, limits or ValidityLimits()),
        *_of_processors(machine, needs),
        *_of_quota(machine),
        *_of_the_system(machine, needs),
    )


def _of_wakeups(machine: Machine, limits: ValidityLimits) -> Iterator[str]:
    limit_ms, late_ms = 1e3 * limits.lag_p99_s, machine.wakeup_p99_ms
    if late_ms is None or late_ms <= limit_ms:
        return
    which, allowed = "runs", f"{limit_ms:g} ms late"
    if limits.of_latency:
        which = f"runs whose latency percentile is below {late_ms / limits.of_latency:.0f} ms"
        allowed += f", or {100 * limits.of_latency:g} % of that percentile"
    yield (
        f"{which} are likely INVALID: timed wake-ups are {_ms(late_ms)} ms late at P99, and a request may be {allowed}"
        "; end other work, or use a machine with cores of its own"
    )


def _of_processors(machine: Machine, needs: Needs) -> Iterator[str]:
    if machine.steal_share is not None and machine.steal_share > STOLEN_SHARE:
        yield (
            f"the hypervisor gave {machine.steal_share:.1%} of the processors' time to others, and whoever waits for "
            "it is late; a machine with cores of its own would help"
        )
    if machine.busy_share is not None and machine.busy_share > BUSY_SHARE:
        yield (
            f"other work uses {100 * machine.busy_share:.0f} % of the processors, which client and server then lack; "
            "end it, or use another machine"
        )
    if needs.cores is not None and machine.cores < needs.cores:
        yield (
            f"this process may use {_counted(machine.cores, 'core')}, client, server and model want {needs.cores} at a "
            "time, so they wait for each other; fewer replicas, instances or threads would help"
        )


def _of_quota(machine: Machine) -> Iterator[str]:
    if machine.quota_cores is not None and machine.quota_cores < machine.cores:
        yield (
            f"the cgroup's quota is {machine.quota_cores:g} of {_counted(machine.cores, 'core')}: when it is used up, "
            "everything stops until the next period, for tens of milliseconds; give it whole cores (a cpuset), or a "
            "quota of all of them"
        )
    if machine.throttled_periods:
        yield (
            f"the cgroup's quota stopped everything in {_counted(machine.throttled_periods, 'period')} of the look; a "
            "larger quota would help"
        )


def _of_the_system(machine: Machine, needs: Needs) -> Iterator[str]:
    if machine.clock_source is not None and machine.clock_source not in FAST_CLOCKS:
        yield (
            f"the clock source is {machine.clock_source}: each look at the clock is slow; boot with tsc, or with "
            "kvm-clock in a virtual machine"
        )
    shm, files = machine.shm_free_bytes, machine.open_files
    if needs.shm_bytes is not None and shm is not None and shm < needs.shm_bytes:
        yield (
            f"/dev/shm has {_mib(shm)} free, the servers' python backends need {_mib(needs.shm_bytes)}: they will not "
            "start, or fail under load; make it larger (docker --shm-size)"
        )
    if needs.open_files is not None and files is not None and files < needs.open_files:
        yield (
            f"a process may open {files} files, a client with all its requests in flight opens {needs.open_files}: "
            "requests will fail; raise it (ulimit -n), or lower max_in_flight"
        )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
