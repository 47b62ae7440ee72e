"""Policies are tuned on some worlds and meet on others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from loadgen.patterns import Trace
from loadgen.schedule import TraceError
from testbed.autoscaling.metrics import ReplicaCapacity
from testbed.autoscaling.search import ServedService
from testbed.cli.main import application
from testbed.errors import ConfigError, ReportError
from testbed.pipeline.benchmark import benchmark
from testbed.pipeline.benchmark_config import BenchmarkConfig, DrawnTraffic
from testbed.pipeline.worlds import worlds
from testbed.reporting.reports import write_report
from testbed.study import Workers
from tests.oracles.cluster_worlds import six_replicas, with_money

SERVICE = ServedService(ReplicaCapacity(1, 4, 250.0, 220.0, 0.05), 6, 5.0, 1.0, 5.0)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "services": {"small": {"cluster": six_replicas(folder), "window_s": 5, "flags": {"sync_period_s": 5}}},
        "traffic": {"families": ["periodic", "fluctuating", "bursty"], "length": 20, "period": [5, 10]},
        "candidates": {"hpa": {"kind": "hpa"}, "rule": {"kind": "rule"}, "oracle": {"kind": "oracle"}},
        "compared": {"all": {"kind": "fixed", "replicas": 99}},
        "allowed_slo_violation_rate": 0.1,
        "training_worlds": 2,
        "held_out_worlds": 3,
        "seeds": 2,
        "trials": 4,
        **changes,
    }


def config_of(folder: Path, **changes: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(settings(folder, **changes))


def nothing(share: float) -> None:
    """Nobody watches."""


def test_every_policy_meets_the_same_worlds_and_the_files_say_the_same_for_any_workers(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    shares: list[float] = []
    wins = benchmark(config, tmp_path / "out", shares.append)
    assert shares[-1] == 1.0
    assert wins["worlds"] == 3
    assert set(wins["policies"]) == {"hpa", "rule", "all", "oracle"}
    assert wins["winner"] in ("hpa", "rule", "all")  # never the oracle
    assert not (tmp_path / "out" / "rows").exists()  # all are in one file
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    requests = rows.groupby(["world", "seed"])["requests"].nunique()
    assert (requests == 1).all()  # of all policies and settings
    assert len(requests) == 3 * 2
    assert rows.loc[rows["policy"] == "all", "gpu_seconds"].to_numpy() == pytest.approx(
        6 * rows.loc[rows["policy"] == "all", "duration_s"].to_numpy()
    )
    benchmark(config, tmp_path / "other", nothing, Workers(2))
    assert (tmp_path / "other" / "wins.json").read_text() == (tmp_path / "out" / "wins.json").read_text()


def test_it_goes_on_with_what_it_has_and_takes_further_policies(tmp_path: Path) -> None:
    first = benchmark(config_of(tmp_path), tmp_path / "out", nothing)
    file = tmp_path / "out" / "rows.parquet"
    rows = pd.read_parquet(file)
    rows["p95_ms"] += 1000  # as no run of these has it: were they played again, it would be gone
    rows.to_parquet(file)
    more = settings(tmp_path)["candidates"] | {"knative": {"kind": "knative"}}
    second = benchmark(config_of(tmp_path, candidates=more), tmp_path / "out", nothing)
    assert set(second["policies"]) - set(first["policies"]) == {"knative"}
    assert second["policies"]["hpa"]["cost_pct"] == first["policies"]["hpa"]["cost_pct"]
    again = pd.read_parquet(file)
    assert (again[again["policy"] != "knative"]["p95_ms"] > 1000).all()
    assert (again[again["policy"] == "knative"]["p95_ms"] < 1000).all()
    with pytest.raises(ConfigError, match="trials differs"):
        benchmark(config_of(tmp_path, candidates=more, trials=5), tmp_path / "out", nothing)
    interrupted = tmp_path / "out" / "rows" / "small" / "1" / "hpa.parquet"  # it had played one, and others before
    interrupted.parent.mkdir(parents=True)
    again[again["policy"] == "hpa"].to_parquet(interrupted)
    again[again["policy"] != "hpa"].to_parquet(file)
    benchmark(config_of(tmp_path, candidates=more), tmp_path / "out", nothing)
    assert (pd.read_parquet(file)["p95_ms"] > 1000).sum() == (again["p95_ms"] > 1000).sum()
    again[again["policy"] != "hpa"].to_parquet(file)
    with pytest.raises(ReportError, match=r"no run of hpa on small, search 1: run `kis benchmark` again with --out"):
        write_report(tmp_path / "out")
    file.unlink()
    with pytest.raises(ReportError, match=r"rows.parquet is missing, as the benchmark was not finished"):
        write_report(tmp_path / "out")


def test_a_further_search_suggests_something_else_and_leaves_what_was_chosen(tmp_path: Path) -> None:
    candidates = {"hpa": {"kind": "hpa"}, "rule": {"kind": "rule"}}
    out, tuned = tmp_path / "out", tmp_path / "out" / "searches" / "small" / "tuned.json"
    benchmark(config_of(tmp_path, candidates=candidates), out, nothing)
    chosen = tuned.read_text()
    benchmark(config_of(tmp_path, candidates=candidates, searches=2), out, nothing)
    rows = pd.read_parquet(out / "rows.parquet")
    assert rows.groupby("policy")["search"].unique().map(list).to_dict() == {"hpa": [1, 2], "rule": [1, 2], "all": [1]}
    assert tuned.read_text() == chosen
    suggested = [(out / "searches" / "small" / number / "rule" / "trials.csv").read_text() for number in "12"]
    assert suggested[0] != suggested[1]
    alone = benchmark(config_of(tmp_path, candidates=candidates, searches=2), tmp_path / "other", nothing)
    assert alone["policies"] == json.loads((out / "wins.json").read_text())["policies"]


def test_the_command_says_who_wins(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    arguments = ["benchmark", str(tmp_path / "b.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    winner = json.loads((tmp_path / "out" / "wins.json").read_text())["winner"]
    assert f"In simulation, over 3 held-out worlds of 1 service, {winner} needs the fewest GPU-seconds" in " ".join(
        result.output.split()
    )


def test_worlds_fit_the_service_and_training_shows_none_of_the_held_out(tmp_path: Path) -> None:
    drawn = DrawnTraffic()
    made = worlds(drawn, SERVICE, "held-out", 12, 1)
    assert [world.kind for world in made[:6]] == list(drawn.families)
    assert [world.pattern for world in made[:6]] == [
        world.pattern for world in worlds(drawn, SERVICE, "held-out", 6, 1)
    ]
    assert [world.pattern for world in made] != [world.pattern for world in worlds(drawn, SERVICE, "training", 12, 1)]
    for world in made:
        assert world.duration_s == 120 * 5.0
        assert 0.3 * 1320 * 0.99 <= world.pattern.peak_rps <= 0.9 * 1320 * 1.01


def test_a_trace_is_split_by_time_and_scaled(tmp_path: Path) -> None:
    """Its first half has one request an interval, its second two or four."""
    counts = [1] * 100 + [2, 4] * 50
    lines = [f"2026-01-01 {k // 60:02d}:{k % 60:02d}:00,{count}" for k, count in enumerate(counts)]
    (tmp_path / "counts.csv").write_text("\n".join(["timestamp,value", *lines]))
    recorded = {"trace": tmp_path / "counts.csv", "interval_s": 60, "per_start_up_s": 120}
    traffic = DrawnTraffic.model_validate({"families": ["ramp"], "traces": {"mine": recorded}, "length": 30})
    early = worlds(traffic, SERVICE, "training", 2, 1)[1].pattern
    late = worlds(traffic, SERVICE, "held-out", 2, 1)[1].pattern
    assert isinstance(early, Trace)
    assert isinstance(late, Trace)
    assert early.interval_s == 2.5  # half a start-up
    assert len(early.rates) == 60  # as many as the run is long
    assert np.ptp(early.rates) < 0.1 * early.peak_rps
    assert min(late.rates) == pytest.approx(late.peak_rps / 2, rel=0.1)
    short = traffic.model_copy(update={"held_out": 0.99})
    with pytest.raises(TraceError, match=r"counts.csv: the training part has 2 intervals: give a shorter interval_s"):
        worlds(short, SERVICE, "training", 2, 1)


def test_mistakes_are_named(tmp_path: Path) -> None:
    for wrong, told in (
        ({"traffic": {"families": ["waves"]}}, "families: waves is none of"),
        ({"traffic": {"peak_load": [0.9, 0.3]}}, "peak_load is .0.9, 0.3.: give 0 < low <= high"),
        ({"compared": {"hpa": {"kind": "fixed", "replicas": 1}}}, "hpa is both a candidate and compared"),
        ({"candidates": {"A": {"kind": "hpa"}, "b": {"kind": "hpa"}}}, "'A' names files"),
    ):
        with pytest.raises(ValidationError, match=told):
            config_of(tmp_path, **wrong)


def test_policies_meet_by_money_where_that_is_the_objective(tmp_path: Path) -> None:
    cluster = with_money(six_replicas(tmp_path))
    services = {"small": {"cluster": cluster, "window_s": 5, "flags": {"sync_period_s": 5}}}
    candidates = {"hpa": {"kind": "hpa"}, "rule": {"kind": "rule"}}
    changes: dict[str, Any] = {"services": services, "candidates": candidates, "objective": "cost", "seeds": 1}
    wins = benchmark(config_of(tmp_path, **changes), tmp_path / "out", nothing)
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    everything = rows[rows["policy"] == "all"]
    assert everything["money"].to_numpy() == pytest.approx(6 * 3.6 * everything["duration_s"].to_numpy() / 3600)
    assert wins["policies"]["all"]["cost_pct"] == pytest.approx(100.0)
    assert wins["objective"] == "cost"
    assert "least money" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(ValidationError, match="services: small: objective is cost: give the cluster's pools"):
        config_of(tmp_path, objective="cost")
