"""What results/golden-* say can be recomputed from what is kept: real runs in archives, simulated ones by their seeds.

Of experiments and evaluations some simulated runs are made again. KIS_ALL_RESULTS=1 makes all of them, which takes
a quarter of an hour.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.autoscaling.build import resolved
from testbed.autoscaling.policies.learned import read_policy
from testbed.calibration.evidence import Evidence
from testbed.calibration.fit import fit_profile
from testbed.calibration.profile import ServiceProfile
from testbed.config_file import build
from testbed.kiscaler.evaluation import read_curve
from testbed.pipeline.anew import compute_anew
from testbed.pipeline.cluster_run import scaling_run
from testbed.pipeline.counterpart import request_log_of
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.served_rates import with_served_rate
from testbed.reporting.benchmark import wins_of
from testbed.reporting.compare import compare_folder, recompute
from testbed.reporting.drift import drift_of
from testbed.reporting.evaluation import log_name, recomputed, row_of
from testbed.reporting.experiment import cost_of, read_experiment, rows_of, summary_of
from testbed.reporting.loading import load_run
from testbed.reporting.report import rounded
from testbed.reporting.transfer import transfer_of
from testbed.run_dir import RunDir
from testbed.simulation.cluster.services import read_services
from tests.golden import RESULTS, Silent, restored

ALL = bool(os.environ.get("KIS_ALL_RESULTS"))
pytestmark = pytest.mark.timeout(3600 if ALL else 300)
CALIBRATIONS = sorted(path.parent.name for path in RESULTS.glob("golden-*/comparison.json"))
SIMULATED_AGAIN = {
    "golden-transfer": ("periodic-hpa-bursty",),
    "golden-transients": ("bursty-hpa-queue",),
    "golden-drift": ("drifting-predictive-sim",),
}
EVALUATED_AGAIN = {
    "golden-evaluation": [("bursty-a", "tuned-hpa"), ("on-off-b", "oracle"), ("ramp-a", "kiscaler")],
}
EVALUATIONS = ("golden-evaluation", "golden-evaluation-azure")


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def as_written(value: Any) -> Any:
    """Rounded as the files are, and through JSON."""
    return json.loads(json.dumps(rounded(value)))


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_every_figure_of_a_calibration_is_in_its_runs(name: str, tmp_path: Path) -> None:
    some = ("-r1-n1-b8-d0ms",) if name == "golden-emulated" else ("",)
    folder = restored(name, tmp_path, lambda run: ALL or any(part in run for part in some))
    kept = {row["run_id"]: row for row in read(folder / "comparison.json")["runs"]}
    again = compare_folder(folder).runs
    assert len(again) == len(kept) if ALL or some == ("",) else 8 <= len(again) < len(kept)
    assert all(row.held_out for row in again)
    for row in again:
        assert json.loads(row.model_dump_json()) == kept[row.run_id]


@pytest.mark.skipif(not ALL, reason="KIS_ALL_RESULTS=1: some minutes")
@pytest.mark.parametrize("name", CALIBRATIONS)
def test_every_summary_of_a_calibration_is_of_its_rows(name: str, tmp_path: Path) -> None:
    assert recompute(restored(name, tmp_path, lambda run: True)).runs  # ReportError names the first that differs


def test_a_committed_profile_is_what_this_code_fits(tmp_path: Path) -> None:
    folder = restored("golden-emulated-slow", tmp_path)
    kept = ServiceProfile.read(folder / "profile-emulated.json")
    runs = [Evidence.load(RunDir(folder / "runs" / name)) for name in kept.runs]
    fresh = fit_profile(runs, request_log_of, leave_out=False)
    assert fresh.service_time.mean_s == pytest.approx(kept.service_time.mean_s, rel=1e-6)
    assert fresh.capacity is not None
    assert kept.capacity is not None
    assert fresh.capacity.model_dump() == pytest.approx(kept.capacity.model_dump(), rel=1e-6)


@pytest.mark.skipif(not ALL, reason="KIS_ALL_RESULTS=1: some minutes")
@pytest.mark.parametrize("name", CALIBRATIONS)
def test_everything_of_a_calibration_can_be_computed_anew(name: str, tmp_path: Path) -> None:
    folder = restored(name, tmp_path)
    kept = read(folder / "comparison.json")["summary"]
    compute_anew(folder, Silent())
    assert_close(as_written(compare_folder(folder).model_dump(mode="json"))["summary"], kept)


@pytest.fixture(scope="module", params=SIMULATED_AGAIN)
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    again = SIMULATED_AGAIN[request.param]
    return restored(request.param, tmp_path_factory.mktemp("again"), lambda run: ALL or run.startswith(again))


def test_every_figure_of_an_experiment_is_in_its_runs(experiment: Path) -> None:
    target_s = read(experiment / "experiment.json")["cluster"]["models"][0]["latency_target_s"]
    kept = {row["run_id"]: row for row in read(experiment / "pairs.json")["rows"]}
    for run_id, row in kept.items():
        run = load_run(experiment / "runs" / run_id)
        assert run.metrics is not None
        changes = len(read(run.path / "decisions.json"))
        real = as_written(cost_of(run.requests, run.metrics, run.manifest.duration_s, changes, target_s)._asdict())
        assert real == {cost: row["requests" if cost == "requests" else f"{cost}_real"] for cost in real}
    again = {row["run_id"]: row for row in as_written(rows_of(read_experiment(experiment)))}
    assert len(again) == len(kept) if ALL else 0 < len(again) < len(kept)
    for run_id, row in again.items():
        # How far the real repeats lie apart is of all repeats of a pair, and so are the pairs that are here.
        assert row == kept[run_id]


@pytest.mark.parametrize("name", [*SIMULATED_AGAIN, "golden-wins/pods"])
def test_what_an_experiment_concludes_is_in_its_rows(name: str) -> None:
    told = read(RESULTS / name / "pairs.json")
    assert_close(as_written(summary_of(told["rows"])), told["summary"])
    policies = read(RESULTS / name / "experiment.json")["policies"]
    fixed = {policy for policy, settings in policies.items() if settings["kind"] == "fixed"}
    assert_close(as_written(transfer_of(told["rows"], Path(name).name, fixed)), read(RESULTS / name / "transfer.json"))


def assert_close(fresh: Any, kept: Any) -> None:
    """Equal but for what rounding the rows can do: a tie of two policies is one pair more or less in `in_order`."""
    if isinstance(kept, dict):
        assert fresh.keys() == kept.keys()
        for name, value in kept.items():
            assert_close(fresh[name], value)
    elif isinstance(kept, list):
        assert len(fresh) == len(kept)
        for one, value in zip(fresh, kept, strict=True):
            assert_close(one, value)
    else:
        assert fresh == (pytest.approx(kept, rel=1e-4, abs=0.012) if isinstance(kept, float) else kept)


@pytest.mark.parametrize("experiment", ["golden-drift"], indirect=True)
def test_every_figure_of_the_drift_is_in_its_runs(experiment: Path) -> None:
    kept = {row["run_id"]: row for row in read(experiment / "drift.json")["rows"]}
    fresh = {row["run_id"]: row for row in as_written(drift_of(read_experiment(experiment)))}
    assert fresh
    assert fresh == {run_id: kept[run_id] for run_id in fresh}


def test_the_drift_was_found_measured_and_recovered_from_on_real_pods() -> None:
    told = read(RESULTS / "golden-drift" / "drift.json")["rows"]
    assert all(row["valid"] for row in told)
    adapted = [row for row in told if row["adapted"]]
    assert all(row["false_alarms"] == [0, 0] for row in adapted)
    for row in adapted:
        assert row["factor"][0]["value"] == pytest.approx(row["slow_down"], rel=0.05)  # with the run's own level in it
        plain = [one for one in told if one["policy"] == row["policy"].removesuffix("-adapted")]
        assert row["slo_violation_rate"]["last"][0] < 0.2 * min(one["slo_violation_rate"]["last"][0] for one in plain)


@pytest.mark.parametrize("name", EVALUATED_AGAIN)
def test_runs_of_an_evaluation_come_back_from_their_seeds(name: str) -> None:
    folder = RESULTS / name
    config = build(EvaluateConfig, read(folder / "evaluate.json"), name)
    services, kept = read_services(config.cluster), read(folder / "evaluation.json")["rows"]
    for traffic, policy in EVALUATED_AGAIN[name]:
        row = next(one for one in kept if (one["traffic"], one["policy"]) == (traffic, policy))
        settings = with_served_rate(resolved(config.settings_of(policy, traffic)), config.cluster.models[0], services)
        run = scaling_run(config.run_of(traffic, settings, row["seed"]), services)
        assert row_of(traffic, policy, row["seed"], _as_read(run), log_name(traffic, policy)) == row


def _as_read(run: pd.DataFrame) -> pd.DataFrame:
    return run.astype({"energy_mj": "Int64"})


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_figure_of_an_evaluation_is_in_its_logs(name: str, tmp_path: Path) -> None:
    told = read(RESULTS / name / "evaluation.json")
    assert told == json.loads(json.dumps(recomputed(restored(name, tmp_path))))
    assert len({row["seed"] for row in told["rows"]}) >= 10


def test_who_wins_the_benchmark_is_in_its_rows() -> None:
    folder = RESULTS / "golden-wins"
    assert_close(as_written(wins_of(folder)), read(folder / "wins.json"))


def test_the_kept_policy_is_the_one_that_was_judged() -> None:
    folder = RESULTS / "golden-kiscaler" / "training" / "seed-1"
    told = read_policy(folder / "policy.onnx")
    curve = read_curve(folder / "curve.csv")
    assert told.trained["evaluation"]["reward"] == max(one.reward for one in curve)
