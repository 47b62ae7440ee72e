"""The same traffic on the same model on two devices, in numbers: ratios of latency and throughput, first by second.

Everything is computed from the run folders alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.artifact import read_json
from loadgen.saturation import Strain, strain_of
from testbed.errors import ReportError
from testbed.measurement.gpu_readings import mean_power_w, mean_reading
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.compare import quantile_ms
from testbed.reporting.loading import LoadedRun, load_run, refuse_unequal, utilisation
from testbed.reporting.ratio import Answers, method_of, ratios
from testbed.run_dir import Device, is_complete

AGAIN = "run `kis devices` again"


@dataclass(frozen=True)
class DeviceRuns:
    """One device: a label for tables, and its runs in the order of their repeats."""

    label: str
    runs: tuple[LoadedRun, ...]

    @property
    def device(self) -> Device:
        """As its runs name it."""
        return self.runs[0].manifest.device


@dataclass(frozen=True)
class Study:
    """One model under one traffic on both devices; the k-th runs of the two sides are a pair."""

    model: str
    sides: tuple[DeviceRuns, DeviceRuns]

    @property
    def runs(self) -> tuple[LoadedRun, ...]:
        """Of both sides, pair by pair."""
        return tuple(run for pair in zip(*(side.runs for side in self.sides), strict=True) for run in pair)


@dataclass(frozen=True)
class Devices:
    """Everything that the folder holds. missing: ids of runs that are not there yet."""

    name: str
    config: dict[str, Any]
    studies: tuple[Study, ...]
    missing: tuple[str, ...]


def side_labels(devices: Sequence[str]) -> tuple[str, str]:
    """Names of the two sides, for run ids and tables: the devices, or cpu-a and cpu-b of a device with itself."""
    first, second = devices
    return (first, second) if first != second else (f"{first}-a", f"{second}-b")


def run_id_of(model: str, label: str, repeat: int) -> str:
    """Name of a run; repeat from 1."""
    return f"{model}-{label}-{repeat}"


def read_devices(folder: Path) -> Devices:
    """ArtifactError or ReportError if something is missing or does not fit. Pairs that are not whole are left out."""
    config = read_json(folder / "devices.json", AGAIN)
    labels = side_labels(config["devices"])
    studies, missing = [], []
    for model in (study["model"] for study in config["studies"]):
        pairs = []
        for repeat in range(1, config["repeats"] + 1):
            paths = [folder / "runs" / run_id_of(model, label, repeat) for label in labels]
            absent = [path.name for path in paths if not is_complete(path)]
            missing += absent
            if not absent:
                pairs.append([load_run(path) for path in paths])
        if pairs:
            first, second = zip(*pairs, strict=True)
            studies.append(_fitting(Study(model, (DeviceRuns(labels[0], first), DeviceRuns(labels[1], second)))))
    if not studies:
        raise ReportError(f"{folder} has no run on both devices yet: {AGAIN}")
    return Devices(folder.resolve().name, config, tuple(studies), tuple(missing))


def _fitting(study: Study) -> Study:
    """The study itself; ReportError if its runs are not of one schedule, service, model and set of weights, or if a
    side's runs are of several devices."""
    first = study.runs[0]
    for run in study.runs[1:]:
        refuse_unequal(first, run)
        if run.manifest.weights != first.manifest.weights:
            raise ReportError(f"{run.path} and {first.path} have other weights: make one of them again")
    for side in study.sides:
        for run in side.runs[1:]:
            if run.manifest.device != side.device:
                raise ReportError(
                    f"{run.path} ran on {run.manifest.device.name}, {side.runs[0].path} on {side.device.name}: a side "
                    "is one device: make its runs again on one machine"
                )
    return study


def summary_of(study: Study) -> dict[str, Any]:
    """What ratios.json and the report say of one study.

    ratios: None if a run is not VALID. saturated: labels of the sides whose queue grew in at least one run.
    """
    first = study.runs[0]
    reasons = [text for run in study.runs for text in _not_valid(run)]
    rows = [_row(side.label, run) for side in study.sides for run in side.runs]
    pairs = len(study.sides[0].runs)
    ratios_of = None
    if not reasons:
        answers = [[_answers(run) for run in side.runs] for side in study.sides]
        compared = ratios(answers[0], answers[1], first.schedule.scheduled_s, first.manifest.duration_s)
        ratios_of = {name: ratio._asdict() for name, ratio in compared.items()}
    return {
        "model": study.model,
        "weights": first.manifest.weights,
        "configuration": first.manifest.service.label,
        "pattern": first.manifest.pattern,
        "pattern_parameters": first.manifest.pattern_parameters,
        "seed": first.manifest.seed,
        "duration_s": first.manifest.duration_s,
        "requests": len(first.schedule),
        "offered_rps": first.schedule.rate_rps,
        "devices": {side.label: side.device.model_dump() for side in study.sides},
        "threads": {side.label: side.runs[0].manifest.threads for side in study.sides},
        "pairs": pairs,
        "interval_of": method_of(pairs),
        "valid": not reasons,
        "reasons": reasons,
        "saturated": [side.label for side in study.sides if any(_strain(run).saturated for run in side.runs)],
        "interleaved": interleaved(study),
        "ratios": ratios_of,
        "runs": rows,
    }


def interleaved(study: Study) -> bool | None:
    """True if the devices took turns, so that a drift of the machine met both; None: start times are not known."""
    started = [(run.manifest.start_unix_ns, number) for number, side in enumerate(study.sides) for run in side.runs]
    known = sorted((start, number) for start, number in started if start is not None)
    if len(known) < len(started):
        return None
    return all(block[1] != following[1] for block, following in pairwise(known))


def _not_valid(run: LoadedRun) -> list[str]:
    verdict, name = run.manifest.verdict, run.manifest.run_id
    if verdict is None:
        return [f"{name}: the run has no verdict"]
    return [] if verdict.valid else [f"{name}: {'; '.join(verdict.reasons)}"]


def _answers(run: LoadedRun) -> Answers:
    log = run.requests
    return Answers(log.latency_s, log.ok & (log.seconds("completed_ns") <= run.manifest.duration_s))


def _strain(run: LoadedRun) -> Strain:
    return strain_of(run.requests, run.manifest.duration_s)


def _row(label: str, run: LoadedRun) -> dict[str, Any]:
    """One run. Utilisation is of the instances; gpu_*: by NVML, of the GPUs that served; None: not measured."""
    latency_s, verdict, strain = run.requests.latency_s, run.manifest.verdict, _strain(run)
    answered = np.isfinite(latency_s)
    return {
        "run_id": run.manifest.run_id,
        "folder": f"runs/{run.path.name}",
        "side": label,
        "valid": None if verdict is None else verdict.valid,
        "p50_ms": quantile_ms(latency_s, 0.50),
        "p95_ms": quantile_ms(latency_s, 0.95),
        "p99_ms": quantile_ms(latency_s, 0.99),
        "mean_ms": float(latency_s[answered].mean()) * 1e3 if answered.any() else None,
        "throughput_rps": float(_answers(run).in_time.sum()) / run.manifest.duration_s,
        "not_answered": int((~run.requests.ok).sum()),
        "utilisation": utilisation(run)[0],
        "growth": strain.growth,
        "behind_share": strain.behind_share,
        "saturated": strain.saturated,
        "gpu_utilisation": _gpu(run, lambda metrics, *rest: mean_reading(metrics, "utilisation", *rest)),
        "gpu_power_w": _gpu(run, mean_power_w),
    }


def _gpu(run: LoadedRun, measured: Callable[[MetricLog, Collection[str], float, float], float | None]) -> float | None:
    if run.metrics is None:
        return None
    return measured(run.metrics, run.manifest.gpu_uuids, 0, run.manifest.duration_s)
