"""Real against simulated, in numbers: comparison.json, recomputable from the parquet files beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import stats

from testbed.errors import ReportError
from testbed.reporting.loading import (
    LoadedRun,
    Pair,
    batch_counts,
    load_run,
    mean_batch,
    open_folder,
    refuse_unequal,
    utilisation,
)
from testbed.reporting.summary import ComparisonRow, Summary, summarise
from testbed.run_dir import RunManifest
from testbed.statistics import relative_error_pct, spread_pct
from workloads.catalog import CATALOG

FloatArray = npt.NDArray[np.float64]


class Comparison(BaseModel):
    """comparison.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: tuple[ComparisonRow, ...]
    summary: Summary

    @property
    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(indent=2) + "\n"


def quantile_ms(latency_s: FloatArray, probability: float) -> float | None:
    """Quantile of the answered requests (NaN: not answered) in milliseconds; None if none was answered.

    numpy's default: linear between the two order statistics nearest to probability * (n - 1).
    """
    answered = latency_s[np.isfinite(latency_s)]
    return float(np.quantile(answered, probability)) * 1e3 if len(answered) else None


def ks_distance(a: FloatArray, b: FloatArray) -> float | None:
    """Two-sample Kolmogorov-Smirnov distance, the largest gap between two empirical CDFs; None if one is empty."""
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not len(a) or not len(b):
        return None
    return float(stats.ks_2samp(a, b, method="asymp").statistic)  # only the distance is used, not its p-value


def compare(real: LoadedRun, sim: LoadedRun, repeats: Sequence[LoadedRun] = ()) -> ComparisonRow:
    """One row of comparison.json. `repeats`: the other real runs of the same schedule (without `real`).

    ReportError if the runs did not answer the same arrivals of the same service.
    """
    for other in (sim, *repeats):
        refuse_unequal(real, other)
    manifest = real.manifest
    latency_real, latency_sim = real.requests.latency_s, sim.requests.latency_s
    p50, p95, p99 = (_real_and_sim(latency_real, latency_sim, probability) for probability in (0.50, 0.95, 0.99))
    valid, reasons = _judgement(real)
    busy_real, source = utilisation(real)
    counted = [run for run in (real, *repeats) if _judgement(run)[0]]
    p95_repeats = [value for run in counted if (value := quantile_ms(run.requests.latency_s, 0.95)) is not None]
    return ComparisonRow(
        run_id=manifest.run_id,
        model=manifest.model,
        device=manifest.device.name,
        pattern=manifest.pattern,
        configuration=manifest.service.label,
        seed=manifest.seed,
        held_out=manifest.held_out,
        valid=valid,
        requests=len(real.requests),
        utilisation=_rounded(busy_real),
        p50_real_ms=_rounded(p50[0]),
        p50_sim_ms=_rounded(p50[1]),
        p95_real_ms=_rounded(p95[0]),
        p95_sim_ms=_rounded(p95[1]),
        p95_error_pct=_rounded(relative_error_pct(p95[1], p95[0])),
        p99_error_pct=_rounded(relative_error_pct(p99[1], p99[0])),
        ks=_rounded(ks_distance(latency_real, latency_sim)),
        repeat_spread_pct=_rounded(spread_pct(p95_repeats)),
        p50_error_pct=_rounded(relative_error_pct(p50[1], p50[0])),
        p99_real_ms=_rounded(p99[0]),
        p99_sim_ms=_rounded(p99[1]),
        p95_error_vs_mean_pct=_rounded(
            relative_error_pct(p95[1], float(np.mean(p95_repeats)) if p95_repeats else None)
        ),
        p95_repeats_ms=tuple(round(value, 4) for value in p95_repeats),
        repeats=tuple(run.manifest.run_id for run in counted),
        repeats_left_out=tuple(run.manifest.run_id for run in repeats if run not in counted),
        offered_rps=round(real.schedule.rate_rps, 4),
        throughput_real_rps=_throughput_rps(real),
        throughput_sim_rps=_throughput_rps(sim),
        mean_batch_real=_rounded(mean_batch(batch_counts(real))),
        mean_batch_sim=_rounded(mean_batch(batch_counts(sim))),
        utilisation_source=source,
        utilisation_sim=_rounded(utilisation(sim)[0]),
        ok_real=int(real.requests.ok.sum()),
        ok_sim=int(sim.requests.ok.sum()),
        emulated=manifest.device.kind == "emulated",
        device_kind=manifest.device.kind,
        weights=manifest.weights,
        sim_run_id=sim.manifest.run_id,
        target_p99_ms=_target_p99_ms(manifest),
        reasons=reasons,
    )


def _target_p99_ms(manifest: RunManifest) -> float | None:
    spec = CATALOG.get(manifest.model)
    if spec is None or manifest.device.kind in ("unknown", "emulated"):  # an emulated model is as fast as it is told
        return None
    return round(1e3 * (spec.targets.cpu_s if manifest.device.kind == "cpu" else spec.targets.accelerator_s), 4)


def compare_pair(pair: Pair) -> ComparisonRow:
    """`compare` of a pair."""
    return compare(pair.real, pair.sim, pair.repeats)


def compare_folder(folder: Path, on_progress: Callable[[float], None] = lambda _: None) -> Comparison:
    """Compare every real run under `folder`/runs that has a simulated counterpart. ReportError if there is none."""
    opened = open_folder(folder)
    rows = []
    for pair in opened.load():
        rows.append(compare_pair(pair))
        on_progress(len(rows) / len(opened.pairs))
    return Comparison(runs=tuple(rows), summary=summarise(rows, opened.unpaired))


def compare_runs(real: Path, simulated: Path) -> Comparison:
    """Compare two run folders, wherever they lie. ReportError if the one does not simulate the other."""
    first, second = load_run(real), load_run(simulated)
    kinds = first.manifest.kind, second.manifest.kind
    if kinds != ("real", "simulated"):
        raise ReportError(f"{real} is {kinds[0]}, {simulated} is {kinds[1]}: give the real run, then its simulation")
    rows = (compare(first, second),)
    return Comparison(runs=rows, summary=summarise(rows, ()))


def recompute(folder: Path) -> Comparison:
    """Compute comparison.json anew; ReportError names the first value that the parquet files do not give."""
    file = folder / "comparison.json"
    try:
        written = Comparison.model_validate_json(file.read_text())
    except OSError as error:
        raise ReportError(f"{file}: {error.strerror}: write it with `kis report {folder.name}`") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ReportError(f"{file}: {where}: {error.errors()[0]['msg']}: write it anew with `kis report`") from None
    fresh = compare_folder(folder)
    if [row.run_id for row in written.runs] != [row.run_id for row in fresh.runs]:
        raise ReportError(f"{file} lists other runs than {folder.name}/runs holds: write it anew with `kis report`")
    for old, new in zip(written.runs, fresh.runs, strict=True):
        for key, value in new.model_dump().items():
            if getattr(old, key) != value:
                raise ReportError(
                    f"{file}: run {new.run_id}: {key} is {getattr(old, key)}, its parquet files give {value}"
                )
    if written.summary != fresh.summary:
        raise ReportError(f"{file}: the summary is not that of its rows: write it anew with `kis report`")
    return fresh


def _judgement(run: LoadedRun) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a real run may be relied on, and why not; None: nobody judged it."""
    verdict = run.manifest.verdict
    reasons = ("the run was interrupted",) if run.manifest.state == "interrupted" else ()
    if verdict is None:
        return (False, reasons) if reasons else (None, ("the run has no verdict",))
    return verdict.valid and not reasons, (*reasons, *verdict.reasons)


def _real_and_sim(real_s: FloatArray, sim_s: FloatArray, probability: float) -> tuple[float | None, float | None]:
    return quantile_ms(real_s, probability), quantile_ms(sim_s, probability)


def _throughput_rps(run: LoadedRun) -> float:
    """Requests answered within the run's duration, per second; what drains afterwards does not count."""
    answered = run.requests.ok & (run.requests.seconds("completed_ns") <= run.manifest.duration_s)
    return round(float(answered.sum()) / run.manifest.duration_s, 4)


def _rounded(value: float | None) -> float | None:
    """Four decimals: a tenth of a microsecond in ms; keeps the file readable and equal across machines."""
    return None if value is None else round(value, 4)
