"""`kis plan` finds what queueing theory says, and its plan holds when it is run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.calibration.profile import RunEffect, RunEffects
from testbed.cli.main import application
from testbed.pipeline.capacity import Arrivals, plan_capacity, predict
from testbed.pipeline.capacity_config import PlanGrid
from tests.oracles.cluster_worlds import flat_profile

PROFILE = flat_profile([0.010, 0.012, 0.014, 0.016]).model_copy(
    update={"run_effects": RunEffects(service=RunEffect(std=0.02, degrees_of_freedom=20))}
)


def constant(rate: float, seconds: float) -> Arrivals:
    return lambda seed: poisson_schedule(make_pattern("constant", rate=rate), seconds, seed, "m")


def test_the_fewest_replicas_that_hold_the_target_are_found():
    arrivals = constant(500, 20)
    plan = plan_capacity(PROFILE, arrivals, 0.030, PlanGrid(max_replicas=8), draws=8)
    assert plan.best is not None
    assert plan.best.latency_s.high <= 0.030
    fewer = plan.best.service.model_copy(update={"replicas": plan.best.service.replicas - 1})
    assert plan.best.service.replicas >= 2  # 500/s x 4 ms a request in a batch of four
    assert not predict(PROFILE, arrivals, fewer, 0.030, percentile=95, draws=8, seed=0).holds


def test_nothing_holds_an_impossible_target():
    arrivals = constant(50, 10)
    assert plan_capacity(PROFILE, arrivals, 0.005, PlanGrid(max_replicas=3), draws=4).best is None


def test_more_replicas_lower_the_latency_and_the_misses():
    arrivals = constant(300, 20)
    plan = plan_capacity(PROFILE, arrivals, 0.020, PlanGrid(max_replicas=8, max_batch_size=(4,)), draws=6)
    by_replicas = sorted(plan.options, key=lambda one: one.service.replicas)
    middles = [by_replica.latency_s.middle for by_replica in by_replicas]
    assert middles == sorted(middles, reverse=True)
    assert all(
        0
        <= by_replica.slo_violation_rate.low
        <= by_replica.slo_violation_rate.middle
        <= by_replica.slo_violation_rate.high
        <= 1
        for by_replica in by_replicas
    )


def test_the_command_leaves_a_table_a_picture_and_a_file(tmp_path: Path):
    PROFILE.write(tmp_path / "profile.json")
    out = tmp_path / "plan"
    arguments = ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "30", "--out", str(out)]
    traffic = ["--pattern", "constant", "--set", "rate=300", "--duration", "10", "--max-replicas", "4"]
    result = CliRunner().invoke(application(), [*arguments, *traffic])
    assert result.exit_code == 0, result.output
    assert "checked on other arrivals" in " ".join(result.output.split())
    told = json.loads((out / "plan.json").read_text())
    assert told["simulated"] is True
    assert told["best"]["holds"] is True
    assert (out / "plan.png").stat().st_size > 2_000


@pytest.mark.parametrize(
    "flag", [["--trace", "nowhere.csv"], ["--pattern", "burst"], ["--target-ms", "-5"], ["--percentile", "101"]]
)
def test_a_wrong_flag_is_refused(tmp_path: Path, flag: list[str]):
    PROFILE.write(tmp_path / "profile.json")
    result = CliRunner().invoke(
        application(), ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "30", *flag]
    )
    assert result.exit_code != 0
