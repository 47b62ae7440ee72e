"""The states of an adaptation, and what leads from one to the next: a pure step over values.

WATCHING ----> ALARMED ----> RECALIBRATING ----> SHADOW ----> PROMOTED ----> WATCHING
   ^  the CUSUM   |  windows after    |  the bench    |  for       |  for probation_s: confirmed,
   |  alarms      |  the change       |  has thought  |  shadow_s  |  or rolled back
   +--------------+---- KEPT <--------+---------------+            |
   ^  the incumbent stays, and why; watched again after hold_s     |
   +---------------------------------------------------------------+

Bounded: factors have limits (recalibrate.py); actions are cooldown_s apart, and at most promotions_per_hour are made.
Reversible: the predecessor decides beside its successor during the probation, and takes over again if the service
becomes slower than it was and than was predicted, or if the old profile fits better again. If nobody knows how long
requests take, the probation goes on for as long again; what is not known by then undoes the promotion too. Then
everything stays for hold_s. A profile is a new file each time; nothing is overwritten.

What is believed of the service (the profile) and what is done about it (the policy) are two things: a candidate that is
not better is not promoted, but the new profile is what residuals are taken against from then on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from testbed.adaptation.candidate import Finding, Task
from testbed.adaptation.drift import new_detector, reference_of, residual_of, time_in_server_s, watched
from testbed.adaptation.journal import JournalEntry
from testbed.adaptation.recalibrate import estimate, recalibrated
from testbed.adaptation.settings import (
    AdaptSettings,
)
from testbed.adaptation.states import (
    ActivePolicy,
    Alarmed,
    Kept,
    Memory,
    Promoted,
    Recalibrating,
    Shadow,
    State,
    Watching,
)
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policy import Policy
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.cluster.config import ClusterConfig

HOUR_S = 3600.0
REMEMBERED = 120  # windows of arrivals
PROLONGED = 2.0  # probations, before what is not known counts as bad


@dataclass(frozen=True)
class Setting:
    """What an adaptation is of: constants of the step.

    folder: of new profiles (None: they are not written); source: of the windows, for provenance.
    """

    cluster: ClusterConfig
    settings: AdaptSettings
    folder: Path | None
    source: str


class Stepped(NamedTuple):
    """What follows from one step. task: to be thought over; write: a profile to be written first."""

    memory: Memory
    entries: tuple[JournalEntry, ...] = ()
    task: Task | None = None
    write: tuple[Path, ServiceProfile] | None = None


def first_memory(profile: ServiceProfile, incumbent: Policy, settings: AdaptSettings) -> Memory:
    """Before anything was seen."""
    return Memory(profile, profile, new_detector(profile, settings.drift), ActivePolicy(incumbent))


def step(memory: Memory, now_s: float, replicas: int, window: Window | None, answer: Any, setting: Setting) -> Stepped:
    """One step: a new window of live metrics (None: none yet), and what the bench answered (None: nothing).

    replicas: asked for now. Pure: the same arguments give the same step.
    """
    if window is not None:
        memory = _with_window(memory, window, setting)
    match memory.state:
        case Watching():
            return _watching(memory, now_s)
        case Alarmed() as state:
            return _alarmed(memory, state, now_s, replicas, setting)
        case Recalibrating() as state:
            return _recalibrating(memory, state, now_s, answer, setting)
        case Shadow() as state:
            return _shadow(memory, state, now_s, setting)
        case Promoted() as state:
            return _promoted(memory, state, now_s, setting)
        case Kept():
            return _kept(memory, now_s, replicas, setting)


def _with_window(memory: Memory, window: Window, setting: Setting) -> Memory:
    residual = residual_of(window, memory.profile, setting.settings.drift.least_batches)
    detector = watched(memory.detector, residual)
    after = memory.after
    if residual is not None and residual.start_s >= detector.change_s and math.isfinite(residual.value):
        after = (*after[1 - REMEMBERED :], residual)
    return replace(
        memory,
        detector=detector,
        after=tuple(kept for kept in after if kept.start_s >= detector.change_s),
        rates=(*memory.rates[1 - REMEMBERED :], window.arrivals_rps(memory.waiting)),
        slowness=(*memory.slowness[1 - REMEMBERED :], (window.end_s, time_in_server_s(window))),
        waiting=float(np.nan_to_num(window.waiting.sum())),
        seen_s=window.end_s,
    )


# One function a state: what it takes to leave it.


def _watching(memory: Memory, now_s: float) -> Stepped:
    detector = memory.detector
    if not detector.alarm:
        return Stepped(memory)
    figures = {
        "high": detector.high,
        "low": detector.low,
        "threshold": detector.threshold,
        "level": detector.level,
        "change_s": detector.change_s,
    }
    return _enter(memory, now_s, Alarmed(), "the time of a batch has changed", figures)


def _alarmed(memory: Memory, state: Alarmed, now_s: float, replicas: int, setting: Setting) -> Stepped:
    settings = setting.settings
    waits = _why_wait(memory, now_s, settings)
    if waits:
        if waits == state.waits:
            return Stepped(memory)
        return Stepped(replace(memory, state=Alarmed(waits)), (JournalEntry(now_s, state.name, waits, {}),))
    window_s = settings.drift.window_s
    after = [
        residual for residual in memory.after if residual.start_s >= memory.detector.change_s + window_s
    ]  # the first is mixed
    if len(after) < settings.recalibration.windows:
        return Stepped(memory)
    recent = after[-2 * settings.recalibration.windows :]
    factor = estimate(recent, memory.detector.spread, settings.recalibration)
    if isinstance(factor, str):
        return keep_incumbent(memory, now_s, factor, {}, setting)
    if abs(math.log(factor.value)) < reference_of(settings.drift):
        why = "the change has passed, or is smaller than the least that counts"
        return keep_incumbent(memory, now_s, why, factor._asdict(), setting)
    new = recalibrated(memory.profile, factor, setting.source)
    file = (setting.folder or Path()) / f"profile-{new.model}-at-{now_s:.0f}.json"
    why = f"batches take {factor.value:.3f} ({factor.low:.3f} to {factor.high:.3f}) of the profile's time"
    # The factor has this run's own level in it, so the new profile's is near 0.
    memory = replace(memory, profile=new, detector=new_detector(new, settings.drift), after=())
    begun = _begin(memory, now_s, replicas, setting, file, why, {"factor": factor._asdict(), "profile": file.name})
    return begun._replace(write=(file, new))


def _begin(
    memory: Memory, now_s: float, replicas: int, setting: Setting, file: Path, why: str, figures: dict[str, Any]
) -> Stepped:
    """Candidates for the profile that is believed in now are to be thought over."""
    task = Task(
        cluster=setting.cluster,
        old=memory.fitted,
        new=memory.profile,
        new_file=file,
        incumbent=memory.incumbent.policy,
        rates=tuple(rate for rate in memory.rates if math.isfinite(rate)),
        interval_s=setting.settings.drift.window_s,
        replicas=replicas,
        settings=setting.settings.judge,
        tuning=setting.settings.tuning,
    )
    return _enter(replace(memory, file=file), now_s, Recalibrating(now_s), why, figures)._replace(task=task)


def _recalibrating(memory: Memory, state: Recalibrating, now_s: float, answer: Any, setting: Setting) -> Stepped:
    if answer is None:
        if now_s - state.since_s < setting.settings.thinking_s:
            return Stepped(memory)
        answer = f"no verdict after {setting.settings.thinking_s:g} s"
    if not isinstance(answer, Finding):
        return keep_incumbent(memory, now_s, str(answer), {}, setting)
    verdict = answer.verdict
    figures = {
        "candidate": answer.what,
        "serves": answer.serves.by,
        "verdict": {"candidate": verdict.candidate._asdict(), "incumbent": verdict.incumbent._asdict()},
        "gain": verdict.gain,
        "confidence": verdict.confidence,
        "gains_of_others": answer.others,
    }
    memory = replace(memory, tests=memory.tests + 1 + len(answer.others))
    needed = setting.settings.judge.needed(memory.tests)
    figures |= {"tests": memory.tests, "confidence_needed": needed}
    if not verdict.confidence >= needed:
        why = f"not better: {verdict.summary}, {needed:.3f} is needed of candidate {memory.tests}"
        return keep_incumbent(memory, now_s, why, figures, setting)
    alike = type(memory.incumbent.policy) is type(answer.candidate)  # they then remember the same things
    candidate = ActivePolicy(answer.candidate, memory.incumbent.memory if alike else None)
    shadow = Shadow(now_s, candidate, predicted_s=verdict.candidate.latency_s)
    return _enter(memory, now_s, shadow, f"{answer.what}: {verdict.summary}", figures)


def _shadow(memory: Memory, state: Shadow, now_s: float, setting: Setting) -> Stepped:
    settings = setting.settings
    if memory.detector.alarm:
        return keep_incumbent(memory, now_s, "the new profile does not hold either: it changed again", {}, setting)
    if now_s - state.since_s < settings.shadow_s:
        return Stepped(memory)
    differ = [difference for difference in state.differences if difference != 0]
    before_s = _mean_of_late(memory, now_s, now_s - state.since_s, settings.drift.window_s)
    figures = {
        "decisions": len(state.differences),
        "differed": len(differ),
        "mean_difference": float(np.mean(state.differences)) if state.differences else math.nan,
        "slow_before_s": before_s,
    }
    promoted = Promoted(now_s, memory.incumbent, memory.fitted, before_s, state.predicted_s)
    memory = replace(
        memory,
        incumbent=state.candidate,
        fitted=memory.profile,
        tests=0,
        promotions=(*(promotion for promotion in memory.promotions if now_s - promotion < HOUR_S), now_s),
    )
    why = f"of {len(state.differences)} decisions beside the incumbent {len(differ)} were other ones"
    return _enter(memory, now_s, promoted, why, figures)


def _promoted(memory: Memory, state: Promoted, now_s: float, setting: Setting) -> Stepped:
    settings = setting.settings
    if memory.detector.alarm:
        why = "the time of a batch changed again within the probation"
        return _roll_back(replace(memory, profile=state.fitted_before), state, now_s, why, {}, setting)
    if now_s - state.since_s < settings.probation_s:
        return Stepped(memory)
    # The first half is what it takes to get out of where the service was.
    slow_s = _mean_of_late(memory, now_s, settings.probation_s / 2, settings.drift.window_s)
    known = [seconds for seconds in (state.before_s, state.predicted_s) if math.isfinite(seconds)]
    allowed = settings.slower * max(known, default=math.nan)
    figures = {"slow_s": slow_s, "slow_before_s": state.before_s, "slow_predicted_s": state.predicted_s}
    if math.isnan(slow_s) or math.isnan(allowed):
        return _unknown(memory, state, now_s, slow_s, figures, setting)
    if slow_s > allowed:
        why = f"requests take {1e3 * slow_s:.1f} ms in their server, {1e3 * allowed:.1f} ms would be in order"
        return _roll_back(memory, state, now_s, why, figures, setting)
    memory = replace(memory, free_s=now_s + settings.cooldown_s)
    return _enter(memory, now_s, Watching(), "the probation is passed", figures)


def _unknown(
    memory: Memory, state: Promoted, now_s: float, slow_s: float, figures: dict[str, Any], setting: Setting
) -> Stepped:
    """A probation that cannot be judged, as when the successor answers nothing: it goes on, but not for ever."""
    probation_s = setting.settings.probation_s
    if math.isnan(slow_s):
        why = f"nothing was answered in the last {probation_s / 2:g} s"
    else:
        why = "neither what it was before nor what was predicted is known"
    if now_s - state.since_s >= PROLONGED * probation_s:
        return _roll_back(memory, state, now_s, why, figures, setting)
    if state.prolonged:  # it is told once
        return Stepped(memory)
    summary = f"{why}: the probation goes on, for {(PROLONGED - 1) * probation_s:g} s at most"
    return Stepped(
        replace(memory, state=replace(state, prolonged=why)), (JournalEntry(now_s, state.name, summary, figures),)
    )


def _kept(memory: Memory, now_s: float, replicas: int, setting: Setting) -> Stepped:
    """It is watched again when nothing holds it any more; what the service has become may then be worth an action."""
    if now_s < memory.free_s:
        return Stepped(memory)
    if memory.fitted is not memory.profile and memory.file is not None and not memory.detector.alarm:
        why = "the incumbent's numbers are of another profile: on the arrivals of late, is a candidate better now?"
        return _begin(memory, now_s, replicas, setting, memory.file, why, {})
    return _enter(memory, now_s, Watching(), "what was kept is watched again", {})


def _enter(memory: Memory, now_s: float, state: State, why: str, figures: dict[str, Any]) -> Stepped:
    entry = JournalEntry(now_s, state.name, why, {"policy": memory.incumbent.policy.name, **figures})
    return Stepped(replace(memory, state=state), (entry,))


def keep_incumbent(memory: Memory, now_s: float, why: str, figures: dict[str, Any], setting: Setting) -> Stepped:
    """The incumbent stays. Residuals are watched anew, against the profile that is believed in now."""
    settings = setting.settings
    detector = new_detector(memory.profile, settings.drift)
    memory = replace(memory, detector=detector, after=(), free_s=now_s + settings.hold_s)
    return _enter(memory, now_s, Kept(), why, figures)


def _roll_back(
    memory: Memory, state: Promoted, now_s: float, why: str, figures: dict[str, Any], setting: Setting
) -> Stepped:
    """The predecessor decides again."""
    memory = replace(memory, incumbent=state.predecessor, fitted=state.fitted_before)
    return keep_incumbent(memory, now_s, f"rolled back: {why}", figures, setting)


def _why_wait(memory: Memory, now_s: float, settings: AdaptSettings) -> str:
    if now_s < memory.free_s:
        return "the last adaptation was too short a time ago"
    if sum(now_s - promotion < HOUR_S for promotion in memory.promotions) >= settings.promotions_per_hour:
        return f"promotions_per_hour ({settings.promotions_per_hour}) is reached"
    return ""


def _mean_of_late(memory: Memory, now_s: float, seconds: float, window_s: float) -> float:
    """Time in the server over the last seconds; NaN: nobody knows. Windows from before them tell nothing of them."""
    seconds = max(seconds, window_s)
    late = memory.slowness[-max(1, round(seconds / window_s)) :]
    known = [slow_s for end_s, slow_s in late if end_s > now_s - seconds and math.isfinite(slow_s)]
    return float(np.mean(known)) if known else math.nan
