"""The report of a calibration, simulated against measured, and comparison.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from loadgen.artifact import read_json
from testbed.calibration.profile import ServiceProfile
from testbed.reporting.compare import Comparison, compare_pair
from testbed.reporting.figures import calibration as figures
from testbed.reporting.figures.gpu import gpu_figure
from testbed.reporting.gpu import GpuView, gpu_view
from testbed.reporting.labels import DEFINITIONS, claim, device_text, repeat_band_pct, run_labels
from testbed.reporting.loading import Folder, Pair, open_folder
from testbed.reporting.machine import MachineTable, machine_table
from testbed.reporting.report import Content, Report
from testbed.reporting.series import PairSeries, pair_series
from testbed.reporting.summary import ComparisonRow, GroupSummary, group_key, summarise
from testbed.run_dir import RunManifest, run_dirs

PICTURED = 4  # runs of a group that report.md shows as pictures: those with the largest errors
_Stem = str


@dataclass(frozen=True)
class RunView:
    """One pair: its row, its curves, and where it came from."""

    stem: _Stem  # names its figures and its anchor
    label: str  # short, unique in its group
    row: ComparisonRow
    series: PairSeries
    real: RunManifest
    sim: RunManifest
    folders: dict[str, str]  # what -> run folder, relative to the results folder
    statuses: dict[str, tuple[int, int]]  # status -> real, simulated; only those that occur


@dataclass(frozen=True)
class GroupView:
    """One model on one device."""

    stem: _Stem
    summary: GroupSummary
    claim: str
    runs: tuple[RunView, ...]

    @property
    def rows(self) -> list[ComparisonRow]:
        """Its rows of comparison.json."""
        return [run.row for run in self.runs]

    @property
    def repeated(self) -> bool:
        """Whether the figure has a band: a run was repeated."""
        return any(repeat_band_pct(row) is not None for row in self.rows)

    @property
    def networks(self) -> list[str]:
        """How the networks of its real runs ran, each once; empty: not known, or nothing ran."""
        return sorted({run.real.network for run in self.runs if run.real.network is not None})

    def largest_errors(self, count: int) -> list[RunView]:
        """Its `count` runs with the largest |P95 error|, in the group's order."""
        by_error = sorted(self.runs, key=lambda run: abs(run.row.p95_error_pct or 0), reverse=True)
        return [run for run in self.runs if run in by_error[:count]]


@dataclass(frozen=True)
class ProfileView:
    """One profile that stands beside the runs."""

    stem: _Stem
    file: str
    profile: ServiceProfile


@dataclass(frozen=True)
class ReportContext:
    """Everything that a report says."""

    title: str
    comparison: Comparison
    groups: tuple[GroupView, ...]
    profiles: tuple[ProfileView, ...]
    first_run: datetime | None  # start of the earliest compared run; None: no run says when it started
    versions: dict[str, tuple[str, ...]]
    notes: dict[str, tuple[str, ...]]  # note -> the runs that have it
    machine: MachineTable | None  # of the compared runs and their repeats
    gpu: GpuView | None  # of all real runs; None: none was on a GPU
    definitions: tuple[tuple[str, str], ...] = DEFINITIONS

    @property
    def not_valid(self) -> list[ComparisonRow]:
        """Runs that must be seen before anything else."""
        return [row for row in self.comparison.runs if not row.valid]


def gather(folder: Path) -> Content:
    """Of its run folders and profiles."""
    c = context_of(folder)
    drawn = {"overview": partial(figures.overview, c.comparison.runs)}
    runs = {}
    for group in c.groups:
        where = f"{group.summary.model}, {device_text(group.summary.device, group.summary.emulated)}"
        drawn[group.stem] = partial(figures.by_run, group.rows, where)
        for run in group.runs:
            which = f"{where}: {run.label}{'' if run.row.valid else ' (NOT VALID)'}"
            runs[run.stem] = partial(figures.pair, run.series, which)
    for view in c.profiles:
        device = view.profile.device
        where = f"{view.profile.model}, {device_text(device.name, device.kind == 'emulated')}"
        drawn[view.stem] = partial(figures.profile, view.profile, where)
    drawn |= {curve.stem: partial(gpu_figure, curve) for curve in (c.gpu.curves if c.gpu else ())}
    pictured = {run.stem: runs[run.stem] for group in c.groups for run in group.largest_errors(PICTURED)}
    pictures = {f"figures/{name}.png": draw for name, draw in (drawn | pictured).items()}
    return Content({"c": c, "pictured": PICTURED}, drawn | runs, pictures, {"comparison.json": c.comparison.text})


def context_of(folder: Path) -> ReportContext:
    """Compare the folder's pairs and keep what is drawn of them; one pair is in memory at a time."""
    opened = open_folder(folder)
    opened_pairs: list[tuple[Any, ...]] = []
    looked: dict[str, RunManifest] = {}  # real runs, of which a repeat may have a simulated counterpart of its own
    for pair in opened.load():
        opened_pairs.append(_opened_pair(opened, pair))
        looked |= {run.manifest.run_id: run.manifest for run in (pair.real, *pair.repeats)}
    rows = tuple(row for row, *_ in opened_pairs)
    comparison = Comparison(runs=rows, summary=summarise(rows, opened.unpaired))
    manifests = [manifest for _, _, real, sim, *_ in opened_pairs for manifest in (real, sim)]
    starts = [manifest.start_unix_ns for manifest in manifests if manifest.start_unix_ns is not None]
    return ReportContext(
        title=folder.resolve().name,
        comparison=comparison,
        groups=tuple(_groups(comparison, opened_pairs, opened.profiles.values())),
        profiles=tuple(
            ProfileView(f"profile-{n}", file.name, profile)
            for n, (file, profile) in enumerate(opened.profiles.items(), start=1)
        ),
        first_run=datetime.fromtimestamp(min(starts) / 1e9, UTC) if starts else None,
        versions=_versions(manifests),
        notes=_notes(manifests),
        machine=machine_table(looked.values()),
        gpu=gpu_view(run_dirs(folder), opened.profiles.values()),
    )


def _opened_pair(opened: Folder, pair: Pair) -> tuple[Any, ...]:
    """A pair without its logs: row, series, manifests, folders, statuses."""
    folders = {"real": pair.real.path, "simulated": pair.sim.path}
    folders |= {f"repeat {run.manifest.repeat}": run.path for run in pair.repeats}
    relative = {what: path.relative_to(opened.path).as_posix() for what, path in folders.items()}
    real, sim = pair.real.requests.counts(), pair.sim.requests.counts()
    statuses = {status: (real[status], sim[status]) for status in real if real[status] or sim[status]}
    return compare_pair(pair), pair_series(pair), pair.real.manifest, pair.sim.manifest, relative, statuses


def _groups(
    comparison: Comparison, opened_pairs: Sequence[tuple[Any, ...]], profiles: Iterable[ServiceProfile]
) -> Iterable[GroupView]:
    misfits = [(profile.model, profile.device.name, profile.misfit) for profile in profiles if profile.misfit]
    numbered = list(enumerate(opened_pairs, start=1))
    keys = list(dict.fromkeys(group_key(row) for row in comparison.runs))
    for n, (key, summary) in enumerate(zip(keys, comparison.summary.groups, strict=True), start=1):
        members = [(number, parts) for number, parts in numbered if group_key(parts[0]) == key]
        labels = run_labels([parts[0] for _, parts in members])
        runs = tuple(
            RunView(f"run-{number:02d}", label, *parts) for label, (number, parts) in zip(labels, members, strict=True)
        )
        doubts = [why for model, device, why in misfits if (model, device) == (summary.model, summary.device)]
        yield GroupView(f"group-{n}", summary, " ".join([claim(summary), *doubts]), runs)


def _notes(manifests: Sequence[RunManifest]) -> dict[str, tuple[str, ...]]:
    """Each note once, with the runs that have it."""
    runs: dict[str, list[str]] = {}
    for manifest in manifests:
        for note in manifest.notes:
            runs.setdefault(note, []).append(manifest.run_id)
    return {note: tuple(run_ids) for note, run_ids in runs.items()}


def _versions(manifests: Sequence[RunManifest]) -> dict[str, tuple[str, ...]]:
    """Every version that the runs name; more than one where they differ."""
    versions: dict[str, set[str]] = {}
    for manifest in manifests:
        for name, version in manifest.versions.items():
            versions.setdefault(name, set()).add(version)
    return {name: tuple(sorted(versions[name])) for name in sorted(versions)}


def found(folder: Path) -> str:
    """What each group shows, by comparison.json."""
    kept = read_json(folder / "comparison.json", f"kis report {folder}")
    return " ".join(claim(group) for group in Comparison.model_validate(kept).summary.groups)


REPORT = Report(
    "calibration",
    "runs/*/run.json",
    "kis calibrate",
    gather,
    question="How near is the simulator to the real server, on traffic that it was not fitted on?",
    found=found,
)
