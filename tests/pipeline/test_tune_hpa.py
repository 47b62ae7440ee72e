"""An HPA is found in the simulator, and told as what a cluster takes."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from loadgen.artifact import ArtifactError
from testbed.autoscaling.build import build_policy
from testbed.cli.main import application
from testbed.errors import ConfigError
from testbed.pipeline import tune_hpa as under_test
from testbed.pipeline.tune_hpa import MeanOutcome, better, mean_outcome, tune_families, tune_hpa
from testbed.pipeline.tune_hpa_config import TuneConfig
from testbed.reporting.reports import write_report
from testbed.simulation.cluster.services import read_services
from tests.oracles.cluster_worlds import flat_profile, six_replicas
from tests.pages import figures_of, texts_of


def claim_of(folder: Path) -> str:
    """The sentence on top of the folder's page."""
    found = re.search(r'<div class="claim"><p>(.*?)</p>', (folder / "report.html").read_text())
    assert found is not None
    return found[1].replace("\u202f", ",")


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": six_replicas(folder),
        "traffic": {"m": {"pattern": "periodic", "parameters": {"mean": 400, "amplitude": 300, "period_s": 120}}},
        "policies": {"m": {"kind": "hpa", "metric": "in_flight_requests", "target": 0.1, "max_replicas": 6}},
        "flags": {"sync_period_s": 5, "downscale_stabilization_s": 10},
        "window_s": 5,
        "duration_s": 240,
        "allowed_slo_violation_rate": 0.05,
        "trials": 25,
        "seeds": 1,
        "check_seeds": 2,
        **changes,
    }


def test_one_that_keeps_everything_running_is_improved_on(tmp_path: Path) -> None:
    shares: list[float] = []
    found = tune_hpa(TuneConfig.model_validate(settings(tmp_path)), tmp_path / "out", shares.append)
    untuned, tuned = (MeanOutcome(**found["outcomes"][name]) for name in ("untuned", "tuned"))
    assert tuned.gpu_seconds < 0.9 * untuned.gpu_seconds  # that one has all six replicas all the time
    assert tuned.slo_violation_rate < 0.10
    assert shares[-1] == 1.0
    text = (tmp_path / "out" / "hpa.yaml").read_text()
    assert f"untuned: P95 {untuned.p95_ms:.1f} ms" in text
    body = yaml.safe_load(text)
    assert body["kind"] == "HorizontalPodAutoscaler"
    assert body["spec"]["maxReplicas"] == 6
    assert body["spec"]["metrics"][0]["pods"]["metric"]["name"] == found["policies"]["tuned"]["metric"]
    assert len((tmp_path / "out" / "trials.csv").read_text().splitlines()) == 26
    page = write_report(tmp_path / "out").read_text()
    over_time, trials = (set(texts_of(svg)) for svg in figures_of(page))
    assert {"tuned", "untuned", f"fixed-{found['fixed']['replicas']}"} <= over_time
    assert {"best so far", "GPU-seconds a run"} <= trials
    assert json.loads((tmp_path / "out" / "tuned.json").read_text()) == found


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(settings(tmp_path, trials=3))
    results = [tune_hpa(config, tmp_path / name, lambda share: None) for name in ("one", "other")]
    assert results[0] == results[1]


def families(folder: Path) -> dict[str, Any]:
    """A gentle one, and one of two kinds of traffic."""
    wave = {"pattern": "periodic", "parameters": {"mean": 200, "amplitude": 50, "period_s": 60}}
    steps = {"pattern": "fluctuating", "parameters": {"low": 100, "high": 500, "interval_s": 30}}
    told = settings(folder, trials=3, duration_s=60, policies={}, families={"wave": [wave], "steps": [steps, wave]})
    return {key: value for key, value in told.items() if key != "traffic"}


def test_each_family_gets_an_hpa_of_its_own_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(families(tmp_path))
    shares: list[float] = []
    found = tune_families(config, tmp_path / "out", shares.append)
    assert list(found) == ["wave", "steps"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    alone = tune_hpa(config.of_family("steps"), tmp_path / "alone", lambda share: None)
    assert found["steps"] == alone
    page = write_report(tmp_path / "out").read_text()
    assert "<h2>wave</h2>" in page
    assert "<h2>steps</h2>" in page
    assert len(figures_of(page)) == 4
    headings = {text for svg in figures_of(page) for text in texts_of(svg)}
    assert "fluctuating (low 100, high 500, interval_s 30)" in headings
    both = [found[name]["outcomes"]["tuned"]["gpu_seconds"] for name in found]
    assert both[0] != both[1]
    (tmp_path / "out" / "wave" / "tuned.json").write_text("{}")
    assert tune_families(config, tmp_path / "out", shares.append)["wave"] == {}
    with pytest.raises(ConfigError, match=r"other settings \(seed differs\)"):
        tune_families(config.model_copy(update={"seed": 2}), tmp_path / "out", shares.append)


def test_a_search_that_was_interrupted_goes_on_with_the_trials_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)  # to caplog
    config = TuneConfig.model_validate(settings(tmp_path, trials=6, duration_s=60))
    whole = tune_hpa(config, tmp_path / "whole", lambda share: None)
    played: list[Any] = []

    def counted(*arguments: Any) -> MeanOutcome:
        played.append(arguments)
        if len(played) == 4:
            raise KeyboardInterrupt
        return mean_outcome(*arguments)

    monkeypatch.setattr(under_test, "mean_outcome", counted)
    with pytest.raises(KeyboardInterrupt):
        tune_hpa(config, tmp_path / "out", lambda share: None)
    assert not caplog.text
    with pytest.raises(
        ArtifactError, match=f"`kis tune-hpa CONFIG --out {tmp_path / 'out'}` goes on with its 3 trials"
    ):
        write_report(tmp_path / "out")
    seeds = [config.seed]
    assert [one[3] for one in played] == [seeds] * 4
    assert tune_hpa(config, tmp_path / "out", lambda share: None) == whole
    assert [one[3] for one in played].count(seeds) == 4 + 3  # of six, three were there
    for name in ("trials.csv", "tuned.json", "hpa.yaml"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_trial_plays_every_variant(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(families(tmp_path))
    first, second = config.of_family("steps"), config.of_family("wave")
    services = read_services(config.cluster)
    given = {"kind": "fixed", "replicas": 3}
    both = mean_outcome(first, services, given, [1])
    steps = mean_outcome(first.model_copy(update={"variants": ()}), services, given, [1])
    wave = mean_outcome(second, services, given, [1])
    assert both.gpu_seconds == pytest.approx((steps.gpu_seconds + wave.gpu_seconds) / 2)
    assert both.slo_violation_rate == pytest.approx((steps.slo_violation_rate + wave.slo_violation_rate) / 2)


def test_what_is_missed_costs_more_than_a_replica() -> None:
    good, bad = MeanOutcome(0.009, 1000.0, 20.0, 3), MeanOutcome(0.03, 800.0, 40.0, 3)
    assert good.cost(0.01) == 1000.0
    assert bad.cost(0.01) > 1000.0


CONSTANT = {"m": {"pattern": "constant", "parameters": {"rate": 400}}}


def test_a_search_in_which_nothing_holds_says_so(tmp_path: Path) -> None:
    """99.93 % over the target was told as "tuned", with exit code 0 and an hpa.yaml without a word."""
    told = settings(tmp_path, trials=2, traffic=CONSTANT, policies={}, duration_s=60)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(told))
    arguments = ["tune-hpa", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--target-ms", "5"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "It does not hold: 100.00% of the requests miss 5 ms, 5.00% are allowed" in said
    assert "Not even 6 replicas all the time hold that share: raise max_replicas or the target" in said
    found = json.loads((tmp_path / "out" / "tuned.json").read_text())
    assert found["holds"] is False
    assert "NOTE: It does not hold" in (tmp_path / "out" / "hpa.yaml").read_text()
    claim = claim_of(tmp_path / "out")
    assert claim.startswith("No HPA that was tried holds the target: under the best of them 100.00 % of the requests")
    assert claim.endswith("and neither does the largest fixed number.")


def test_runs_in_which_nothing_is_answered_in_time_are_all_missed(tmp_path: Path) -> None:
    """A batch of 60 s: nothing ended in a run of 20 s, and no miss was counted."""
    flat_profile([60.0]).write(tmp_path / "profile.json")
    told = settings(tmp_path, duration_s=20, traffic=CONSTANT)
    flat_profile([60.0]).write(tmp_path / "profile.json")
    told["cluster"]["models"][0]["max_batch_size"] = 1
    config = TuneConfig.model_validate(told)
    found = mean_outcome(config, read_services(config.cluster), {"kind": "fixed", "replicas": 1}, [1])
    assert (found.slo_violation_rate, found.p95_ms) == (1.0, None)


def test_an_hpa_that_does_not_pay_is_set_beside_the_fixed_number_that_does_as_well(tmp_path: Path) -> None:
    wasteful = {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "min_replicas": 3, "max_replicas": 6}
    told = settings(tmp_path, trials=1, traffic=CONSTANT, policies={"m": wasteful}, duration_s=60)
    told["cluster"]["models"][0]["replicas"] = 3
    found = tune_hpa(TuneConfig.model_validate(told), tmp_path / "out", lambda share: None)
    assert found["fixed"]["replicas"] == 2  # of 250/s each
    assert found["fixed"]["gpu_seconds"] == 120.0
    note = next(one for one in found["notes"] if one.startswith("It saves nothing"))
    missed = f"{found['fixed']['slo_violation_rate']:.2%}"
    assert f"2 replicas all the time miss {missed} (5.00% allowed) with 120 GPU-seconds" in note
    assert f"miss {missed} (5.00% allowed)" in (tmp_path / "out" / "hpa.yaml").read_text()
    write_report(tmp_path / "out")
    as_good = "A fixed number is as good: 2 replicas all the time hold the target with 120 GPU-seconds a run; under"
    assert claim_of(tmp_path / "out").startswith(as_good)


def test_of_two_that_hold_the_cheaper_is_better_and_of_two_that_do_not_the_one_that_misses_less() -> None:
    cheap, dear, bad = (MeanOutcome(*told, 20.0, 3) for told in ((0.008, 100.0), (0.001, 200.0), (0.4, 10.0)))
    assert better({"untuned": cheap, "tuned": dear}, 0.01) == "untuned"
    assert better({"untuned": dear, "tuned": cheap}, 0.01) == "tuned"
    assert better({"untuned": bad, "tuned": dear}, 0.01) == "tuned"
    assert better({"untuned": bad, "tuned": dear}, 0.0001) == "tuned"


def test_the_better_of_the_given_and_the_found_is_written(tmp_path: Path) -> None:
    """The given HPA held less than half as much as the "tuned" one, and the "tuned" one was written."""
    good = {
        "kind": "hpa",
        "metric": "requests_per_second",
        "target": 200,
        "max_replicas": 6,
        "window_s": 5,
        "metrics_delay_s": 1,
    }
    gentle = {"m": {"pattern": "constant", "parameters": {"rate": 300}}}
    good["flags"] = {"sync_period_s": 5, "downscale_stabilization_s": 60}
    told = settings(tmp_path, trials=1, policies={"m": good}, metrics=["in_flight_requests"], seed=4, traffic=gentle)
    told["cluster"]["models"][0]["replicas"] = 2
    config = TuneConfig.model_validate(told)
    found = tune_hpa(config, tmp_path / "out", lambda share: None)
    given, tuned = (MeanOutcome(**found["outcomes"][name]) for name in ("untuned", "tuned"))
    assert given.holds(0.05)  # or this says nothing
    assert given.gpu_seconds <= tuned.gpu_seconds
    assert found["chosen"] == "untuned"
    assert "The search found nothing better than the given HPA: that one is written" in found["notes"]
    body = yaml.safe_load((tmp_path / "out" / "hpa.yaml").read_text())
    assert body["spec"]["metrics"][0]["pods"]["metric"]["name"] == "requests_per_second"
    policy = build_policy({"kind": "hpa", "tuned": str(tmp_path / "out" / "tuned.json")}, 6, None)
    assert policy.name == "hpa-requests_per_second-200"


def test_no_target_is_tried_that_a_replica_cannot_max_step(tmp_path: Path) -> None:
    """A rate target above what a replica serves is never reached: such an HPA never scales."""
    told = settings(tmp_path, trials=30, metrics=["requests_per_second"], duration_s=20)
    tune_hpa(TuneConfig.model_validate(told), tmp_path / "out", lambda share: None)
    rows = (tmp_path / "out" / "trials.csv").read_text().splitlines()
    place = rows[0].split(",").index("target_requests_per_second")
    targets = [float(row.split(",")[place]) for row in rows[1:]]
    assert max(targets) < 250  # 4 in 16 ms
    assert max(targets) > 150


def test_an_hpa_that_more_traffic_would_break_is_told_of(tmp_path: Path) -> None:
    both = {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "min_replicas": 2, "max_replicas": 2}
    told = settings(tmp_path, trials=1, policies={"m": both}, duration_s=60)
    told["cluster"]["models"][0] |= {"replicas": 2, "max_replicas": 2}
    told["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 410}}}
    found = tune_hpa(TuneConfig.model_validate(told), tmp_path / "out", lambda share: None)
    assert found["holds"]
    assert found["louder"]["slo_violation_rate"] > 0.3  # 492/s for two of 250
    assert any(one.startswith("At 1.2 times the rate") for one in found["notes"])


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    wrong = TuneConfig.model_validate(settings(tmp_path, policies={"m": {"kind": "fixed", "replicas": 3}}))
    with pytest.raises(ConfigError, match="kind 'fixed'; give the HPA to improve on, or none"):
        tune_hpa(wrong, tmp_path / "out", lambda share: None)
    with pytest.raises(ValidationError, match="metrics: qps is none of"):
        TuneConfig.model_validate(settings(tmp_path, metrics=["qps"]))


def test_the_command_shows_both_and_where_the_yaml_is(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(settings(tmp_path, trials=2, policies={}, allowed_slo_violation_rate=0.2))
    )
    arguments = ["tune-hpa", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--target-ms", "60"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    assert "untuned" in result.output
    assert [Path(line).name for line in result.output.splitlines()[-2:]] == ["hpa.yaml", "report.html"]
    before = (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "out" / "report.html").unlink()
    assert CliRunner().invoke(application(), ["report", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "report.html").read_text() == before
    for log in (tmp_path / "out").glob("logs/*/*.parquet"):  # as an earlier version left it
        log.unlink()
    assert "Replicas over time were not kept" in write_report(tmp_path / "out").read_text()
    assert "target of 60 ms" in (tmp_path / "out" / "hpa.yaml").read_text()
