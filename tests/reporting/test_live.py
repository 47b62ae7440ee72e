"""What `kis watch` shows, computed from plain values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadgen.validity import Verdict
from testbed.progress import Progress
from testbed.reporting import live
from testbed.reporting.live import RunView
from testbed.run_dir import Device, RunManifest
from workloads.catalog import CATALOG, ServiceConfig

NOW_S = 1000.0
LATE = Verdict(valid=False, reasons=("3 % of requests were sent late",))


def manifest(run_id: str, **changed: Any) -> RunManifest:
    fields: dict[str, Any] = {
        "run_id": run_id,
        "kind": "real",
        "state": "complete",
        "model": "resnet50",
        "weights": "random",
        "device": Device(kind="cpu", name="a processor"),
        "service": ServiceConfig(),
        "pattern": "bursty",
        "seed": 0,
        "duration_s": 30.0,
        "verdict": Verdict(valid=True),
    }
    return RunManifest(**{**fields, **changed})


def view(run_id: str, **changed: Any) -> RunView:
    known: dict[str, Any] = dict.fromkeys(RunView._fields) | {"run_id": run_id, "what": "", "state": "running"}
    return RunView(**{**known, **changed})


def progress(**changed: Any) -> Progress:
    fields = {"phase": "a run", "begun_unix_s": 900.0, "phase_unix_s": 980.0, "pid": 7, "host": "here"}
    return Progress(**{**fields, **changed})


def frame(**changed: Any) -> live.Frame:
    known: dict[str, Any] = {
        "progress": None,
        "alive": False,
        "manifests": [],
        "aside": 0,
        "planned": {},
        "view": None,
        "changed_s": None,
    }
    return live.frame_of_folder("results/x", NOW_S, **{**known, **changed})


def test_a_phase_ends_at_the_pace_that_it_has_had() -> None:
    assert progress(share=0.25).left_s(NOW_S) == pytest.approx(60.0)  # 20 s for a quarter
    assert progress(share=0.75, first_share=0.5).left_s(NOW_S) == pytest.approx(20.0)  # 20 s for another quarter


@pytest.mark.parametrize("early", [{"share": None}, {"share": 0.01}, {"share": 0.5, "phase_unix_s": 999.0}])
def test_too_early_no_end_is_told(early: dict[str, Any]) -> None:
    assert progress(**early).left_s(NOW_S) is None


def test_rates_and_p95_are_of_the_last_seconds_and_failures_are_of_all() -> None:
    scheduled_s = np.arange(0.0, 40.0, 0.1)
    request_id = np.arange(300)
    latency_s = np.where(request_id < 200, 0.5, 0.02)  # slow until second 20
    ok = request_id % 100 != 99
    completed_s = np.where(ok, scheduled_s[request_id] + latency_s, np.nan)
    pace = live.pace_of(scheduled_s, request_id, completed_s, ok, now_s=30.0)
    assert (pace.answered, pace.failed, pace.window_s) == (297, 3, 10.0)
    assert pace.offered_rps == pytest.approx(10.0, abs=0.1)
    assert pace.answered_rps == pytest.approx(10.0, abs=0.6)  # one of a hundred failed; some are late ones from before
    assert pace.p95_so_far_s == pytest.approx(0.5)
    recent = live.pace_of(scheduled_s, request_id, completed_s, ok, now_s=31.0)
    assert recent.p95_s == pytest.approx(0.02)


def test_at_the_very_start_there_is_no_rate() -> None:
    pace = live.pace_of(np.arange(3.0), np.empty(0, np.int64), np.empty(0), np.empty(0, bool), now_s=0.0)
    assert (pace.answered, pace.offered_rps, pace.answered_rps, pace.p95_s) == (0, None, None, None)


def test_targets_are_the_catalogs_but_for_a_model_that_is_as_fast_as_it_is_told() -> None:
    targets = CATALOG["resnet50"].targets
    assert live.target_of(manifest("a")) == targets.cpu_s
    assert live.target_of(manifest("a", device=Device(kind="gpu", name="a GPU"))) == targets.accelerator_s
    assert live.target_of(manifest("a", device=Device(kind="unknown", name="somebody's"))) is None
    assert live.target_of(manifest("a", model="emulated", device=Device(kind="emulated", name="it waits"))) is None
    assert live.target_of(manifest("a", model="of_mine")) is None


def test_runs_are_counted_by_verdict_and_the_reasons_are_there() -> None:
    runs = [
        manifest("a"),
        manifest("b", verdict=LATE),
        manifest("c", state="running", verdict=None),
        manifest("d", kind="simulated", verdict=None),
    ]
    tally = live.tally_of(runs, aside=2, planned=["a", "b", "c", "e"])
    assert tally == live.Tally(1, 1, 1, 2, to_come=2, reasons=("b: 3 % of requests were sent late",))


def test_time_for_the_runs_to_come_leaves_out_what_is_done_of_them() -> None:
    going = frame(
        progress=progress(),
        alive=True,
        manifests=[manifest("a"), manifest("b", state="running", verdict=None)],
        planned={"a": 30.0, "b": 30.0, "c": 40.0},
        view=view("b", elapsed_s=12.0, duration_s=30.0),
    )
    assert going.all_left_s == pytest.approx(18.0 + 40.0)
    assert going.run is not None
    assert going.run.left_s == pytest.approx(18.0)


def test_a_process_that_is_gone_is_told_and_nothing_goes_on() -> None:
    left = frame(progress=progress(), view=view("a", silent_s=60.0))
    assert not left.running
    assert left.phase is None
    assert [problem.split(",")[0] for problem in left.problems] == [
        "process 7",
        "the load generator has written nothing for 60 s",
    ]


@pytest.mark.parametrize(
    ("shown", "changed_s", "running"),
    [
        (view("a", silent_s=0.3), 20.0, True),
        (view("a", silent_s=60.0), 90.0, False),
        (view("a"), 20.0, True),  # its client has not begun yet
        (view("a"), 500.0, False),
        (view("a", state="complete"), 0.0, False),
    ],
)
def test_a_run_without_progress_goes_on_as_long_as_its_client_writes(
    shown: RunView, changed_s: float, running: bool
) -> None:
    assert frame(view=shown, changed_s=changed_s).running is running


def test_a_single_run_is_not_counted() -> None:
    assert frame(manifests=[manifest("a")], view=view("a", state="complete")).tally is None
    assert frame(manifests=[manifest("a"), manifest("b")], view=view("a", state="complete")).tally is not None


def test_an_archived_study_whose_runs_are_not_there_has_none_to_come() -> None:
    assert frame(planned={"a": 30.0}, report="report.md").tally is None
    assert frame(planned={"a": 30.0}, report="report.md").report == "report.md"
    begun = frame(planned={"a": 30.0}, progress=progress(), alive=True, report="report.md")
    assert begun.tally is not None
    assert begun.tally.to_come == 1
    assert begun.report is None  # an older one


def test_the_last_change_is_found_among_samples() -> None:
    assert live.last_change([(1.0, 2), (2.0, 2), (3.0, 4), (4.0, 4)], 10.0) == live.Decision(7.0, "2 -> 4")
    assert live.last_change([(1.0, 2), (2.0, 2)], 10.0) is None
    assert live.last_change([], 10.0) is None


TURN = {"time_s": 990.0, "acted": True, "spec_replicas": 2, "wanted": 4, "replicas": 4, "reason": "busy", "refusal": ""}


@pytest.mark.parametrize(
    ("changed", "text", "because"),
    [
        ({}, "2 -> 4", "busy"),
        ({"replicas": 3, "refusal": "at most 1 more"}, "2 -> 3, the policy wants 4", "busy; held back: at most 1 more"),
        ({"acted": False}, "2 would be -> 4", "busy"),
        ({"replicas": None, "wanted": 2}, "stays at 2", "busy"),
        (
            dict.fromkeys(("spec_replicas", "wanted", "replicas")) | {"refusal": "no API"},
            "none",
            "busy; held back: no API",
        ),
    ],
)
def test_a_decision_is_told_with_its_reason(changed: dict[str, Any], text: str, because: str) -> None:
    assert live.decision_of(TURN | changed, NOW_S) == live.Decision(10.0, text, because)


def test_of_events_those_of_a_controller_are_decisions_and_those_of_kubernetes_changes() -> None:
    scaled, made = (
        (980.0, "Scaled", "2 -> 3: panic: busy"),
        (985.0, "ScalingReplicaSet", "(combined from similar events): Scaled up a from 2 to 3"),
    )
    events = [made, scaled, (970.0, "Held", "late"), (970.0, "ScalingReplicaSet", "older"), (990.0, "Other", "x")]
    assert live.last_told(events, NOW_S) == live.Decision(20.0, "2 -> 3", "panic: busy")
    assert live.last_told([(970.0, "Held", "late: 3 s")], NOW_S) == live.Decision(30.0, "held back", "late: 3 s")
    assert live.last_scaling(events, NOW_S) == live.Decision(15.0, "Scaled up a from 2 to 3")
    assert (live.last_told([made], NOW_S), live.last_scaling([scaled], NOW_S)) == (None, None)


def test_pods_that_are_not_ready_for_the_same_reason_are_one_line() -> None:
    assert live.problems_of({"b": "it loads", "a": "no GPU", "c": "it loads"}) == (
        "a is not ready: no GPU",
        "2 pods are not ready: it loads",
    )


def test_what_a_page_does_not_tell_is_not_made_up() -> None:
    labels = {"deployment": "triton-bert", "policy": "knative"}
    told = live.controller_of({"decisions_total": (labels, 3.0), "acting": (labels, 0.0)}, None)
    assert (told.deployment, told.policy, told.acting, told.decisions) == ("triton-bert", "knative", False, 3)
    assert (told.replicas, told.wanted, told.silent) == (None, None, None)


def test_durations_are_read_as_minutes_and_hours() -> None:
    assert [live.duration(s) for s in (5.4, 65.0, 3725.0)] == ["0:05", "1:05", "1:02:05"]
