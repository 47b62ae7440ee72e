"""What `kis watch` shows, in a terminal of 80 columns too: of a testbed.reporting.live.Frame."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from testbed.reporting import live
from testbed.reporting.live import Decision, Frame, Replicas, RunView, duration, milliseconds


def drawn(frame: Frame) -> RenderableType:
    """For a terminal, of 80 columns too."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    if frame.share is not None:
        rows.add_row("", ProgressBar(total=1.0, completed=frame.share, width=50))
    for label, text in _rows(frame):
        rows.add_row(label, text)
    return Group(f"[bold]{escape(frame.title)}[/bold]  {time.strftime('%H:%M:%S')}", rows)


def _rows(frame: Frame) -> Iterator[tuple[str, str]]:
    """Label and text, with markup."""
    if frame.phase is not None:
        yield "now", escape(frame.phase)
    if frame.spent_s is not None:
        yield "time", _times(frame)
    if not frame.running:
        yield "now", "nothing is running here"
    if frame.run is not None:
        yield from _rows_of_run(frame.run)
    if frame.tally is not None:
        yield from _rows_of_tally(frame.tally)
    if frame.controller is not None:
        yield from _rows_of_controller(frame.controller)
    if frame.report is not None:
        yield "report", escape(frame.report)
    for problem in frame.problems:
        yield "[red]problem[/red]", f"[red]{escape(problem)}[/red]"


def _times(frame: Frame) -> str:
    parts = [f"{duration(frame.spent_s or 0.0)} so far"]
    if frame.left_s is not None:
        parts.append(f"about {duration(frame.left_s)} left of this")
    if frame.all_left_s is not None:
        parts.append(f"at least {duration(frame.all_left_s)} for the runs to come")
    return ", ".join(parts)


def _rows_of_run(run: RunView) -> Iterator[tuple[str, str]]:
    over = "" if run.state == "running" else f", {run.state}"
    yield "run", escape(f"{run.run_id}{over}")
    if run.what:
        yield "", escape(run.what)
    if run.elapsed_s is not None and run.duration_s is not None and run.left_s is not None:
        yield "", f"{duration(run.elapsed_s)} of {duration(run.duration_s)}, {duration(run.left_s)} left"
    if run.pace is not None:
        yield from _rows_of_pace(run.pace, run.requests, run.target_s)
    if run.waiting is not None:
        yield "waiting", f"{run.waiting:.0f} in the server's queues"
    if run.replicas is not None:
        yield "replicas", _replicas(run.replicas)
    if run.decision is not None:
        yield "decision", _decided(run.decision)
    if run.change is not None:
        yield "change", _decided(run.change)
    if run.verdict is not None:
        yield "verdict", _coloured(run.verdict, run.verdict == "VALID")


def _rows_of_pace(pace: live.Pace, requests: int | None, target_s: float | None) -> Iterator[tuple[str, str]]:
    failed = f"[red]{pace.failed} failed[/red]" if pace.failed else "0 failed"
    unsent = f", {pace.unsent} unsent" if pace.unsent else ""
    whole = "" if requests is None else f", of {requests}"
    yield "requests", f"{pace.answered} answered, {failed}{unsent}{whole}"
    if pace.answered_rps is not None:
        offered = "" if pace.offered_rps is None else f", {pace.offered_rps:.1f}/s offered, {_window(pace)}"
        yield "rate", f"{pace.answered_rps:.1f}/s answered{offered}"
    if pace.p95_so_far_s is not None:
        yield "P95", _latencies(pace, target_s)


def _latencies(pace: live.Pace, target_s: float | None) -> str:
    def against(seconds: float | None) -> str:
        text = milliseconds(seconds)
        return text if target_s is None or seconds is None else _coloured(text, seconds <= target_s)

    recent = "" if pace.p95_s is None else f"{against(pace.p95_s)} {_window(pace)}, "
    whole = against(pace.p95_so_far_s) + (" so far" if recent else "")
    return f"{recent}{whole}" + ("" if target_s is None else f"; target {milliseconds(target_s)}")


def _window(pace: live.Pace) -> str:
    return f"in the last {pace.window_s or 0.0:.0f} s"


def _coloured(text: str, good: bool) -> str:
    return f"[{'green' if good else 'red'}]{escape(text)}[/]"


def _replicas(replicas: Replicas) -> str:
    return f"{replicas.ready} ready, {replicas.starting} starting, {replicas.wanted} asked for"


def _decided(decision: Decision) -> str:
    because = f": {decision.because}" if decision.because else ""
    return escape(f"{decision.text}, {duration(max(0.0, decision.age_s))} ago{because}")


def _rows_of_tally(tally: live.Tally) -> Iterator[tuple[str, str]]:
    invalid = f"[red]{tally.invalid} INVALID[/red]" if tally.invalid else "0 INVALID"
    parts = [f"[green]{tally.valid} VALID[/green]", invalid]
    parts += [f"{tally.aside} put aside"] if tally.aside else []
    parts += [f"{tally.simulated} simulated"] if tally.simulated else []
    parts += [f"{tally.to_come} to come"] if tally.to_come else []
    yield "runs", ", ".join(parts)
    for reason in tally.reasons[-3:]:
        yield "", f"[red]{escape(reason)}[/red]"


def _rows_of_controller(view: live.ControllerView) -> Iterator[tuple[str, str]]:
    how = "" if view.acting is None else ", acts" if view.acting else ", does not act (a shadow, or not the leader)"
    if view.policy is not None:  # the title of a deployment says its name
        yield "deployment", escape(f"{view.deployment} under {view.policy}{how}")
    if view.replicas is not None:
        yield "replicas", _replicas(view.replicas)
    if view.wanted is not None:
        yield "wanted", f"{view.wanted} by the policy"
    for label, count, one, more in (
        ("pending", view.pending, "pod has not started", "pods have not started"),
        ("silent", view.silent, "ready pod tells nothing", "ready pods tell nothing"),
    ):
        if count:
            yield label, f"[red]{count} {one if count == 1 else more}[/red]"
    if view.decision is not None:
        yield "decision", _decided(view.decision)
    if view.change is not None:
        yield "change", _decided(view.change)
    if view.decisions is not None:
        yield "so far", f"{view.decisions} decisions, {view.patches or 0} changes, {view.holds or 0} held back"
