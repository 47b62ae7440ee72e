"""`kis plan` finds what queueing theory says, and its plan holds when it is run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadgen.artifact import ArtifactError
from loadgen.patterns import make_pattern
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.profile import RunEffect, RunEffects
from testbed.cli.main import application
from testbed.pipeline.capacity import Arrivals, cheapest, plan_capacity, predict, priced
from testbed.pipeline.capacity_config import PlanGrid
from testbed.reporting.plan import settings_of
from testbed.reporting.reports import write_report
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


def test_requests_of_four_rows_need_what_four_times_as_many_of_one_need():
    def in_fours(seed: int) -> Schedule:
        return with_rows(constant(125, 20)(seed), {4: 1.0}, seed)

    grid = PlanGrid(max_replicas=8)
    plan = plan_capacity(PROFILE, in_fours, 0.060, grid, draws=4)
    assert {option.service.max_batch_size for option in plan.options} == {4}  # two rows a batch could take none
    assert plan.best is not None
    assert plan.best.service.replicas >= 3  # 125/s x 16 ms
    single = plan_capacity(PROFILE, constant(125, 20), 0.060, grid, draws=4)
    assert single.best is not None
    assert single.best.service.replicas < plan.best.service.replicas


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
    assert result.output.rstrip().endswith("report.html")
    page = (out / "report.html").read_text()
    best = told["best"]["service"]["replicas"]
    assert f"<p>Use {best} replicas (1 instance each, batches of at most" in page
    assert page.count("RECOMMENDED</b>") == 1
    (out / "report.html").unlink()
    assert write_report(out) == out / "report.html"


def test_settings_with_the_same_figures_are_one_and_the_recommended_one_is_marked(tmp_path: Path):
    """At 20/s nothing waits: batches of at most 2, 4 or 8 are the same thing."""
    flat_profile([0.010, 0.012, 0.014, 0.016, 0.018, 0.020, 0.022, 0.024]).write(tmp_path / "profile.json")
    sizes = ["--max-batch-size", "2", "--max-batch-size", "4", "--max-batch-size", "8", "--max-batch-size", "1"]
    traffic = ["--pattern", "constant", "--set", "rate=20", "--duration", "20", "--max-replicas", "2"]
    told = ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "50", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(application(), [*told, *sizes, *traffic])
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    merged = settings_of(plan)
    assert len({one["service"]["max_batch_size"] for one in plan["options"]}) == 4
    together = next(one for one in merged if "at most 4 or 8" in one.name or "at most 2 or 4 or 8" in one.name)
    assert together.recommended == plan["best"]["service"]["replicas"]
    assert sum(one.recommended is not None for one in merged) == 1
    assert sum(len(one.options) for one in merged) < len(plan["options"])


def test_an_impossible_target_is_said_on_the_page_too(tmp_path: Path):
    PROFILE.write(tmp_path / "profile.json")
    told = ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "2", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(application(), [*told, "--max-replicas", "2", "--duration", "5"])
    assert result.exit_code == 1, result.output
    assert "Nothing up to 2 replicas holds P95 &lt;= 2 ms" in (tmp_path / "out" / "report.html").read_text()


def test_a_plan_of_an_earlier_version_is_refused_in_a_line(tmp_path: Path):
    (tmp_path / "plan.json").write_text('{"simulated": true, "options": []}')
    with pytest.raises(ArtifactError, match="is of an earlier version: run `kis plan` again"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "flag", [["--trace", "nowhere.csv"], ["--pattern", "burst"], ["--target-ms", "-5"], ["--percentile", "101"]]
)
def test_a_wrong_flag_is_refused(tmp_path: Path, flag: list[str]):
    PROFILE.write(tmp_path / "profile.json")
    result = CliRunner().invoke(
        application(), ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "30", *flag]
    )
    assert result.exit_code != 0


def test_the_cheapest_gpu_that_holds_is_chosen_although_it_needs_more_replicas():
    slow = PROFILE.model_copy(update={"service_time": flat_profile([0.015, 0.018, 0.021, 0.024]).service_time})
    arrivals, grid = constant(500, 20), PlanGrid(max_replicas=8, max_batch_size=(4,))
    fast_plan, slow_plan = (plan_capacity(one, arrivals, 0.060, grid, draws=4) for one in (PROFILE, slow))
    assert fast_plan.best is not None
    assert slow_plan.best is not None
    assert slow_plan.best.service.replicas > fast_plan.best.service.replicas
    plans = [priced(fast_plan, "fast", 4.0), priced(slow_plan, "slow", 1.0)]
    best = cheapest(plans).best
    assert best is not None
    assert (best.gpu, best.cost_per_hour) == ("slow", 1.0 * slow_plan.best.service.replicas)
    dearer = cheapest([plans[0], priced(slow_plan, "slow", 4.0)]).best
    assert dearer is not None
    assert (dearer.gpu, dearer.cost_per_hour) == ("fast", 4.0 * fast_plan.best.service.replicas)


def test_a_plan_with_prices_says_what_its_answer_costs_and_one_without_says_nothing_of_money(tmp_path: Path):
    PROFILE.write(tmp_path / "profile.json")
    usual = ["plan", "--profile", str(tmp_path / "profile.json"), "--target-ms", "40", "--pattern", "constant"]
    usual += ["--set", "rate=300", "--duration", "10", "--max-replicas", "4", "--max-batch-size", "4"]
    money = ["--price-per-gpu-hour", "2.5", "--currency", "EUR"]
    other = ["--other-gpus", f"{{old: {{profile: {tmp_path}/profile.json, price_per_gpu_hour: 0.5}}}}"]
    plain = CliRunner().invoke(application(["plan"]), [*usual, "--out", str(tmp_path / "plain")])
    priced_too = CliRunner().invoke(application(["plan"]), [*usual, *money, *other, "--out", str(tmp_path / "priced")])
    assert (plain.exit_code, priced_too.exit_code) == (0, 0), plain.output + priced_too.output
    told = json.loads((tmp_path / "priced" / "plan.json").read_text())
    replicas = told["best"]["service"]["replicas"]
    assert (told["best"]["gpu"], told["best"]["cost_per_hour"]) == ("old", 0.5 * replicas)
    assert " on old, " in " ".join(priced_too.output.split())
    assert "EUR an hour" in (tmp_path / "priced" / "report.md").read_text()
    assert "EUR" not in plain.output + (tmp_path / "plain" / "report.html").read_text()
    half = CliRunner().invoke(
        application(["plan"]), [*usual, "--price-per-gpu-hour", "2", "--out", str(tmp_path / "x")]
    )
    assert half.exit_code != 0
