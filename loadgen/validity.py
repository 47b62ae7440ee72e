"""VALID or INVALID: whether a run's client kept its schedule and took enough samples.

The number of samples follows MLPerf LoadGen's early stopping (loadgen/early_stopping.cc and "Early Stopping Criterion"
in MLPerf Inference Rules): with at most one sample above the estimate, the percentile p is known with confidence c if
P[Binomial(n, 1 - p) <= 1] <= 1 - c. At c = .99 that is 64 samples for P90, 130 for P95 and 662 for P99. The earlier,
fixed rule of the same rules (appendix "Number of Queries") wants the percentile within (1 - p) / 20; how many that
would be is reported as `samples_full_margin` and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from loadgen.request_log import RequestLog
    from loadgen.schedule import Schedule


# In Triton's words: what a model's own queue policy refuses. It is the service's answer to a load, not a failure.
REFUSED = "Exceeds maximum queue size|Request timeout expired"
EXIT_INVALID = 3  # a command's exit code: the run was made, and is not to be relied on


class Verdict(BaseModel):
    """The judgement of one real run. `reasons` is empty if and only if it is valid; `figures` holds what was judged."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    valid: bool
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = {}


class ValidityLimits(BaseModel):
    """What a valid run must keep to. Times may be exceeded if they are small beside the latency that is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lag_p99_s: float = Field(0.002, gt=0, description="limit on the P99 of the lag")
    late_s: float = Field(0.010, gt=0, description="lag above which a request is late")
    of_latency: float = Field(
        0.02, ge=0, description="the two limits above are at least this share of the latency percentile"
    )
    late_share: float = Field(0.005, ge=0, description="largest share of late requests")
    delivered_share: float = Field(0.999, gt=0, description="smallest share of scheduled requests that are sent")
    failed_share: float = Field(
        0.01,
        ge=0,
        description="largest share of sent requests that end as error or timeout; what the model's own queue policy "
        "refuses does not count",
    )
    client_cpu_share: float = Field(0.9, gt=0, description="largest share of a core for each client process")
    confidence: float = Field(0.99, gt=0, lt=1, description="confidence of the percentile")


class ClientFigures(BaseModel):
    """raw/client-<worker>.json: what one client process says of itself. Written at its start, and again at its end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    worker: int
    workers: int
    pid: int
    start_unix_ns: int = Field(ge=0, lt=2**63)  # of row time 0
    start_monotonic_ns: int = Field(ge=0, lt=2**63)  # CLOCK_MONOTONIC of the client's machine at row time 0
    finished: bool = False  # False at the end: the client was killed
    cpu_s: float = 0.0  # user and system time between the start and the end of the run
    wall_s: float = 0.0
    stopped: str | None = None  # why it stopped issuing before the schedule's end
    # It ran before all ordinary processes of its machine; None: written before there was such a thing.
    realtime: bool | None = None
    counts: dict[str, int] = {}  # requests by status

    def rows_exist(self, raw: Path) -> bool:
        """Whether the client left a file of rows."""
        return (raw / f"rows-{self.worker}.arrows").exists()


def samples_needed(percentile: float, confidence: float = 0.99) -> int:
    """Fewest samples for a percentile (50 < percentile < 100) by LoadGen's early stopping; see the module."""
    p = percentile / 100
    n = 2
    while p**n + n * (1 - p) * p ** (n - 1) > 1 - confidence:
        n += 1
    return n


def samples_full_margin(percentile: float, confidence: float = 0.99) -> int:
    """Samples that pin a percentile to within (1 - p) / 20: MLPerf's fixed rule, 262,742 for P99."""
    p = percentile / 100
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return int(np.ceil(z**2 * p * (1 - p) / ((1 - p) / 20) ** 2))


def judge(
    schedule: Schedule,
    log: RequestLog,
    clients: Sequence[ClientFigures],
    percentile: float | None = 95,
    limits: ValidityLimits | None = None,
) -> Verdict:
    """Judge one real run, of which `percentile` of the latency is wanted. Figures in ms where they are named so.

    percentile None: none is wanted (a calibration run), so any number of samples will do; lag is held against P95.
    """
    limits = limits or ValidityLimits()
    figures = _figures(schedule, log, clients, percentile or 95, limits)
    if percentile is not None:
        figures["samples_needed"] = samples_needed(percentile, limits.confidence)
        figures["samples_full_margin"] = samples_full_margin(percentile, limits.confidence)
    error = commonest_error(log, 1 - limits.failed_share)
    reasons = [
        *(f"client {c.worker} stopped issuing early: {c.stopped}" for c in clients if c.stopped),
        *(f"client {c.worker} was killed before its end" for c in clients if not c.finished),
        *_reasons(figures, limits),
        *([f"most often: {error}"] if error is not None else []),
    ]
    return Verdict(valid=not reasons, reasons=tuple(reasons), figures=figures)


def commonest_error(log: RequestLog, answered_share: float) -> str | None:
    """The commonest error, in the server's words; None: at least that share of what came back was answered."""
    failed = log.frame[(log.frame["status"] == "error") & ~refused(log)]
    ended = len(failed) + int(log.ok.sum())
    if not ended or len(failed) <= (1 - answered_share) * ended:
        return None
    words = failed["detail"].dropna().astype(str).mode()
    return None if words.empty else f"'{' '.join(words.iloc[0].split())}'"


def refused(log: RequestLog) -> npt.NDArray[np.bool_]:
    """bool[requests]: refused by the queue policy of the model's own configuration: its queue was full, or too slow."""
    if not (log.frame["status"] == "error").any():
        return np.zeros(len(log), dtype=bool)
    return log.frame["detail"].astype("string").str.contains(REFUSED).fillna(False).to_numpy(dtype=bool)


def _figures(
    schedule: Schedule, log: RequestLog, clients: Sequence[ClientFigures], percentile: float, limits: ValidityLimits
) -> dict[str, float]:
    counts = log.counts()
    sent = ~np.isnan(log.seconds("sent_ns"))
    lag_s = log.lag_s[sent]
    latency_s = log.latency_s[log.ok]
    figures: dict[str, float] = {"scheduled": len(schedule), "sent": int(sent.sum())}
    figures.update({str(status): count for status, count in counts.items()})
    figures["delivered_share"] = figures["sent"] / max(len(schedule), 1)
    if of_policy := int(refused(log).sum()):
        figures["refused"] = of_policy
    figures["failed_share"] = (counts["error"] - of_policy + counts["timeout"]) / max(figures["sent"], 1)
    figures["percentile"] = percentile
    slack_s = 0.0
    if len(latency_s):
        figures["latency_ms"] = 1e3 * float(np.percentile(latency_s, percentile))
        slack_s = limits.of_latency * figures["latency_ms"] / 1e3
    figures["lag_limit_ms"] = 1e3 * max(limits.lag_p99_s, slack_s)
    figures["late_limit_ms"] = 1e3 * max(limits.late_s, slack_s)
    if len(lag_s):
        figures["lag_p50_ms"], figures["lag_p99_ms"] = (1e3 * float(q) for q in np.percentile(lag_s, [50, 99]))
        figures["late_share"] = float((lag_s * 1e3 > figures["late_limit_ms"]).mean())
    shares = [client.cpu_s / client.wall_s for client in clients if client.wall_s > 0]
    if shares:
        figures["client_cpu_share"] = max(shares)
    return figures


def only_late(verdict: Verdict) -> bool:
    """True if a run is INVALID because its requests were sent late, and for nothing else."""
    if verdict.valid or not verdict.reasons:
        return False
    return set(verdict.reasons) <= set(_lateness(verdict.figures, ValidityLimits()))


def _lateness(f: dict[str, float], limits: ValidityLimits) -> list[str]:
    """The limits of lateness that were not kept."""
    reasons = []
    if f.get("lag_p99_ms", 0) > f.get("lag_limit_ms", math.inf):
        reasons.append(f"requests were sent late: lag P99 {f['lag_p99_ms']:.2f} ms, limit {f['lag_limit_ms']:.2f} ms")
    if f.get("late_share", 0) > limits.late_share:
        reasons.append(
            f"{f['late_share']:.2%} of requests were sent more than {f['late_limit_ms']:.0f} ms late, "
            f"limit {limits.late_share:.2%}"
        )
    return reasons


def _reasons(f: dict[str, float], limits: ValidityLimits) -> list[str]:
    """One sentence with its figures for each limit that was not kept. A figure that is missing breaks no limit."""
    reasons = _lateness(f, limits)
    if f["delivered_share"] < limits.delivered_share:
        reasons.append(
            f"{f['sent']:.0f} of {f['scheduled']:.0f} scheduled requests were sent ({f['delivered_share']:.2%}, limit "
            f"{limits.delivered_share:.2%}): {f['dropped']:.0f} dropped in flight, {f['unsent']:.0f} unsent"
        )
    if f["failed_share"] > limits.failed_share:
        reasons.append(
            f"{f['failed_share']:.2%} of sent requests failed ({f['error'] - f.get('refused', 0):.0f} errors, "
            f"{f['timeout']:.0f} timeouts), limit {limits.failed_share:.2%}"
        )
    if f.get("client_cpu_share", 0) > limits.client_cpu_share:
        reasons.append(
            f"a client process used {f['client_cpu_share']:.0%} of a core, limit {limits.client_cpu_share:.0%}: "
            "use more processes"
        )
    if f["ok"] < f.get("samples_needed", 0):
        reasons.append(
            f"{f['ok']:.0f} answered requests are too few for P{f['percentile']:g}: at least {f['samples_needed']:.0f} "
            f"at {limits.confidence:.0%} confidence (MLPerf early stopping)"
        )
    return reasons
