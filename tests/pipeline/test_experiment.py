"""Experiments: the simulated half, the comparison and the mistakes. The real half is in tests/cluster."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from loadgen.request_log import RequestLog
from loadgen.validity import Verdict, only_late
from testbed.errors import ConfigError, ReportError
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline import experiment
from testbed.pipeline.experiment import decisions_of, refuse_other_service, settled_service, start_pods
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.experiment_counterpart import (
    ScalerClock,
    counterpart_folder,
    real_folder,
    scaler_clock,
    simulate_pair,
)
from testbed.pipeline.made_runs import MadeRuns
from testbed.pipeline.traffic import make_schedule
from testbed.reporting.experiment import (
    read_experiment,
    ready_replicas,
    replica_seconds,
    rows_of,
    summary_of,
)
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir
from tests.oracles.cluster_worlds import GPU, flat_profile
from tests.pipeline.played import begin_run, play_run, write_requests
from workloads.catalog import DynamicBatching, ServiceConfig


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    flat_profile([0.010, 0.012, 0.014, 0.016]).write(folder / "profile.json")
    pods = {"container_start_s": 1.0, "load_s": 1.0, "pre_stop_s": 1.0, "grace_period_s": 2.0}
    served = {
        "name": "m",
        "profiles": {GPU: str(folder / "profile.json")},
        "max_batch_size": 4,
        "max_replicas": 8,
        "latency_target_s": 0.05,
        "pod": pods,
    }
    ramp = {"pattern": "ramp", "parameters": {"low": 50, "peak": 500, "rise_s": 15}, "duration_s": 20}
    knative = {
        "kind": "knative",
        "container_concurrency": 4,
        "stable_window_s": 6,
        "panic_window_s": 2,
        "metrics_delay_s": 0,
    }
    return {
        "cluster": {
            "gpu_kinds": {GPU: {}},
            "pools": [{"nodes": 2, "gpus": 4, "gpu_kind": GPU}],
            "models": [served],
        },
        "real": {"deployment": "triton"},
        "traffic": {"ramp": ramp},
        "policies": {
            "kpa": knative,
            "fixed-1": {"kind": "fixed", "replicas": 1},
            "fixed-3": {"kind": "fixed", "replicas": 3},
        },
        **changes,
    }


def config_of(folder: Path, **changes: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate(settings(folder, **changes))


@pytest.fixture(scope="module")
def once_played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that was played."""
    parent = tmp_path_factory.mktemp("played")
    config = config_of(parent)
    folder = parent / "experiment"
    for policy in config.policies:
        begin_run(config, folder, ("ramp", policy, 1))
        play_run(config, folder, ("ramp", policy, 1))
    (folder / "experiment.json").write_text(config.model_dump_json(indent=2))
    return folder


@pytest.fixture
def played(once_played: Path, tmp_path: Path) -> Path:
    """The test's own copy of it."""
    return Path(shutil.copytree(once_played, tmp_path / "experiment"))


def test_both_halves_have_the_same_arrivals_and_every_request_ends(played: Path) -> None:
    found = read_experiment(played)
    assert [pair.policy for pair in found.pairs] == ["kpa", "fixed-1", "fixed-3"]
    for pair in found.pairs:
        real, sim = pair.real[0].run, pair.sim[0].run
        assert np.array_equal(real.schedule.scheduled_ns, sim.schedule.scheduled_ns)
        assert len(real.requests) == len(sim.requests) == len(real.schedule)
        assert sim.manifest.simulates == real.manifest.run_id


def test_costs_are_told_beside_each_other(played: Path) -> None:
    rows = {row["policy"]: row for row in rows_of(read_experiment(played))}
    assert rows["fixed-3"]["replica_seconds_real"] == rows["fixed-3"]["replica_seconds_sim"] == pytest.approx(60.0)
    assert rows["fixed-1"]["replica_seconds_error_pct"] == 0
    assert (
        rows["fixed-1"]["slo_violation_rate_real"] > rows["fixed-3"]["slo_violation_rate_real"]
    )  # one cannot hold 500/s
    assert rows["kpa"]["changes_sim"] > 0
    assert rows["fixed-1"]["p95_ms_spread_pct"] is None  # one real run has no spread
    pearson = summary_of(list(rows.values()))["pearson"]
    assert 0.8 < pearson["replica_seconds"]["all"] <= 1.0  # kpa has luck
    assert pearson["replica_seconds"]["ramp"] == pearson["replica_seconds"]["all"]


def test_traffic_that_was_sent_on_another_day_is_simulated_as_calibrated_there(played: Path) -> None:
    config = ExperimentConfig.model_validate_json((played / "experiment.json").read_text())
    which = ("ramp", "fixed-3", 1)
    before = RequestLog.read(RunDir(counterpart_folder(played, which)).requests)
    slow = flat_profile([0.030, 0.036, 0.042, 0.048])
    slow.write(played / "slow.json")
    (served,) = config.cluster.models
    other = served.model_copy(update={"profiles": dict.fromkeys(served.profiles, played / "slow.json")})
    clusters = {"ramp": config.cluster.model_copy(update={"models": (other,)})}
    simulate_pair(config.model_copy(update={"clusters": clusters}), played, which)
    after = RequestLog.read(RunDir(counterpart_folder(played, which)).requests)
    assert np.nanmin(before.latency_s) < 0.0299 < np.nanmin(after.latency_s)
    with pytest.raises(ValidationError, match="clusters names 'night', there are ramp"):
        config_of(played, clusters={"night": config.cluster.model_dump()})


def test_the_report_is_written_from_the_folder_alone(played: Path) -> None:
    page = write_report(played).read_text()
    assert "ramp under kpa" in page
    assert page.count("<img") == 1 + 3  # costs, and a pair each
    assert (played / "timelines.png").stat().st_size > 2_000
    told = json.loads((played / "pairs.json").read_text())
    assert len(told["rows"]) == 3
    assert "| ramp-kpa-real-1 |" in (played / "report.md").read_text().replace("\\", "")


def test_policies_that_were_repeated_are_told_apart(played: Path) -> None:
    assert not (played / "differences.json").exists()
    config = ExperimentConfig.model_validate_json((played / "experiment.json").read_text())
    config = config.model_copy(update={"repeats": 3, "simulated_runs": 2})
    for policy in config.policies:
        for repeat in (2, 3):
            begin_run(config, played, ("ramp", policy, repeat))
            play_run(config, played, ("ramp", policy, repeat))
    (played / "experiment.json").write_text(config.model_dump_json(indent=2))
    page = write_report(played).read_text()
    assert "Who is cheaper" in page
    assert (played / "differences.png").stat().st_size > 2_000
    rows = json.loads((played / "differences.json").read_text())["rows"]
    less = next(one for one in rows if (one["first"], one["second"]) == ("fixed-1", "fixed-3"))
    assert less["cost"] == "replica_seconds"
    assert (less["real"], less["sim"]) == (pytest.approx(-66.7, abs=0.1), pytest.approx(-66.7, abs=0.1))
    assert (less["decided"], less["agree"], len(rows)) == (1, 1, 12)
    line = next(
        line for line in (played / "report.md").read_text().splitlines() if "| fixed-1 | fixed-3 | share" in line
    )
    assert "| 1 | 1 | 1 |" in line


def test_a_folder_without_pairs_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    (tmp_path / "experiment.json").write_text(config.model_dump_json())
    with pytest.raises(ReportError, match="no pair of a real and a simulated run yet"):
        read_experiment(tmp_path)


def test_the_scalers_clock_is_read_from_its_changes_or_its_lines(played: Path) -> None:
    path = real_folder(played, ("ramp", "kpa", 1))
    start_s = 1000.0
    run = RunDir(path)
    run.write_manifest(run.manifest.model_copy(update={"start_unix_ns": round(start_s * 1e9)}))
    assert scaler_clock(path, 5.0, 0.4) is None
    (path / "scaler.json").write_text(json.dumps({"first_seen_unix_s": start_s - 6.4}))
    (path / "decisions.json").write_text("[]")
    assert scaler_clock(path, 5.0, 0.4) == pytest.approx(ScalerClock(-6.4, own_scrapes=False))
    steps = [{"time_s": 3.3 + 5.0 * k + late} for k, late in ((0, 0.0), (1, 0.2), (4, 0.1))]
    (path / "decisions.json").write_text(json.dumps(steps))
    assert scaler_clock(path, 5.0, 0.4) == pytest.approx(ScalerClock(-6.8, own_scrapes=False))
    lines = [json.dumps({"time_s": start_s - 2.8 + k}) for k in range(9)]
    (path / "controller.jsonl").write_text("\n".join(lines))
    assert scaler_clock(path, 1.0, 0.4) == pytest.approx(ScalerClock(-2.8, own_scrapes=True))


def states(*rows: tuple[float, str, str]) -> MetricLog:
    return MetricLog.from_rows(
        [
            (round(at * 1e9), "replica", "state", {"replica": name, "state": state}, 1.0, "state")
            for at, name, state in rows
        ],
        {},
    )


def test_replica_seconds_count_pods_from_asked_for_to_gone_within_the_span() -> None:
    log = states(
        (-5.0, "a", "ready"),  # there before
        (2.0, "b", "starting"),
        (4.0, "b", "ready"),
        (7.0, "a", "draining"),
        (9.0, "a", "gone"),
        (11.0, "b", "gone"),  # after the end
    )
    assert replica_seconds(log, 10.0) == pytest.approx(9.0 + 8.0)
    times, counts = ready_replicas(log, 10.0)
    assert times.tolist() == [0.0, 4.0, 7.0, 10.0]
    assert counts.tolist() == [1, 2, 1, 1]


def test_decisions_are_changes_of_the_sampled_count_with_the_scalers_words() -> None:
    counts = [(0.0, 1), (0.5, 1), (1.0, 4), (1.5, 4), (9.0, 2)]
    log = MetricLog.from_rows(
        [(round(t * 1e9), "deployment", "spec_replicas", {"model": "m"}, float(n), "count") for t, n in counts],
        {},
    )
    steps = decisions_of(log, "m", 1, 1000.0, [(1000.7, "much to do"), (1030.0, "another matter")])
    assert [(step.time_s, step.before, step.wanted, step.reason) for step in steps] == [
        (1.0, 1, 4, "much to do"),
        (9.0, 4, 2, ""),
    ]


def test_pods_that_serve_otherwise_than_simulated_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = ServiceConfig(max_batch_size=4)
    refuse_other_service(config, found)
    with pytest.raises(ConfigError, match=r"max_batch_size is 4, the pods say 8: make them agree"):
        refuse_other_service(config, replace_service(found, max_batch_size=8))
    with pytest.raises(ConfigError, match="dynamic_batching"):
        refuse_other_service(config, replace_service(found, dynamic_batching=DynamicBatching(max_queue_delay_s=0.01)))


def replace_service(service: ServiceConfig, **changes: Any) -> ServiceConfig:
    return service.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"traffic": {"My Ramp": {"pattern": "ramp"}}}, "names files"),
        ({"policies": {}}, "at least 1 item"),
        ({"repeats": 0}, "greater than or equal to 1"),
        ({"real": {"deployment": "t", "names": "x"}}, "Extra inputs"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config_of(tmp_path, **changes)


def test_each_repeat_has_an_order_of_its_own(tmp_path: Path) -> None:
    listed = ExperimentConfig.model_validate(settings(tmp_path, repeats=3))
    mixed = listed.model_copy(update={"random_order": True})
    assert sorted(mixed.runs) == sorted(listed.runs)
    assert mixed.runs == mixed.runs
    size = len(listed.runs) // 3
    blocks = [mixed.runs[k * size : (k + 1) * size] for k in range(3)]
    assert [{repeat for _, _, repeat in block} for block in blocks] == [{1}, {2}, {3}]
    assert len({tuple(pair[:2] for pair in block) for block in blocks}) > 1


def test_a_fixed_policy_starts_with_its_number(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert [config.start_replicas(name) for name in config.policies] == [1, 1, 3]


def test_a_settled_run_begins_with_what_its_first_arrivals_and_its_policy_need(tmp_path: Path) -> None:
    """A replica serves some 220/s; the first two seconds have 900/s."""
    told = settings(tmp_path, settled=True)
    told["traffic"] = {"loud": {"pattern": "constant", "parameters": {"rate": 900}, "duration_s": 20}}
    told["policies"] |= {"many": {"kind": "hpa", "metric": "queue_time_ms", "target": 5, "min_replicas": 7}}
    config = ExperimentConfig.model_validate(told)
    schedule = make_schedule(config.traffic["loud"], "m")
    service = settled_service(config)
    assert {name: start_pods(config, name, schedule, service) for name in config.policies} == {
        "kpa": 5,
        "fixed-1": 1,
        "fixed-3": 3,
        "many": 7,
    }
    assert settled_service(config_of(tmp_path)) is None
    assert start_pods(config, "many", schedule, None) == 1


def test_the_simulated_half_begins_with_as_many_pods_as_the_real_one(played: Path) -> None:
    config = ExperimentConfig.model_validate_json((played / "experiment.json").read_text())
    which = ("ramp", "kpa", 1)
    run = RunDir(real_folder(played, which))
    service = run.manifest.service.model_copy(update={"replicas": 3})
    run.write_manifest(run.manifest.model_copy(update={"service": service}))
    simulate_pair(config, played, which)
    metrics = MetricLog.read(RunDir(counterpart_folder(played, which)).metrics)
    assert metrics.select("deployment", "ready_replicas", model="m").sort_values("time_s")["value"].iloc[0] == 3


VALID = Verdict(valid=True)
LATE = Verdict(
    valid=False,
    reasons=("requests were sent late: lag P99 9.00 ms, limit 2.00 ms",),
    figures={"lag_p99_ms": 9.0, "lag_limit_ms": 2.0},
)
FAILED = Verdict(valid=False, reasons=("it failed",), figures={"failed_share": 0.5})


class Silent:
    """Tells nobody."""

    def phase(self, text: str) -> None:
        """See Progress reporter."""

    def progress(self, share: float) -> None:
        """See Progress reporter."""


@pytest.mark.parametrize(
    ("verdicts", "attempts", "made"),
    [([VALID], 3, 1), ([LATE, VALID], 3, 2), ([LATE, LATE], 2, 2), ([LATE], 1, 1), ([FAILED], 3, 1), ([None], 3, 1)],
)
def test_a_late_run_is_made_again_while_there_are_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[Verdict | None], attempts: int, made: int
) -> None:
    config = ExperimentConfig.model_validate(settings(tmp_path, attempts=attempts))
    which = (next(iter(config.traffic)), next(iter(config.policies)), 1)
    coming = iter(verdicts)

    def attempt(*_: Any) -> RunDir:
        run = RunDir(begin_run(config, tmp_path, which))
        write_requests(run, ["ok"] * 200)
        run.write_manifest(run.manifest.model_copy(update={"verdict": next(coming)}))
        return run

    monkeypatch.setattr(experiment, "_attempt", attempt)
    nobody: Any = None
    for _ in range(2):  # going on changes nothing
        runs = MadeRuns(tmp_path, config.client, 1.0, Silent(), again_if=only_late)
        experiment.make_real(config, runs, which, nobody, None)
    assert list(coming) == []
    assert len(list((tmp_path / "invalid").glob("*"))) == made - 1
    assert RunDir(real_folder(tmp_path, which)).manifest.verdict == verdicts[-1]
