"""Settings of policies are found in the simulator, and told as what a cluster takes."""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from loadgen.artifact import ArtifactError
from testbed.autoscaling.build import build_policy, resolved
from testbed.autoscaling.metrics import ReplicaCapacity
from testbed.autoscaling.policies import Hpa, Oracle
from testbed.autoscaling.search import ServedService
from testbed.cli.main import application
from testbed.controller.config import ControllerConfig
from testbed.errors import ConfigError
from testbed.pipeline.manifests import manifest_of
from testbed.pipeline.setting_search import cheapest, finalists
from testbed.pipeline.tune import tune, tune_families
from testbed.pipeline.tune_config import TuneConfig
from testbed.pipeline.tuning_runs import MeanOutcome, Tuning
from testbed.reporting.reports import write_report
from tests.oracles.cluster_worlds import six_replicas, with_money
from tests.pages import figures_of, texts_of


def claim_of(folder: Path) -> str:
    """The sentence on top of the folder's page."""
    found = re.search(r'<div class="claim"><p>(.*?)</p>', (folder / "report.html").read_text())
    assert found is not None
    return found[1].replace("\u202f", ",")


CALM = {"rate": 0.0, "time": 0.0, "draws": False}
CONSTANT = {"m": {"pattern": "constant", "parameters": {"rate": 400}}}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": six_replicas(folder),
        "traffic": {"m": {"pattern": "periodic", "parameters": {"mean": 500, "amplitude": 450, "period_s": 240}}},
        "policies": {"m": {"kind": "hpa", "metric": "in_flight_requests", "target": 0.1, "max_replicas": 6}},
        "candidates": {"hpa": {"kind": "hpa"}},
        "flags": {"sync_period_s": 5, "downscale_stabilization_s": 10},
        "window_s": 5,
        "duration_s": 240,
        "allowed_slo_violation_rate": 0.05,
        "trials": 25,
        "seeds": 1,
        "check_seeds": 3,
        **changes,
    }


def config_of(folder: Path, **changes: Any) -> TuneConfig:
    return TuneConfig.model_validate(settings(folder, **changes))


def nothing(share: float) -> None:
    """Nobody watches."""


def test_one_that_keeps_everything_running_is_improved_on(tmp_path: Path) -> None:
    shares: list[float] = []
    found = tune(config_of(tmp_path, duration_s=480), tmp_path / "out", shares.append)
    given, tuned = (MeanOutcome(**found["outcomes"][name]) for name in ("given", "hpa"))
    assert found["chosen"] == "hpa"
    assert tuned.gpu_seconds < 0.9 * given.gpu_seconds  # that one has all six replicas all the time
    assert tuned.slo_violation_rate < 0.10
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    text = (tmp_path / "out" / "hpa.yaml").read_text()
    assert f"P95 {tuned.p95_ms:.1f} ms; {tuned.slo_violation_rate:.2%} over the target" in text
    body = yaml.safe_load(text)
    assert body["kind"] == "HorizontalPodAutoscaler"
    assert body["spec"]["maxReplicas"] == 6
    assert body["spec"]["metrics"][0]["pods"]["metric"]["name"] == found["policies"]["hpa"]["metric"]
    assert len((tmp_path / "out" / "hpa" / "trials.csv").read_text().splitlines()) == 26
    page = write_report(tmp_path / "out").read_text()
    over_time, trials = (set(texts_of(svg)) for svg in figures_of(page))
    assert {"hpa", "given", "fixed"} <= over_time
    assert {"finalists, on further runs", "GPU-seconds a run"} <= trials
    assert json.loads((tmp_path / "out" / "tuned.json").read_text()) == found


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    results = [tune(config_of(tmp_path, trials=3), tmp_path / name, nothing) for name in ("one", "other")]
    assert results[0] == results[1]


def test_every_candidate_is_searched_and_told_as_what_applies_it(tmp_path: Path) -> None:
    candidates = {"hpa": {"kind": "hpa", "metric": "requests_per_second"}, "knative": {"kind": "knative"}}
    config = config_of(tmp_path, candidates=candidates, trials=12, allowed_slo_violation_rate=0.3)
    found = tune(config, tmp_path / "out", nothing)
    assert list(found["policies"]) == ["given", "fixed", "hpa", "knative"]
    assert found["policies"]["hpa"]["metric"] == "requests_per_second"  # as given
    knative = yaml.safe_load((tmp_path / "out" / "knative.yaml").read_text())
    assert knative["policy"]["kind"] == "knative"
    assert knative["limits"]["max_replicas"] == 6
    written = ControllerConfig.model_validate(knative)
    assert build_policy(written.policy, 6, None).name == "knative"
    again = {"kind": "knative", "tuned": str(tmp_path / "out" / "tuned.json")}
    assert resolved(again) == found["policies"]["knative"]
    assert resolved({**again, "kind": "hpa"}) == found["policies"]["hpa"]  # not the given one
    assert resolved({**again, "kind": "hpa", "policy": "given"}) == found["policies"]["given"]
    with pytest.raises(ConfigError, match=r"has no policy of kind keda: it has given \(hpa\), fixed"):
        resolved({**again, "kind": "keda"})


def test_a_further_candidate_is_added_to_a_search_that_is_there(tmp_path: Path) -> None:
    first = tune(config_of(tmp_path, trials=3), tmp_path / "out", nothing)
    trials = (tmp_path / "out" / "hpa" / "trials.csv").stat().st_mtime_ns
    more = {"hpa": {"kind": "hpa"}, "knative": {"kind": "knative"}}
    second = tune(config_of(tmp_path, trials=3, candidates=more), tmp_path / "out", nothing)
    assert set(second["policies"]) - set(first["policies"]) == {"knative"}
    assert second["outcomes"]["hpa"] == first["outcomes"]["hpa"]
    assert (tmp_path / "out" / "hpa" / "trials.csv").stat().st_mtime_ns == trials


def families(folder: Path) -> dict[str, Any]:
    """A gentle one, and one of two kinds of traffic."""
    wave = {"pattern": "periodic", "parameters": {"mean": 200, "amplitude": 50, "period_s": 60}}
    steps = {"pattern": "fluctuating", "parameters": {"low": 100, "high": 500, "interval_s": 30}}
    told = settings(folder, trials=3, duration_s=60, policies={}, families={"wave": [wave], "steps": [steps, wave]})
    return {key: value for key, value in told.items() if key != "traffic"}


def test_each_family_gets_a_search_of_its_own_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(families(tmp_path))
    shares: list[float] = []
    found = tune_families(config, tmp_path / "out", shares.append)
    assert list(found) == ["wave", "steps"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    alone = tune(config.of_family("steps"), tmp_path / "alone", nothing)
    assert found["steps"] == alone
    page = write_report(tmp_path / "out").read_text()
    assert "<h2>wave</h2>" in page
    assert "<h2>steps</h2>" in page
    assert len(figures_of(page)) == 4
    headings = {text for svg in figures_of(page) for text in texts_of(svg)}
    assert any(text.startswith("fluctuating (low 100 requests/s, high 500") for text in headings)
    both = [found[name]["outcomes"]["hpa"]["p95_ms"] for name in found]
    assert both[0] != both[1]
    kept = {**found["wave"], "notes": ["kept"]}
    (tmp_path / "out" / "wave" / "tuned.json").write_text(json.dumps(kept))
    assert tune_families(config, tmp_path / "out", shares.append)["wave"]["notes"] == ["kept"]
    with pytest.raises(ConfigError, match=r"other settings \(seed differs\)"):
        tune_families(config.model_copy(update={"seed": 2}), tmp_path / "out", shares.append)


def test_a_search_that_was_interrupted_goes_on_with_the_trials_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)  # to caplog
    config = config_of(tmp_path, trials=6, duration_s=60, policies={})
    whole = tune(config, tmp_path / "whole", nothing)
    played: list[Any] = []
    real = Tuning.played

    def counted(self: Tuning, settings: Any, stage: Any, *more: Any) -> MeanOutcome:
        if stage == self.searched:
            played.append(settings)
            if len(played) == 4:
                raise KeyboardInterrupt
        return real(self, settings, stage, *more)

    monkeypatch.setattr(Tuning, "played", counted)
    with pytest.raises(KeyboardInterrupt):
        tune(config, tmp_path / "out", nothing)
    assert not caplog.text
    with pytest.raises(ArtifactError, match=f"`kis tune CONFIG --out {tmp_path / 'out'}` goes on with its 3 trials"):
        write_report(tmp_path / "out")
    assert tune(config, tmp_path / "out", nothing) == whole
    assert len(played) == 4 + 3  # of six, three were there
    for name in ("hpa/trials.csv", "hpa/front.json", "tuned.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_trial_plays_every_variant(tmp_path: Path) -> None:
    config = TuneConfig.model_validate({**families(tmp_path), "variation": CALM})
    given = {"kind": "fixed", "replicas": 3}

    def outcome(of: TuneConfig) -> MeanOutcome:
        tuning = Tuning.of(of)
        return tuning.played(given, tuning.searched)

    steps_alone = config.of_family("steps").model_copy(update={"variants": ()})
    both, steps, wave = (outcome(one) for one in (config.of_family("steps"), steps_alone, config.of_family("wave")))
    assert both.gpu_seconds == pytest.approx((steps.gpu_seconds + wave.gpu_seconds) / 2)
    assert both.slo_violation_rate == pytest.approx((steps.slo_violation_rate + wave.slo_violation_rate) / 2)


def test_the_search_the_choice_and_the_check_see_different_runs(tmp_path: Path) -> None:
    tuning = Tuning.of(config_of(tmp_path, seed=3))
    seeds = [set(stage.seeds) for stage in (tuning.searched, tuning.selected, tuning.checked)]
    assert not seeds[0] & seeds[1]
    assert not seeds[1] & seeds[2]
    assert tuning.selected.part == tuning.checked.part == (0.0, 1.0)  # of a pattern nothing is held out


def test_a_trace_is_checked_on_what_the_search_has_not_seen(tmp_path: Path) -> None:
    """Its last part is four times as loud: what holds the first part does not hold it, and that is said."""
    times = [*np.arange(0, 120, 1 / 150), *np.arange(120, 200, 1 / 600)]
    (tmp_path / "trace.txt").write_text("\n".join(f"{time:.4f}" for time in times))
    traffic = {"m": {"trace": str(tmp_path / "trace.txt"), "format": "timestamps"}}
    few = {"kind": "hpa", "metric": "in_flight_requests", "min_replicas": 1, "max_replicas": 1}
    config = config_of(tmp_path, traffic=traffic, candidates={"few": few}, policies={}, trials=2, variation=CALM)
    found = tune(config, tmp_path / "out", nothing)
    assert (config.searched_part, config.checked_part) == ((0.0, 0.6), (0.6, 1.0))
    assert found["fixed"]["replicas"] == 1  # 250/s
    assert found["fixed"]["slo_violation_rate"] > 0.4
    assert not found["holds"]
    whole = tune(config.model_copy(update={"held_out": 0.0}), tmp_path / "whole", nothing)
    assert whole["fixed"]["replicas"] == 3
    assert whole["holds"]


def test_what_was_chosen_where_nothing_held_is_told_of_though_it_holds_later(tmp_path: Path) -> None:
    """In its first part all six replicas, of 250/s each, are too few; in its last one would do."""
    times = [*np.arange(0, 120, 1 / 1800), *np.arange(120, 200, 1 / 100)]
    (tmp_path / "trace.txt").write_text("\n".join(f"{time:.4f}" for time in times))
    traffic = {"m": {"trace": str(tmp_path / "trace.txt"), "format": "timestamps"}}
    found = tune(config_of(tmp_path, traffic=traffic, policies={}, trials=3, variation=CALM), tmp_path / "out", nothing)
    assert found["holds"]
    assert found["selected"]["hpa"]["slo_violation_rate"] > 0.05
    assert found["notes"][0].startswith(
        "Nothing that was tried holds 5.00% on the traffic that was searched: hpa misses"
    )
    assert "NOTE: Nothing that was tried holds" in (tmp_path / "out" / "hpa.yaml").read_text()


def test_a_search_in_which_nothing_holds_says_so_and_writes_nothing_to_apply(tmp_path: Path) -> None:
    """99.93 % over the target was told as "tuned", with exit code 0 and an hpa.yaml without a word."""
    told = settings(tmp_path, trials=2, traffic=CONSTANT, policies={}, duration_s=60)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(told))
    arguments = ["tune", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--target-ms", "17"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 1, result.output
    said = " ".join(result.output.split())
    assert "hpa does not hold the target on traffic that it has not seen" in said
    assert "Not even 6 replicas all the time hold that share: raise max_replicas or the target" in said
    found = json.loads((tmp_path / "out" / "tuned.json").read_text())
    assert found["holds"] is False
    assert not list((tmp_path / "out").glob("*.yaml"))
    claim = claim_of(tmp_path / "out")
    assert claim.startswith("Nothing that was tried holds the target: under the best of it, hpa,")
    assert claim.endswith("and neither does the largest fixed number.")


def test_a_target_that_no_replica_can_hold_is_refused(tmp_path: Path) -> None:
    told = config_of(tmp_path)
    models = [told.cluster.models[0].model_copy(update={"latency_target_s": 0.001})]
    impossible = told.model_copy(update={"cluster": told.cluster.model_copy(update={"models": (*models,)})})
    with pytest.raises(ConfigError, match="no rate has P95 within 1 ms on one replica of 'm'"):
        tune(impossible, tmp_path / "out", nothing)


def test_one_that_does_not_pay_loses_to_the_fixed_number_that_does_as_well(tmp_path: Path) -> None:
    wasteful = {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "min_replicas": 3, "max_replicas": 6}
    told = settings(tmp_path, trials=1, traffic=CONSTANT, policies={"m": wasteful}, duration_s=60, variation=CALM)
    told["cluster"]["models"][0]["replicas"] = 3
    found = tune(TuneConfig.model_validate(told), tmp_path / "out", nothing)
    assert found["chosen"] == "fixed"
    assert found["fixed"]["replicas"] == 2  # of 250/s each
    assert found["fixed"]["gpu_seconds"] == 120.0
    assert any(note.startswith("No candidate saves a hundredth") for note in found["notes"])
    write_report(tmp_path / "out")
    assert claim_of(tmp_path / "out").startswith("A fixed number is as good on this traffic: with 2 replicas all the")


def test_of_those_that_hold_the_cheapest_is_taken_and_a_simpler_one_that_is_as_good() -> None:
    cheap, dear, bad = (MeanOutcome(*told, 20.0, 3) for told in ((0.008, 100.0), (0.001, 200.0), (0.4, 10.0)))
    assert cheapest([dear, cheap, bad], 0.01) == 1
    assert cheapest([bad, dear], 0.01) == 1
    assert cheapest([bad, dear], 0.0001) == 1
    as_good = MeanOutcome(0.008, 100.5, 20.0, 3)
    assert cheapest([as_good, cheap], 0.01) == 0
    unsure = MeanOutcome(0.008, 90.0, 20.0, 3, slo_violation_rate_error=0.005)
    assert cheapest([unsure, cheap], 0.01) == 1
    assert cheapest([unsure, bad], 0.01) == 0  # better than nothing


def test_finalists_are_those_of_the_front_near_the_allowed_share() -> None:
    front = [(0.0, 1000.0), (0.001, 500.0), (0.005, 300.0), (0.01, 200.0), (0.02, 150.0), (0.05, 120.0), (0.5, 10.0)]
    beaten = [(0.01, 201.0), (0.5, 11.0)]
    assert finalists([*front, *beaten, None], 0.01) == [1, 2, 3, 4, 5]
    assert finalists(front[-2:], 0.01) == [0, 1]  # there are no others


def test_the_policy_of_today_stays_if_it_is_better(tmp_path: Path) -> None:
    """The given HPA held less than half as much as the "tuned" one, and the "tuned" one was written."""
    good = {"kind": "hpa", "metric": "requests_per_second", "target": 200, "max_replicas": 6, "window_s": 5}
    good |= {"metrics_delay_s": 1, "flags": {"sync_period_s": 5, "downscale_stabilization_s": 60}}
    swing = {"m": {"pattern": "periodic", "parameters": {"mean": 500, "amplitude": 350, "period_s": 120}}}
    worse = {"hpa": {**good, "target": 60}}
    told = settings(tmp_path, trials=1, policies={"m": good}, candidates=worse, traffic=swing, variation=CALM)
    found = tune(TuneConfig.model_validate({**told, "allowed_slo_violation_rate": 0.4}), tmp_path / "out", nothing)
    assert found["chosen"] == "given"
    assert "No candidate is better than the policy of today" in found["notes"]
    body = yaml.safe_load((tmp_path / "out" / "given.yaml").read_text())
    assert body["spec"]["metrics"][0]["pods"]["metric"]["name"] == "requests_per_second"
    policy = build_policy({"kind": "hpa", "tuned": str(tmp_path / "out" / "tuned.json")}, 6, None)
    assert policy.name == "hpa-requests_per_second-200"


def test_what_a_policy_would_try_first_is_tried_first(tmp_path: Path) -> None:
    tune(config_of(tmp_path, trials=14, duration_s=20), tmp_path / "out", nothing)
    rows = list(csv.DictReader((tmp_path / "out" / "hpa" / "trials.csv").open()))
    service = Tuning.of(config_of(tmp_path)).service
    first = [start["metric"] for start in Hpa.first_tried(service)]
    assert [row["metric"] for row in rows[: len(first)]] == first


def test_no_target_is_tried_that_a_replica_cannot_reach(tmp_path: Path) -> None:
    """A rate target above what a replica serves is never reached: such an HPA never scales."""
    by_rate = {"hpa": {"kind": "hpa", "metric": "requests_per_second"}}
    tune(config_of(tmp_path, trials=30, candidates=by_rate, duration_s=20), tmp_path / "out", nothing)
    rows = (tmp_path / "out" / "hpa" / "trials.csv").read_text().splitlines()
    place = rows[0].split(",").index("target_requests_per_second")
    targets = [float(row.split(",")[place]) for row in rows[1:]]
    assert max(targets) < 250  # 4 in 16 ms
    assert max(targets) > 150


def test_one_that_more_traffic_would_break_is_told_of(tmp_path: Path) -> None:
    both = {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "min_replicas": 2, "max_replicas": 2}
    told = settings(tmp_path, trials=1, policies={"m": both}, duration_s=60, variation=CALM)
    told["cluster"]["models"][0] |= {"replicas": 2, "max_replicas": 2}
    told["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 410}}}
    found = tune(TuneConfig.model_validate(told), tmp_path / "out", nothing)
    assert found["holds"]
    assert found["louder"]["slo_violation_rate"] > 0.3  # 492/s for two of 250
    assert any(one.startswith("At 1.2 times the rate") for one in found["notes"])


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = config_of(tmp_path, candidates={"o": {"kind": "oracle"}})
    with pytest.raises(ConfigError, match="candidates: o: kind oracle knows the arrivals to come: take it out"):
        tune(oracle, tmp_path / "out", nothing)
    assert not (tmp_path / "out").exists()
    monkeypatch.delattr(Oracle, "suggested")
    with pytest.raises(ValidationError, match="candidates: o: a policy of kind oracle offers no search"):
        config_of(tmp_path, candidates={"o": {"kind": "oracle"}})
    with pytest.raises(ValidationError, match="'fixed' names files"):
        config_of(tmp_path, candidates={"fixed": {"kind": "hpa"}})


def test_the_command_shows_all_and_where_the_yaml_is(tmp_path: Path) -> None:
    told = settings(tmp_path, trials=2, policies={}, allowed_slo_violation_rate=0.6, traffic=CONSTANT, variation=CALM)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(told))
    arguments = ["tune", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--target-ms", "60"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    assert "fixed" in result.output
    assert [Path(line).name for line in result.output.splitlines()[-2:]] == ["hpa.yaml", "report.html"]
    before = (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "out" / "report.html").unlink()
    assert CliRunner().invoke(application(), ["report", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "report.html").read_text() == before
    for log in (tmp_path / "out").glob("logs/*/*.parquet"):
        log.unlink()
    assert "Replicas over time were not kept" in write_report(tmp_path / "out").read_text()
    assert "target of 60 ms" in (tmp_path / "out" / "hpa.yaml").read_text()


def test_keda_on_what_no_prometheus_counts_is_told_as_a_configuration_of_the_controller(tmp_path: Path) -> None:
    service = ServedService(ReplicaCapacity(1, 8, 100.0, 80.0, 0.1), 4, 10.0, 1.0, 15.0)
    told = {}
    for metric in ("arrivals_per_second", "requests_per_second"):
        today = {"kind": "keda", "metric": metric, "threshold": 5.0}
        told[metric], body = manifest_of(today, service, config_of(tmp_path))
        assert "policy" in body or "spec" in body
    assert told == {"arrivals_per_second": "kis controller THIS", "requests_per_second": "kubectl apply -f THIS"}


def test_the_cheapest_in_money_is_looked_for_where_that_is_the_objective(tmp_path: Path) -> None:
    cluster = with_money(six_replicas(tmp_path))
    changes: dict[str, Any] = {"cluster": cluster, "objective": "cost", "allowed_slo_violation_rate": 0.3, "trials": 8}
    found = tune(config_of(tmp_path, **changes), tmp_path / "out", nothing)
    outcomes = {name: MeanOutcome(**outcome) for name, outcome in found["outcomes"].items()}
    fixed = outcomes["fixed"]
    assert fixed.cost == pytest.approx(3.6 * fixed.gpu_seconds / 3600)  # its nodes are full all the time
    hpa = outcomes["hpa"]
    assert hpa.cost is not None
    assert hpa.cost > 3.6 * hpa.gpu_seconds / 3600  # nodes that start, and that are empty
    held = {name: one.cost for name, one in outcomes.items() if one.holds(0.3)}
    assert found["chosen"] in held
    rows = list(csv.DictReader((tmp_path / "out" / "hpa" / "trials.csv").open()))
    assert len(rows) == 8
    assert all(float(row["cost"]) > 0 for row in rows)
    write_report(tmp_path / "out")
    assert "EUR a run" in (tmp_path / "out" / "report.md").read_text()
    assert " EUR a run" in claim_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "said"), [({"currency": None}, "price_per_gpu_hour"), ({"provisioner": None}, "max_nodes")]
)
def test_money_that_is_not_known_or_the_same_for_all_is_no_objective(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    cluster = {**with_money(six_replicas(tmp_path)), **changed}
    pool = cluster["pools"][0]
    drop = ("price_per_gpu_hour",) if "currency" in changed else ("max_nodes", "node_ready_s")
    cluster["pools"] = [{key: value for key, value in pool.items() if key not in drop}]
    with pytest.raises(ValidationError, match=said):
        config_of(tmp_path, cluster=cluster, objective="cost")


def test_the_cheapest_in_money_need_not_hold_fewest_gpus() -> None:
    few = MeanOutcome(0.005, 100.0, 1.0, 1.0, cost=2.0)
    cheap = MeanOutcome(0.005, 200.0, 1.0, 1.0, cost=1.0)
    assert cheapest([few, cheap], 0.01) == 0
    assert cheapest([few, cheap], 0.01, "cost") == 1
    assert "cost" not in MeanOutcome(0.005, 100.0, 1.0, 1.0).as_dict()
