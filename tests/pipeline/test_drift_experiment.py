"""Experiments whose service becomes slower: faults on time, adapted policies, and what the report says of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from testbed.adaptation.journal import JOURNAL, read_journal
from testbed.adaptation.judge import Inline
from testbed.errors import ConfigError
from testbed.pipeline.experiment import may_change, run_experiment
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_counterpart import (
    counterpart_folder,
    deliberation_s,
    on_traffic_clock,
    real_folder,
    simulate_pair,
)
from testbed.reporting.reports import write_report
from testbed.study import remember
from tests.oracles.cluster_worlds import GPU, six_replicas
from tests.pages import figures_of, texts_of
from tests.pipeline.played import begin_run, play_run

SECONDS, DRIFT_S, FACTOR = 130.0, 45.0, 1.5
ADAPTATION = {
    "drift": {"window_s": 2, "level_windows": 6, "least_change": 0.25},
    "recalibration": {"windows": 6},
    "judge": {"scenarios": 5, "duration_s": 60},
    "shadow_s": 4,
    "probation_s": 20,
}


def config_of(folder: Path, **changes: Any) -> ExperimentConfig:
    predictive = {
        "kind": "predictive",
        "replica_capacity_rps": 230,
        "provisioning_delay_s": 3,
        "metrics_delay_s": 0,
        "min_replicas": 2,
    }
    cluster = six_replicas(folder)
    cluster["models"][0]["replicas"] = 2
    return ExperimentConfig.model_validate(
        {
            "cluster": cluster,
            "real": {"deployment": "triton"},
            "traffic": {"steady": {"pattern": "constant", "parameters": {"rate": 380}, "duration_s": SECONDS}},
            "faults": {"steady": [{"at_s": DRIFT_S, "slow_down": FACTOR}]},
            "policies": {"plain": predictive, "adapted": predictive},
            "adapted": {"adapted": ADAPTATION},
            "simulated_runs": 2,
            **changes,
        }
    )


def play(config: ExperimentConfig, folder: Path) -> None:
    """Both halves, with a fault that struck a little late."""
    for policy in config.policies:
        which = ("steady", policy, 1)
        told = [{"at_s": DRIFT_S, "slow_down": FACTOR, "struck_s": DRIFT_S + 0.4}]
        (begin_run(config, folder, which) / "faults.json").write_text(json.dumps(told))
        play_run(config, folder, which)
    (folder / "experiment.json").write_text(config.model_dump_json(indent=2))


def test_an_adapted_policy_recovers_and_the_report_says_so(tmp_path: Path) -> None:
    config, folder = config_of(tmp_path), tmp_path / "experiment"
    play(config, folder)
    page = write_report(folder).read_text()
    _, plain, adapted_pair = map(texts_of, figures_of(page))
    assert plain.count("batches x 1.5") == 1
    assert "promoted" not in plain
    assert adapted_pair.count("promoted") == 2  # the real one, and the simulated one
    rows = {row["policy"]: row for row in json.loads((folder / "drift.json").read_text())["rows"]}
    assert not rows["plain"]["adapted"]
    assert rows["plain"]["steps"] == [[], []]
    assert rows["plain"]["alarm_after_s"] == [None, None]
    adapted = rows["adapted"]
    assert adapted["drift_s"] == pytest.approx(DRIFT_S + 0.4)
    for side in (0, 1):
        assert 0 < adapted["alarm_after_s"][side] < 15
        assert adapted["alarm_after_s"][side] < adapted["promoted_after_s"][side] < 60
        assert adapted["factor"][side]["value"] == pytest.approx(FACTOR, rel=0.05)
        assert rows["plain"]["slo_violation_rate"]["before"][side] < 0.01
        assert adapted["slo_violation_rate"]["last"][side] < 0.5 * rows["plain"]["slo_violation_rate"]["last"][side]
    assert "x 1.5" in (folder / "report.md").read_text()

    which = ("steady", "adapted", 1)
    real = real_folder(folder, which) / "adaptation.json"
    steps = json.loads(real.read_text())
    told = [{**step, "time_s": step["time_s"] + 12.0 * (step["state"] in ("SHADOW", "KEPT"))} for step in steps]
    real.write_text(json.dumps(told))
    simulate_pair(config, folder, which)
    took_s = deliberation_s(counterpart_folder(folder, which), SECONDS)
    assert took_s == pytest.approx(deliberation_s(real.parent, SECONDS), abs=1.0)  # as long as the real one thought
    assert took_s > 12.0


def test_without_drift_there_is_nothing_to_tell(tmp_path: Path) -> None:
    config, folder = (
        config_of(tmp_path, faults={}, adapted={}, policies={"one": {"kind": "fixed", "replicas": 3}}),
        tmp_path / "e",
    )
    play(config, folder)
    (real_folder(folder, ("steady", "one", 1)) / "faults.json").unlink()
    write_report(folder)
    assert not (folder / "drift.json").exists()


def test_a_bench_may_take_its_time(tmp_path: Path) -> None:
    bench = Inline(answer_after=3)
    bench.submit(lambda: "found")
    assert [bench.answer() for _ in range(4)] == [None, None, "found", None]
    bench.submit(lambda: "again")
    assert bench.answer() is None


@pytest.mark.parametrize(
    ("steps", "took_s"),
    [
        ([("ALARMED", 9.0), ("RECALIBRATING", 12.0), ("SHADOW", 43.5), ("PROMOTED", 50.0)], 31.5),
        ([("ALARMED", 9.0), ("RECALIBRATING", 12.0), ("RECALIBRATING", 12.0), ("KEPT", 20.0)], 8.0),  # a full disk
        ([("ALARMED", 9.0), ("RECALIBRATING", 12.0)], 88.0),  # it still thought when the run ended
        ([("ALARMED", 9.0), ("KEPT", 12.0)], 0.0),
    ],
)
def test_a_simulated_bench_takes_as_long_as_the_real_one(
    tmp_path: Path, steps: list[tuple[str, float]], took_s: float
) -> None:
    (tmp_path / "adaptation.json").write_text(json.dumps([{"state": a, "time_s": b} for a, b in steps]))
    assert deliberation_s(tmp_path, 100.0) == pytest.approx(took_s)
    assert deliberation_s(tmp_path / "elsewhere", 100.0) == 0.0


def test_every_time_of_an_adaptation_is_on_the_traffics_clock() -> None:
    steps = [
        {"time_s": 1080.0, "state": "ALARMED", "figures": {"change_s": 1075.0, "high": 0.3}},
        {"time_s": 1090.0, "state": "RECALIBRATING", "figures": {"factor": {"value": 1.4, "since_s": 1076.0}}},
        {"time_s": 1091.0, "state": "KEPT", "figures": {"change_s": None}},
    ]
    told = on_traffic_clock(steps, 1000.0)
    assert [one["time_s"] for one in told] == [80.0, 90.0, 91.0]
    assert told[0]["figures"] == {"change_s": 75.0, "high": 0.3}
    assert told[1]["figures"]["factor"] == {"value": 1.4, "since_s": 76.0}
    assert told[2]["figures"] == {"change_s": None}


def test_a_journal_whose_writer_was_killed_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / JOURNAL
    assert read_journal(file) == []
    entry = {"time_s": 1.0, "state": "KEPT", "why": "", "figures": {}}
    file.write_text(f'{json.dumps(entry)}\n{{"time_s": 2')
    assert read_journal(file) == [entry]


def test_an_adapted_experiment_goes_on_with_the_same_profile_only(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    file = tmp_path / "experiment.json"
    remember(config, file, may_change=may_change(config))
    remember(config.model_copy(update={"repeats": 2}), file, may_change=may_change(config))
    other = config_of(tmp_path)
    model = other.cluster.models[0].model_copy(update={"profiles": {GPU: Path("another.json")}})
    other = other.model_copy(update={"cluster": other.cluster.model_copy(update={"models": (model,)})})
    with pytest.raises(ConfigError, match=r"other settings \(cluster.models.0.profiles.*differs\)"):
        remember(other, file, may_change=may_change(config))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapted": {"other": {}}}, "adapted names 'other', there are plain, adapted"),
        ({"faults": {"other": []}}, "faults names 'other', there are steady"),
        ({"faults": {"steady": [{"at_s": 3, "lose_node": "pool-0"}]}}, "only `slow_down` can be made to happen"),
        ({"faults": {"steady": [{"at_s": 3, "slow_down": 2}, {"at_s": 9, "slow_down": 1}]}}, "one at most"),
        ({"faults": {"steady": [{"at_s": 3, "slow_down": 2, "model": "other"}]}}, "the model is m"),
        ({"adapted": {"adapted": {"shadow_s": -1}}}, "greater than or equal to 0"),
        ({"adapted": {"adapted": {"tuning": {"folder": "x"}}}}, "leave out `tuning`"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config_of(tmp_path, **changes)


def test_a_policy_that_cannot_be_adapted_is_told_before_any_run(tmp_path: Path) -> None:
    config = config_of(tmp_path, policies={"adapted": {"kind": "fixed", "replicas": 2}})
    nobody: Any = None
    with pytest.raises(ConfigError, match="has no replica_capacity_rps"):
        run_experiment(config, tmp_path / "e", nobody, None, nobody)
    assert not (tmp_path / "e").exists()


def test_a_fault_after_the_end_is_told_before_any_run(tmp_path: Path) -> None:
    config = config_of(tmp_path, faults={"steady": [{"at_s": SECONDS, "slow_down": 2}]})
    nobody: Any = None
    with pytest.raises(ConfigError, match="at_s is 130, the traffic ends at 130 s"):
        run_experiment(config, tmp_path / "e", nobody, None, nobody)
