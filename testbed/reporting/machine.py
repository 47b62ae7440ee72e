"""The machine that runs were measured on, as a table: one line for each look at it. Empty if nobody looked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from testbed.machine import Machine, troubles
from testbed.reporting.labels import NOT_MEASURED, number
from testbed.run_dir import RunManifest

HEADINGS = (
    "looked at, UTC",
    "real runs",
    "wake-ups late, P50 ms",
    "P99 ms",
    "worst ms",
    "other work, %",
    "stolen, %",
    "cores",
    "quota, cores",
    "clock",
    "/dev/shm free, MiB",
    "open files",
)


@dataclass(frozen=True)
class MachineTable:
    """Cells as text. troubles: why runs there were not likely to be VALID, and what would help."""

    rows: tuple[tuple[str, ...], ...]
    not_looked: int  # real runs before which nobody looked
    troubles: tuple[str, ...]
    headings: tuple[str, ...] = HEADINGS


def machine_table(manifests: Iterable[RunManifest]) -> MachineTable | None:
    """Of the real runs among them, earliest look first; None if no run says anything of its machine."""
    looks: dict[Machine, int] = {}
    not_looked = 0
    for manifest in manifests:
        if manifest.machine is not None:
            looks[manifest.machine] = looks.get(manifest.machine, 0) + 1
        elif manifest.kind == "real":
            not_looked += 1
    if not looks:
        return None
    ordered = sorted(looks, key=lambda manifest: manifest.looked_unix_ns)
    troubles_of_all = dict.fromkeys(trouble for manifest in ordered for trouble in troubles(manifest))
    return MachineTable(
        tuple(_cells(manifest, looks[manifest]) for manifest in ordered), not_looked, tuple(troubles_of_all)
    )


def _cells(machine: Machine, runs: int) -> tuple[str, ...]:
    looked = datetime.fromtimestamp(machine.looked_unix_ns / 1e9, UTC)
    shm = machine.shm_free_bytes
    return (
        f"{looked:%Y-%m-%d %H:%M}, {machine.duration_s:g} s",
        str(runs),
        *(number(value, 2) for value in (machine.wakeup_p50_ms, machine.wakeup_p99_ms, machine.wakeup_worst_ms)),
        *(number(None if share is None else 100 * share) for share in (machine.busy_share, machine.steal_share)),
        str(machine.cores),
        "none" if machine.quota_cores is None else f"{machine.quota_cores:g}",
        machine.clock_source or NOT_MEASURED,
        number(None if shm is None else shm / 2**20, 0),
        "no limit" if machine.open_files is None else str(machine.open_files),
    )
