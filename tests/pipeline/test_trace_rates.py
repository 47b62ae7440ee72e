"""A trace as a rate at another scale: the same traffic, drawn anew, in every pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from loadgen.schedule import TraceError
from testbed.cli.main import application
from testbed.config import TrafficConfig
from testbed.pipeline.evaluate import evaluate
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.traffic import length_notes, make_schedule, own_length_s, pattern_of, traffic_identity
from testbed.pipeline.tune import tune
from testbed.pipeline.tune_config import TuneConfig
from tests.oracles.cluster_worlds import six_replicas

AZURE = Path(__file__).parents[3] / "shared/traces/azure_llm_2023_code.csv"


@pytest.fixture
def trace(tmp_path: Path) -> dict[str, Any]:
    """40 s at 1 request/s, 40 s at 4; twice as fast and 50 times as many: 20 s at 100, 20 s at 400 requests/s."""
    times = [*np.arange(0, 40, 1.0), *np.arange(40, 80.25, 0.25)]
    (tmp_path / "t.csv").write_text("\n".join(map(str, times)))
    return {"trace": str(tmp_path / "t.csv"), "speed_up": 2, "rate_interval_s": 5, "rate_factor": 50}


def test_the_rate_is_what_was_counted_times_the_factor(trace: dict[str, Any]) -> None:
    pattern = pattern_of(TrafficConfig.model_validate(trace))
    assert pattern is not None
    rates = pattern.rate_rps(np.array([1.0, 19.0, 21.0, 39.0, 41.0, 1e6]))
    assert rates.tolist() == pytest.approx([100, 100, 400, 400, 0, 0])  # after the trace's end nothing arrives


def test_a_trace_alone_is_replayed(trace: dict[str, Any]) -> None:
    assert pattern_of(TrafficConfig(trace=trace["trace"])) is None


def test_real_arrivals_are_poisson_at_that_rate(trace: dict[str, Any]) -> None:
    traffic = TrafficConfig.model_validate({**trace, "seed": 4})
    schedule = make_schedule(traffic, "m")
    assert schedule.duration_s == 40.0
    counts = np.histogram(schedule.scheduled_s, bins=[0, 20, 40])[0]
    assert counts.tolist() == pytest.approx([2000, 8000], rel=0.06)
    gaps = np.diff(schedule.scheduled_s[schedule.scheduled_s > 20])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # not the trace's even gaps
    other = make_schedule(traffic.model_copy(update={"seed": 5}), "m")
    assert len(other) != len(schedule)
    assert make_schedule(traffic.model_copy(update={"duration_s": 10.0}), "m").duration_s == 10.0
    told = {"trace": "t.csv", "speed_up": 2.0, "rate_interval_s": 5.0, "rate_factor": 50.0}
    assert traffic_identity("r", traffic).parameters == told
    assert schedule.provenance == {**told, "seed": 4}


def test_a_trace_can_begin_later(trace: dict[str, Any]) -> None:
    later = TrafficConfig.model_validate({**trace, "from_s": 15})
    rates = pattern_of(later).rate_rps(np.array([4.0, 6.0, 24.0, 26.0]))  # type: ignore[union-attr]
    assert rates.tolist() == pytest.approx([100, 400, 400, 0])  # 15 s of 40 are left out
    assert own_length_s(later) == 25.0
    own = TrafficConfig(trace=trace["trace"], speed_up=2, from_s=19)
    schedule = make_schedule(own, "m")
    assert schedule.scheduled_s[:5].tolist() == pytest.approx([0, 0.5, 1, 1.125, 1.25])
    assert own_length_s(own) == pytest.approx(schedule.duration_s)
    assert traffic_identity("r", own).parameters == {"trace": "t.csv", "speed_up": 2.0, "from_s": 19.0, "keep": 1.0}
    with pytest.raises(TraceError, match=r"t.csv lasts 40.2 s as it is replayed, from_s is 50: begin earlier"):
        make_schedule(own.model_copy(update={"from_s": 50}), "m")


def test_a_simulated_cluster_has_it_too(tmp_path: Path, trace: dict[str, Any]) -> None:
    config = {
        "cluster": six_replicas(tmp_path),
        "traffic": {"m": trace},
        "policies": {"m": {"kind": "oracle", "replica_capacity_rps": 180, "provisioning_delay_s": 4}},
        "duration_s": 50,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    arguments = ["simulate", "--cluster", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    one = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]["m"]
    assert one["requests"] == pytest.approx(10_000, rel=0.05)
    assert one["changes"] == 2  # up before the rise, down when the trace is over


def test_policies_are_judged_and_tuned_on_it(tmp_path: Path, trace: dict[str, Any]) -> None:
    given = {"cluster": six_replicas(tmp_path), "duration_s": 40}
    policies = {name: {"kind": "fixed", "replicas": count} for name, count in (("six", 6), ("three", 3))}
    both = {**given, "traffic": {"azure": trace}, "policies": policies, "baseline": "six", "seeds": 2}
    found = evaluate(EvaluateConfig.model_validate(both), tmp_path / "out", lambda share: None)
    requests = [row["requests"] for row in found["rows"]]
    assert requests == pytest.approx([10_000] * 4, rel=0.05)
    assert requests[0] != requests[1]  # drawn anew for each seed
    tuned = tune(
        TuneConfig.model_validate(
            {**given, "traffic": {"m": trace}, "trials": 1, "seeds": 1, "candidates": {"hpa": {"kind": "hpa"}}}
        ),
        tmp_path / "tuned",
        lambda share: None,
    )
    assert tuned["outcomes"]["hpa"]["gpu_seconds"] > 0


def test_how_a_trace_is_read_is_part_of_the_traffic_and_of_its_provenance(tmp_path: Path) -> None:
    lines = [f"{name},{k // 4},{1000 * (k // 2)}" for k, name in enumerate("ab" * 20)]
    (tmp_path / "t.csv").write_text("\n".join(["name,time,start", *lines]))
    reading = {"column": "start", "unit": "ms", "where": {"name": "a"}, "spread": True, "max_gap_s": 9.0}
    traffic = TrafficConfig.model_validate({"trace": tmp_path / "t.csv", **reading})
    schedule = make_schedule(traffic, "m")
    assert len(schedule) == 20
    assert own_length_s(traffic) == schedule.duration_s == pytest.approx(20, abs=0.6)
    for told in (schedule.provenance, traffic_identity("r", traffic).parameters):
        assert reading.items() <= told.items()
    assert any("spread evenly" in note for note in length_notes({"": traffic}))
    with pytest.raises(ValueError, match="max_gap_s: of a trace, and the traffic is a pattern"):
        TrafficConfig.model_validate({"pattern": "ramp", "max_gap_s": 5})


def test_mistakes_are_named(trace: dict[str, Any]) -> None:
    for changes, told in (
        ({"rate_factor": None}, "give rate_interval_s and rate_factor together"),
        ({"rate_interval_s": None}, "give rate_interval_s and rate_factor together"),
        ({"trace": None, "pattern": "ramp"}, "rate_interval_s and rate_factor are of a trace"),
        ({"keep": 0.5}, "make rate_factor smaller instead"),
        ({"rate_factor": 0}, "greater than 0"),
        (
            {"trace": None, "pattern": "ramp", "from_s": 5, "rate_interval_s": None, "rate_factor": None},
            "from_s is of a trace",
        ),
    ):
        with pytest.raises(ValidationError, match=told):
            TrafficConfig.model_validate({**trace, **changes})
    long = TrafficConfig.model_validate({**trace, "rate_interval_s": 60})
    with pytest.raises(TraceError, match=r"t.csv lasts 40.2 s at speed_up 2, rate_interval_s is 60: give a shorter"):
        pattern_of(long)


@pytest.mark.skipif(not AZURE.exists(), reason="the trace is not part of the project")
def test_an_hour_of_azure_in_ten_minutes_at_another_scale() -> None:
    traffic = TrafficConfig(trace=AZURE, speed_up=6, rate_interval_s=10, rate_factor=40)
    pattern = pattern_of(traffic)
    assert pattern is not None
    grid = np.arange(0, 570, 10.0) + 5
    assert float(pattern.rate_rps(grid).sum()) * 10 == pytest.approx(
        40 * (8819 - 196)
    )  # those after the last whole interval
    assert pattern.peak_rps > 3 * float(pattern.rate_rps(grid).mean())  # bursts are still there
    assert len(make_schedule(traffic, "m")) == pytest.approx(40 * 8623, rel=0.01)
