"""What `kis watch` shows, as values: of a folder that is being written, and of a controller. Pure.

A figure that is not known is None, and is left out of the frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.progress import Progress
from testbed.run_dir import RunManifest
from workloads.catalog import CATALOG

WINDOW_S = 10.0  # the latest rate and P95 are of that long
SILENT_S = 10.0  # a client that writes four times a second and has written nothing for so long
BEGINS_S = 120.0  # a client that has written nothing yet may still begin
FloatArray = npt.NDArray[np.float64]


class Replicas(NamedTuple):
    """Of one service. starting: asked for and not ready yet."""

    wanted: int
    ready: int
    starting: int


class Decision(NamedTuple):
    """Of an autoscaler. age_s: since then. because: its own words; empty: they are not known."""

    age_s: float
    text: str
    because: str = ""


class Pace(NamedTuple):
    """What a client has seen. Rates are of the last window_s (None: of the whole run); p95_s of what was answered in
    it, p95_so_far_s of all."""

    answered: int
    failed: int  # errors, timeouts and requests that were dropped
    offered_rps: float | None
    answered_rps: float | None
    p95_s: float | None
    p95_so_far_s: float | None
    window_s: float | None
    unsent: int = 0  # the run ended before their time came


class RunView(NamedTuple):
    """One run. left_s: until its traffic ends. silent_s: since its client has written anything."""

    run_id: str
    what: str  # model and device
    state: str
    elapsed_s: float | None
    duration_s: float | None
    requests: int | None  # of its schedule
    pace: Pace | None
    target_s: float | None
    waiting: float | None  # requests in the server's queues
    replicas: Replicas | None
    decision: Decision | None
    change: Decision | None  # the last one of the number of replicas, as it was sampled
    verdict: str | None  # VALID, or INVALID with its reasons
    silent_s: float | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until its traffic ends."""
        if self.state != "running" or self.elapsed_s is None or self.duration_s is None:
            return None
        return max(0.0, self.duration_s - self.elapsed_s)


class Tally(NamedTuple):
    """Runs of a results folder that are complete. planned: real ones, if the configuration tells."""

    valid: int
    invalid: int
    simulated: int
    aside: int  # attempts in invalid/
    to_come: int  # real ones that the configuration asks for
    reasons: tuple[str, ...] = ()  # of the INVALID ones


class ControllerView(NamedTuple):
    """What a controller's page tells, or the API of a deployment. None: not told."""

    deployment: str
    policy: str | None = None
    acting: bool | None = None
    wanted: int | None = None
    replicas: Replicas | None = None
    pending: int | None = None
    silent: int | None = None
    decisions: int | None = None
    patches: int | None = None
    holds: int | None = None
    decision: Decision | None = None
    change: Decision | None = None  # the last one of the scale, in Kubernetes' words


@dataclass(frozen=True)
class Frame:
    """All that one refresh shows. running: there is something to come. problems: in plain words."""

    title: str
    running: bool
    phase: str | None = None
    share: float | None = None
    spent_s: float | None = None
    left_s: float | None = None  # of the phase or the run
    all_left_s: float | None = None  # of the whole campaign
    run: RunView | None = None
    tally: Tally | None = None
    controller: ControllerView | None = None
    report: str | None = None  # path, once it is there
    problems: tuple[str, ...] = ()


def pace_of(
    scheduled_s: FloatArray,
    request_id: npt.NDArray[np.int64],
    completed_s: FloatArray,
    ok: npt.NDArray[np.bool_],
    now_s: float,
) -> Pace:
    """Of all rows so far, complete up to now_s on the run clock. scheduled_s: of every request of the schedule;
    request_id, completed_s, ok: of each row, completed_s NaN without an answer."""
    latency_s = (completed_s - scheduled_s[request_id])[ok]
    ended_s = completed_s[ok]
    window_s = min(WINDOW_S, now_s)
    since_s = now_s - window_s
    recent = latency_s[(ended_s > since_s) & (ended_s <= now_s)]
    due = np.searchsorted(scheduled_s, [since_s, now_s], side="right")
    return Pace(
        answered=int(ok.sum()),
        failed=int((~ok).sum()),
        offered_rps=float(due[1] - due[0]) / window_s if window_s > 0 else None,
        answered_rps=len(recent) / window_s if window_s > 0 else None,
        p95_s=_p95(recent),
        p95_so_far_s=_p95(latency_s),
        window_s=window_s,
    )


def _p95(latency_s: FloatArray) -> float | None:
    return float(np.percentile(latency_s, 95)) if len(latency_s) else None


def target_of(manifest: RunManifest) -> float | None:
    """The catalog's latency target of the run's model on its device; None: it has none. An emulated model is as fast as
    it is told to be."""
    spec = CATALOG.get(manifest.model)
    if spec is None or spec.emulated or manifest.device.kind == "unknown":
        return None
    return spec.targets.cpu_s if manifest.device.kind == "cpu" else spec.targets.accelerator_s


def last_change(counts: Sequence[tuple[float, int]], now_s: float) -> Decision | None:
    """The last change of a number of replicas that was sampled; None: it did not change."""
    for (_, before), (time_s, after) in zip(reversed(counts[:-1]), reversed(counts[1:]), strict=True):
        if before != after:
            return Decision(now_s - time_s, f"{before} -> {after}")
    return None


def decision_of(turn: Mapping[str, Any], now_unix_s: float) -> Decision:
    """Of a line of a controller's log (testbed.controller.exporter)."""
    spec, wanted, patched = turn.get("spec_replicas"), turn.get("wanted"), turn.get("replicas")
    arrow = "->" if turn.get("acted") else "would be ->"
    text = f"stays at {spec}" if patched is None else f"{spec} {arrow} {patched}"
    if spec is None:
        text = "none"
    elif wanted is not None and wanted != (spec if patched is None else patched):
        text += f", the policy wants {wanted}"
    refusal = turn.get("refusal", "")
    because = "; ".join(filter(None, (turn.get("reason", ""), f"held back: {refusal}" if refusal else "")))
    time_s = float(turn["time_s"])
    if not math.isfinite(time_s):
        raise ValueError(f"time_s is {time_s}")
    return Decision(now_unix_s - time_s, text, because)


def last_told(events: Iterable[tuple[float, str, str]], now_unix_s: float) -> Decision | None:
    """Of events on a deployment (seconds since 1970, reason, message): what a controller of ours said last."""
    for time_s, reason, message in sorted(event for event in events if event[1] in ("Scaled", "Held"))[-1:]:
        text, _, because = message.partition(": ") if reason == "Scaled" else ("held back", "", message)
        return Decision(now_unix_s - time_s, text, because)
    return None


def last_scaling(events: Iterable[tuple[float, str, str]], now_unix_s: float) -> Decision | None:
    """Of the same events: what Kubernetes said last of the scale, whoever changed it."""
    for time_s, _, message in sorted(event for event in events if event[1] == "ScalingReplicaSet")[-1:]:
        return Decision(now_unix_s - time_s, message.removeprefix("(combined from similar events): "))
    return None


def problems_of(not_ready: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each reason why pods are not ready. not_ready: pod -> reason."""
    pods: dict[str, list[str]] = {}
    for pod, why in sorted(not_ready.items()):
        pods.setdefault(why, []).append(pod)
    return tuple(
        f"{names[0]} is not ready: {why}" if len(names) == 1 else f"{len(names)} pods are not ready: {why}"
        for why, names in pods.items()
    )


def tally_of(manifests: Iterable[RunManifest], aside: int, planned: Iterable[str]) -> Tally:
    """Of the runs of a results folder. planned: real ones that are to be complete in the end."""
    complete = [manifest for manifest in manifests if manifest.state == "complete"]
    verdicts = {manifest.run_id: manifest.verdict for manifest in complete if manifest.kind == "real"}
    invalid = {name: verdict for name, verdict in verdicts.items() if verdict is not None and not verdict.valid}
    return Tally(
        valid=sum(verdict is not None and verdict.valid for verdict in verdicts.values()),
        invalid=len(invalid),
        simulated=sum(manifest.kind == "simulated" for manifest in complete),
        aside=aside,
        to_come=sum(name not in verdicts for name in planned),
        reasons=tuple(f"{name}: {'; '.join(verdict.reasons)}" for name, verdict in invalid.items()),
    )


def frame_of_folder(
    title: str,
    now_s: float,
    progress: Progress | None,
    *,
    alive: bool,
    manifests: Sequence[RunManifest],
    aside: int,
    planned: Mapping[str, float],
    view: RunView | None,
    changed_s: float | None,
    report: str | None = None,
) -> Frame:
    """Of a results folder, or of one run's.

    alive: the process that writes progress.json is there. aside: runs in invalid/. planned: real runs, and how long
    each takes at least. view: the run that is shown; changed_s: since its folder was made.
    """
    told = progress if alive else None
    problems = []
    if progress is not None and not alive:
        problems.append(f"process {progress.pid}, which wrote here, is gone: it was killed")
    running = view is not None and view.state == "running"
    silent_s = None
    if view is not None and running:
        silent_s = changed_s if view.silent_s is None else view.silent_s
        if view.silent_s is not None and view.silent_s > SILENT_S:
            problems.append(f"the load generator has written nothing for {view.silent_s:.0f} s")
    limit_s = BEGINS_S if view is not None and view.silent_s is None else SILENT_S
    goes_on = alive or (running and silent_s is not None and silent_s <= limit_s)
    complete = {manifest.run_id for manifest in manifests if manifest.state == "complete"}
    left_s = None
    if goes_on and planned:
        left_s = sum(seconds for name, seconds in planned.items() if name not in complete)
        if view is not None and running and view.run_id in planned:
            left_s -= min(view.elapsed_s or 0.0, planned[view.run_id])
    of_study = [manifest for manifest in manifests if view is None or manifest.run_id != view.run_id]
    return Frame(
        title=title,
        running=goes_on,
        phase=None if told is None else told.phase,
        share=None if told is None else told.share,
        spent_s=None if told is None else now_s - told.begun_unix_s,
        left_s=None if told is None or running else told.left_s(now_s),  # a run tells its own
        all_left_s=left_s or None,
        run=view,
        tally=tally_of(manifests, aside, planned) if of_study or (planned and goes_on) else None,
        report=None if goes_on else report,
        problems=tuple(problems),
    )


def controller_of(samples: Mapping[str, tuple[Mapping[str, str], float]], decision: Decision | None) -> ControllerView:
    """Of the samples kis_controller_* of a page, by name without that prefix."""

    def number(name: str) -> int | None:
        return int(samples[name][1]) if name in samples else None

    labels = next(iter(samples.values()))[0]
    spec, ready = number("spec_replicas"), number("ready_replicas")
    return ControllerView(
        deployment=labels.get("deployment", "?"),
        policy=labels.get("policy", "?"),
        acting=None if (acting := number("acting")) is None else bool(acting),
        wanted=number("wanted_replicas"),
        replicas=None if spec is None or ready is None else Replicas(spec, ready, max(0, spec - ready)),
        pending=number("pending_pods"),
        silent=number("silent_pods"),
        decisions=number("decisions_total"),
        patches=number("patches_total"),
        holds=number("holds_total"),
        decision=decision,
    )


def duration(seconds: float) -> str:
    """`2:05`, or `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def milliseconds(seconds: float | None) -> str:
    """`12.3 ms`; -: not known."""
    return "-" if seconds is None else f"{1e3 * seconds:.1f} ms"
