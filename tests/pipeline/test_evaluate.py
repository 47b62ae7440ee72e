"""`kis evaluate`: a configuration in; logs, a row a run and the report out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.errors import ConfigError, ReportError
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline import evaluate as evaluation
from testbed.pipeline.evaluate import evaluate
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.reporting.evaluation import recomputed
from testbed.study import Workers
from tests.oracles.cluster_worlds import six_replicas, with_money

HPA = {"kind": "hpa", "metric": "in_flight_requests", "metrics_delay_s": 1, "flags": {"sync_period_s": 5}}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": six_replicas(folder),
        "traffic": {
            "wave": {"pattern": "periodic", "parameters": {"mean": 400, "amplitude": 300, "period_s": 120}},
            "ramp": {"pattern": "ramp", "parameters": {"low": 50, "peak": 600, "rise_s": 60}, "duration_s": 90},
        },
        "policies": {
            "all": {"kind": "fixed", "replicas": 6},
            "one": {"kind": "fixed", "replicas": 1},
            "oracle": {"kind": "oracle", "replica_capacity_rps": 180, "provisioning_delay_s": 4},
        },
        "baseline": "all",
        "seeds": 3,
        "duration_s": 120,
        **changes,
    }


def small(folder: Path, **changes: Any) -> EvaluateConfig:
    """Two policies on one short traffic, twice."""
    ramp = {"pattern": "ramp", "parameters": {"low": 50, "peak": 300, "rise_s": 20}, "duration_s": 22}
    policies = {"all": {"kind": "fixed", "replicas": 6}, "two": {"kind": "fixed", "replicas": 2}}
    given = {"traffic": {"ramp": ramp}, "policies": policies, "seeds": 2, **changes}
    return EvaluateConfig.model_validate(settings(folder, **given))


def run(config: EvaluateConfig, folder: Path, workers: int = 1) -> dict[str, Any]:
    return evaluate(config, folder, lambda share: None, Workers(workers))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the runs that were really made."""
    seeds: list[int] = []
    real = evaluation.scaling_run

    def play(told: Any, services: Any) -> Any:
        seeds.append(told.seed)
        return real(told, services)

    monkeypatch.setattr(evaluation, "scaling_run", play)
    return seeds


@pytest.mark.parametrize("command", ["evaluate", "tune"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_trace_s_own_length_goes_over_duration_s_and_that_is_said(tmp_path: Path, command: str, stated: bool) -> None:
    (tmp_path / "t.csv").write_text("\n".join(f"{0.5 * k:g}" for k in range(40)))
    name = "recorded" if command == "evaluate" else "emulated"
    given = settings(tmp_path, traffic={name: {"trace": "t.csv"}}, duration_s=60)
    given["policies"].pop("oracle")
    if command == "tune":
        name = given["cluster"]["models"][0]["name"]
        given = {"cluster": given["cluster"], "traffic": {name: {"trace": "t.csv"}}, "duration_s": 60, "trials": 1}
        given |= {"seeds": 1, "check_seeds": 3, "candidates": {"hpa": {"kind": "hpa"}}}
    if not stated:
        given.pop("duration_s")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    result = CliRunner().invoke(application(), [command, str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")])
    assert result.exit_code in (0, 1), result.output
    note = f"note: the trace of {name} lasts 20 s, and so do its runs; duration_s 60 s is of patterns"
    assert (note in result.output) == stated


def test_every_policy_has_the_same_arrivals_and_the_oracle_is_on_the_front(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    arguments = ["evaluate", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    assert "oracle" in result.output
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert len(found["rows"]) == 2 * 3 * 3
    by_pair: dict[tuple[str, int], set[int]] = {}
    for row in found["rows"]:
        by_pair.setdefault((row["traffic"], row["seed"]), set()).add(row["requests"])
    assert all(len(requests) == 1 for requests in by_pair.values())
    assert len({requests.pop() for requests in by_pair.values()}) == 6  # and each seed its own
    told = found["policies"]
    assert told["one"]["slo_violation_rate"] > 0.3 > told["oracle"]["slo_violation_rate"]
    assert told["oracle"]["saving_pct"] > 20
    assert told["oracle"]["saving_low_pct"] is None  # of two kinds of traffic there is no interval
    assert all(one["oracle"]["saving_low_pct"] > 10 for one in found["per_traffic"].values())
    assert set(found["pareto_front"]) >= {"oracle", "all"}
    assert found["challenger"] == "one"  # neither baseline nor oracle
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] == told["one"]["saving_pct"]
    assert found["distance_to_oracle_pct"]["all"]["value"] > 20
    assert all(row["energy_j"] is None for row in found["rows"])  # nobody told the power of these devices
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 2_000
    assert (tmp_path / "out" / "timelines.png").stat().st_size > 2_000
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| oracle |" in text
    assert "There are too few kinds of traffic for an interval: nobody wins." in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "There are too few kinds of traffic for an interval: nobody wins." in page
    assert "Energy is not known: neither" in page
    assert page.count('<img src="data:image/svg+xml;base64,') == page.count("<img") == 1 + 2  # and no other source
    (tmp_path / "out" / "report.html").unlink()
    assert CliRunner().invoke(application(), ["report", str(tmp_path / "out")]).exit_code == 0
    assert (tmp_path / "out" / "report.html").read_text() == page


def test_everything_is_computed_from_the_logs(tmp_path: Path) -> None:
    found = run(small(tmp_path), tmp_path / "out")
    assert recomputed(tmp_path / "out") == found == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {row["log"] for row in found["rows"]} == {"logs/ramp/all.parquet", "logs/ramp/two.parquet"}
    file = tmp_path / "out" / "evaluation.json"
    file.write_text(file.read_text().replace(str(found["rows"][0]["gpu_seconds"]), "1.5"))
    assert json.loads(file.read_text()) != recomputed(tmp_path / "out")
    log = ScalingLog.read(tmp_path / "out" / found["rows"][0]["log"])
    log.frame.loc[log.frame.index[-1], "missed"] += 1
    log.write(tmp_path / "out" / found["rows"][0]["log"])
    again = recomputed(tmp_path / "out")
    assert again["rows"][0] == found["rows"][0]
    assert again["rows"][1]["slo_violation_rate"] > found["rows"][1]["slo_violation_rate"]
    assert again["slo_violation_rate_difference"] != found["slo_violation_rate_difference"]


def test_a_log_has_the_run_interval_by_interval(tmp_path: Path) -> None:
    cluster = six_replicas(tmp_path)
    cluster["gpu_kinds"]["h100"] = {"power_w": [100.0, 400.0]}
    found = run(small(tmp_path, cluster=cluster), tmp_path / "out")
    assert "kWh a run" in (tmp_path / "out" / "report.html").read_text()
    log = ScalingLog.read(tmp_path / "out" / "logs" / "ramp" / "two.parquet")
    first = log.run(log.seeds[0])
    assert (first["time_ns"] / 1e9).tolist() == [5.0, 10.0, 15.0, 20.0, 22.0]
    assert first["arrived"].is_monotonic_increasing
    assert first["ready"].tolist() == [2] * 5
    assert first["gpu_us"].tolist() == [2 * int(time_ns / 1e3) for time_ns in first["time_ns"]]
    row = next(row for row in found["rows"] if row["policy"] == "two")
    assert 6 * 22 * 100 < row["energy_j"] < 22 * (4 * 100 + 2 * 400)  # six devices, at most two of them busy
    assert log.provenance["policy"] == {"kind": "fixed", "replicas": 2}
    assert list(log.provenance["sha256"]) == [str(tmp_path / "profile.json")]


def test_an_interrupted_evaluation_goes_on(tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path)
    whole = run(config, tmp_path / "whole")
    assert len(counted) == 4

    def breaks(told: Any, services: Any, real: Any = evaluation.scaling_run) -> Any:
        if len(counted) == 7:
            raise KeyboardInterrupt
        return real(told, services)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "scaling_run", breaks)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "out")
    with pytest.raises(ReportError, match=r"two.parquet has 1 of 2 runs: run `kis evaluate` again with --out"):
        recomputed(tmp_path / "out")
    shares: list[float] = []
    assert evaluate(config, tmp_path / "out", shares.append) == whole
    assert len(counted) == 8  # one was left
    assert shares == [1.0]
    for name in ("logs/ramp/two.parquet", "evaluation.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_of_it_can_be_added_later(tmp_path: Path, counted: list[int]) -> None:
    before = run(small(tmp_path), tmp_path / "out")
    policies = {**small(tmp_path).policies, "three": {"kind": "fixed", "replicas": 3}}
    after = run(small(tmp_path, policies=policies, seeds=3, challenger="three"), tmp_path / "out")
    assert len(counted) == 4 + 2 + 3
    assert after["challenger"] == "three"
    assert [row for row in after["rows"] if row in before["rows"]] == before["rows"]


def test_a_folder_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    run(small(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other settings \(seed differs\)"):
        run(small(tmp_path, seed=1), tmp_path / "out")
    fewer = {"all": {"kind": "fixed", "replicas": 6}, "other": {"kind": "fixed", "replicas": 3}}
    with pytest.raises(ConfigError, match=r"other settings \(policies.*differs\)"):
        run(small(tmp_path, policies=fewer), tmp_path / "out")
    run(small(tmp_path, seeds=3), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other settings \(seeds differs\)"):
        run(small(tmp_path), tmp_path / "out")
    profile = tmp_path / "profile.json"
    profile.write_text(profile.read_text().replace('"model": "m"', '"model": "n"'))
    config = EvaluateConfig.model_validate_json((tmp_path / "out" / "evaluate.json").read_text())
    with pytest.raises(ConfigError, match=r"all.parquet was made with another sha256: choose another folder"):
        run(config, tmp_path / "out")


def test_a_policy_may_have_settings_for_each_traffic(tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.json"
    tuned.write_text(json.dumps({"policies": {"tuned": {**HPA, "target": 2.0}}}))
    traffic = {name: small(tmp_path).traffic["ramp"].model_dump(exclude_unset=True) for name in ("one", "two")}
    each = {"one": {"kind": "fixed", "replicas": 5}, "two": {"kind": "hpa", "tuned": str(tuned)}}
    policies = {"tuned-hpa": {"per_traffic": each}, "four": {"kind": "fixed", "replicas": 4}}
    config = small(tmp_path, traffic=traffic, policies=policies, baseline="tuned-hpa")
    found = run(config, tmp_path / "out")
    by_traffic = {name: one["four"]["saving_pct"] for name, one in found["per_traffic"].items()}
    assert by_traffic["one"] == pytest.approx(20.0)
    assert by_traffic["two"] != pytest.approx(20.0)
    log = ScalingLog.read(tmp_path / "out" / "logs" / "two" / "tuned-hpa.parquet")
    assert log.provenance["policy"] == {**HPA, "target": 2.0}
    tuned.write_text(json.dumps({"policies": {"tuned": {**HPA, "target": 3.0}}}))
    with pytest.raises(ConfigError, match="made with another policy"):
        run(config, tmp_path / "out")


def test_mistakes_are_named(tmp_path: Path) -> None:
    for wrong, told in (
        ({"baseline": "hpa"}, "baseline 'hpa' is none of the policies all, one, oracle"),
        ({"challenger": "hpa"}, "challenger 'hpa' is none of the policies"),
        ({"challenger": "all"}, "challenger and baseline are both 'all'"),
        ({"policies": {"all": {"kind": "fixed"}, "../x": {}}}, "'../x' names files"),
        ({"policies": {"all": {}, "x": {"per_traffic": {"wave": {}}}}}, "x: per_traffic has nothing for ramp"),
        ({"policies": {"all": {}, "x": {"per_traffic": {"wave": {}, "ramp": {}, "up": {}}}}}, "names up; the"),
        ({"policies": {"all": {}, "x": {"per_traffic": {}, "kind": "hpa"}}}, "x: per_traffic stands alone"),
    ):
        with pytest.raises(ValidationError, match=told):
            EvaluateConfig.model_validate(settings(tmp_path, **wrong))


def test_a_file_that_is_no_tuned_hpa_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"policies": 3}')
    tuned = tmp_path / "tuned.json"
    tuned.write_text(json.dumps({"policies": {"given": HPA}, "chosen": "given"}))
    for value, told in (
        ({"kind": "hpa", "tuned": str(tmp_path / "none.json")}, "none.json: No such file or directory: give a tuned"),
        ({"kind": "hpa", "tuned": str(other)}, "other.json is not what kis tune writes"),
        ({"kind": "hpa", "tuned": str(other), "metrics_delay_s": 1}, "`tuned` goes with `kind`, and with `policy`"),
        ({"kind": "keda", "tuned": str(tuned)}, r"no policy of kind keda: it has given \(hpa\)"),
    ):
        policies = {"all": {"kind": "fixed", "replicas": 6}, "x": value}
        with pytest.raises(ConfigError, match=told):
            run(small(tmp_path, policies=policies), tmp_path / "out")
    assert not (tmp_path / "out").exists()  # told before anything is written


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    config = small(tmp_path)
    for name, workers in (("one", 1), ("two", 2)):
        run(config, tmp_path / name, workers)
    for name in ("logs/ramp/all.parquet", "logs/ramp/two.parquet", "evaluation.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_lists_of_a_log_are_delta_encoded(tmp_path: Path) -> None:
    run(small(tmp_path), tmp_path / "out")
    group = pq.ParquetFile(tmp_path / "out" / "logs" / "ramp" / "two.parquet").metadata.row_group(0)
    columns = {group.column(k).path_in_schema: group.column(k).encodings for k in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in columns["latency_bin.list.element"]
    assert "DELTA_BINARY_PACKED" in columns["gpu_us"]


def test_a_trace_is_played_to_its_end(tmp_path: Path) -> None:
    """It was cut at duration_s, in the middle of its burst, without a word."""
    (tmp_path / "t.csv").write_text("\n".join(f"{k / 10:.1f}" for k in range(300)))
    config = small(tmp_path, traffic={"recorded": {"trace": str(tmp_path / "t.csv")}}, duration_s=10)
    rows = run(config, tmp_path / "out")["rows"]
    assert {row["requests"] for row in rows} == {300}


def test_an_oracle_needs_no_number(tmp_path: Path) -> None:
    policies = {"all": {"kind": "fixed", "replicas": 6}, "oracle": {"kind": "oracle", "provisioning_delay_s": 4}}
    told = run(small(tmp_path, policies=policies), tmp_path / "out")
    assert told["policies"]["oracle"]["saving_pct"] > 40
    log = ScalingLog.read(tmp_path / "out" / "logs" / "ramp" / "oracle.parquet")
    assert 200 < log.provenance["policy"]["replica_capacity_rps"] < 250


def test_policies_are_compared_by_money_where_that_is_the_objective(tmp_path: Path) -> None:
    cluster = with_money(six_replicas(tmp_path))
    found = run(small(tmp_path, cluster=cluster, objective="cost"), tmp_path / "out")
    everything, two = (found["policies"][name] for name in ("all", "two"))
    assert everything["cost"] == pytest.approx(6 * 3.6 * 22 / 3600, abs=1e-6)  # an hour of six nodes: 21.6 EUR
    assert two["cost"] == pytest.approx(2 * 3.6 * 22 / 3600, abs=1e-6)
    assert two["saving_pct"] == pytest.approx(100 * 4 / 6, abs=0.01)
    assert (found["objective"], found["currency"]) == ("cost", "EUR")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "% less than all" in page
    assert "EUR" in page
    assert recomputed(tmp_path / "out") == found
    plain = run(small(tmp_path), tmp_path / "plain")
    assert "cost" not in plain["policies"]["all"]
    assert "EUR" not in (tmp_path / "plain" / "report.html").read_text()
