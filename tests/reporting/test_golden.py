"""What results/golden-* say can be recomputed from the parquet files that are committed beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.autoscaling.learned import read_policy
from testbed.kiscaler.train import read_curve
from testbed.reporting.compare import recompute
from testbed.reporting.evaluation import recomputed
from testbed.reporting.experiment import read_experiment, rows_of, summary_of
from testbed.reporting.experiment_report import rounded

RESULTS = Path(__file__).parents[2] / "results"
GOLDEN = sorted(path.parent.name for path in RESULTS.glob("golden-*/comparison.json"))


@pytest.mark.parametrize("name", GOLDEN)
def test_every_figure_of_a_golden_campaign_is_in_its_files(name: str) -> None:
    comparison = recompute(RESULTS / name)  # ReportError names the first value that the files do not give
    assert comparison.runs


@pytest.mark.parametrize("name", GOLDEN)
def test_no_golden_run_was_fitted_on_and_judged(name: str) -> None:
    comparison = recompute(RESULTS / name)
    assert all(row.held_out for row in comparison.runs)


def test_every_figure_of_the_transients_is_in_their_runs() -> None:
    folder = RESULTS / "golden-transients"
    rows = rows_of(read_experiment(folder))
    assert json.loads((folder / "pairs.json").read_text()) == {
        "rows": rounded(rows),
        "summary": rounded(summary_of(rows)),
    }


@pytest.mark.parametrize("folder", ["golden-evaluation", "golden-evaluation-azure"])
def test_every_figure_of_an_evaluation_is_in_its_logs(folder: str) -> None:
    found = RESULTS / folder
    told = json.loads((found / "evaluation.json").read_text())
    assert told == json.loads(json.dumps(recomputed(found)))
    assert len({row["seed"] for row in told["rows"]}) >= 10


def test_the_kept_policy_is_the_one_that_was_judged() -> None:
    folder = RESULTS / "golden-kiscaler" / "training" / "seed-1"
    told = read_policy(folder / "policy.onnx")
    curve = read_curve(folder / "curve.csv")
    assert told.trained["evaluation"]["reward"] == max(one.reward for one in curve)
