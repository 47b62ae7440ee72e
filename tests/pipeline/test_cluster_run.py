"""`kis simulate --cluster`: a configuration in, a run folder out; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from loadgen.request_log import RequestLog
from testbed.autoscaling.build import build_policy
from testbed.calibration.profile import RunEffect, RunEffects, ServerCpu
from testbed.cli.main import application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from testbed.reporting.figures.cluster import pod_spans
from tests.oracles.cluster_worlds import GPU, flat_profile, with_money
from workloads.errors import KisError


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    flat_profile([0.010, 0.012, 0.014, 0.016]).write(folder / "profile.json")
    return {
        "cluster": {
            "gpu_kinds": {GPU: {}},
            "pools": [{"nodes": 2, "gpus": 4, "gpu_kind": GPU}],
            "models": [
                {
                    "name": "m",
                    "profiles": {GPU: str(folder / "profile.json")},
                    "max_batch_size": 4,
                    "max_replicas": 8,
                    "latency_target_s": 0.05,
                }
            ],
        },
        "traffic": {"m": {"pattern": "ramp", "parameters": {"low": 50, "peak": 900, "rise_s": 120}}},
        "policies": {"m": {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "max_replicas": 8}},
        "duration_s": 300,
        **changes,
    }


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the numbers: drawing takes three times as long as the simulation."""
    monkeypatch.setattr("testbed.pipeline.cluster_run.write_report", lambda folder: None)


@pytest.mark.usefixtures("no_report")
def test_a_queue_limit_is_told_of_since_what_it_refuses_is_a_matter_of_the_machine(tmp_path: Path):
    config = settings(tmp_path, duration_s=10)
    config["cluster"]["models"][0]["dynamic_batching"] = {"max_queue_size": 8}
    notes = simulate_cluster(ClusterRunConfig.model_validate(config), tmp_path / "limited")["notes"]
    assert "25% of them is taken, and not measured" in notes[0]
    assert "stands still for up to 0.5 s" in notes[0]
    plain = ClusterRunConfig.model_validate(settings(tmp_path, duration_s=10))
    assert simulate_cluster(plain, tmp_path / "plain")["notes"] == []


@pytest.mark.usefixtures("no_report")
def test_an_hpa_follows_a_ramp_and_everything_is_written(tmp_path: Path):
    config = ClusterRunConfig.model_validate(settings(tmp_path))
    summary = simulate_cluster(config, tmp_path / "run")
    one = summary["models"]["m"]
    log = RequestLog.read(tmp_path / "run" / "requests.parquet")
    assert one["requests"] >= len(log) > 100_000
    assert one["p95_ms"] == pytest.approx(1e3 * np.quantile(log.latency_s[log.ok], 0.95), rel=0.006)
    metrics = MetricLog.read(tmp_path / "run" / "metrics.parquet")
    replicas = metrics.select("deployment", "ready_replicas", model="m")["value"].to_numpy()
    assert replicas[0] == 1
    assert replicas[-1] >= 3
    decisions = json.loads((tmp_path / "run" / "decisions.json").read_text())
    assert len(decisions) == one["changes"] >= 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


@pytest.mark.usefixtures("no_report")
def test_a_run_that_ends_a_little_after_a_whole_second_has_no_interval_of_no_length(tmp_path: Path):
    """As of a trace of 400 steps of 0.05 s: utilisation was 0 / 0 there, and the log could not be written."""
    config = ClusterRunConfig.model_validate(settings(tmp_path, duration_s=20.000000000000004))
    simulate_cluster(config, tmp_path / "run")
    metrics = MetricLog.read(tmp_path / "run" / "metrics.parquet")
    assert len(metrics.select("deployment", "ready_replicas", model="m")) == 4  # one every OBSERVED_S


@pytest.mark.usefixtures("no_report")
def test_a_folder_is_of_one_configuration(tmp_path: Path):
    """Another run overwrote it without a word."""
    for seed in (1, 1):
        simulate_cluster(ClusterRunConfig.model_validate(settings(tmp_path, duration_s=5, seed=seed)), tmp_path / "run")
    with pytest.raises(ConfigError, match="made with other settings \\(seed differs\\)"):
        simulate_cluster(ClusterRunConfig.model_validate(settings(tmp_path, duration_s=5, seed=2)), tmp_path / "run")


def test_the_command_shows_a_table(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path, duration_s=30)))
    arguments = ["simulate", "--cluster", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    assert "simulated" in result.output.replace("\n", "")
    assert "GPU-s" in result.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "SIMULATED" in page
    assert "changes" in (tmp_path / "run" / "report.md").read_text()
    (tmp_path / "run" / "report.html").unlink()
    assert CliRunner().invoke(application(), ["report", str(tmp_path / "run")]).exit_code == 0
    assert (tmp_path / "run" / "report.html").read_text() == page


def test_a_trace_and_a_policy_from_flags_take_the_place_of_the_files(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    times = np.sort(np.random.default_rng(1).uniform(0, 60, 9000))
    (tmp_path / "t.csv").write_text("\n".join(f"{time:.6f}" for time in times))
    flags = [
        "--trace",
        str(tmp_path / "t.csv"),
        "--policy",
        "oracle:replica_capacity_rps=60,provisioning_delay_s=4",
        "--duration",
        "70",
    ]
    arguments = ["simulate", "--cluster", str(tmp_path / "c.yaml"), *flags, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    one = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]["m"]
    assert (one["policy"], one["requests"]) == ("oracle", 9000)
    replicas = MetricLog.read(tmp_path / "run" / "metrics.parquet").select("deployment", "spec_replicas")["value"]
    assert replicas.iloc[5] == 3  # 150/s at 60 a replica
    assert replicas.iloc[-1] == 1  # the trace is over


@pytest.mark.usefixtures("no_report")
def test_flags_change_single_keys_of_the_clusters_traffic(tmp_path: Path):
    given = settings(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    flags = ["--traffic.seed", "7", "--cluster.scheduler", "bin_pack", "--duration", "10"]
    arguments = ["simulate", "--cluster", str(tmp_path / "c.yaml"), *flags, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "run" / "cluster.json").read_text())
    assert (made["duration_s"], made["cluster"]["scheduler"]) == (10, "bin_pack")
    own = given["traffic"]["m"]
    assert {key: made["traffic"]["m"][key] for key in [*own, "seed"]} == {**own, "seed": 7}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--replicas", "3"], "replicas: go with one service"),
        (["--policy", "knative:8"], "give KIND:key=value"),
        (["--policy", "knativ"], "did you mean 'knative'"),
        (["--draws", "-1"], "draws"),
    ],
)
def test_flags_that_do_not_fit_a_cluster_are_refused(tmp_path: Path, flags: list[str], message: str):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    arguments = ["simulate", "--cluster", str(tmp_path / "c.yaml"), *flags, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_report")
def test_intervals_come_from_other_runs_that_might_come(tmp_path: Path):
    profile = flat_profile([0.010, 0.012, 0.014, 0.016])
    changed = settings(tmp_path, duration_s=60, draws=12, policies={})
    changed["cluster"]["models"][0]["replicas"] = 4
    changed["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 600}}}
    steady = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "steady")["models"]["m"]
    effects = RunEffects(service=RunEffect(std=0.1, degrees_of_freedom=30))
    profile.model_copy(update={"run_effects": effects}).write(tmp_path / "profile.json")
    varying = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "varying")["models"]["m"]
    widths = []
    for one in (steady, varying):
        band = one["intervals"]["p95_ms"]
        assert band["low"] <= band["middle"] <= band["high"]
        widths.append(band["high"] - band["low"])
        assert one["intervals"]["gpu_seconds"]["low"] == one["gpu_seconds"] == 4 * 60
    assert widths[1] > 3 * widths[0] > 0  # arrivals alone differ a little


@pytest.mark.usefixtures("no_report")
def test_batches_and_states_are_left_as_a_real_run_leaves_them(tmp_path: Path):
    two = {"kind": "hpa", "metric": "in_flight_requests", "target": 5, "min_replicas": 2, "max_replicas": 2}
    changed = settings(tmp_path, duration_s=120, policies={"m": two})
    simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")
    batches = BatchLog.read(tmp_path / "run" / "batches.parquet")
    log = RequestLog.read(tmp_path / "run" / "requests.parquet")
    assert sorted(batches.frame["request_id"]) == log.frame.loc[log.ok, "request_id"].tolist()
    metrics = MetricLog.read(tmp_path / "run" / "metrics.parquet")
    states = metrics.select("replica", "state", replica="pod-1")["state"].tolist()
    assert states == ["pending", "starting", "loading", "ready", "serving"]
    spans = pod_spans(metrics, "m", 120.0)
    last = spans[spans["pod"] == "pod-1"].iloc[-1]
    assert last["start_s"] + last["seconds"] == pytest.approx(120)


def test_users_think_and_faults_strike(tmp_path: Path):
    changed = settings(
        tmp_path,
        traffic={},
        policies={},
        users={"m": {"pattern": "ramp", "parameters": {"low": 1, "peak": 20, "rise_s": 60}, "think_s": 0.2}},
        faults=[{"at_s": 100, "crash": "m"}],
        duration_s=200,
    )
    changed["cluster"]["models"][0]["replicas"] = 2
    one = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")["models"]["m"]
    assert one["requests"] > 10_000
    assert one["error"] >= 1  # what the crashed pod held, or was sent before its endpoint was gone
    assert (tmp_path / "run" / "m.png").stat().st_size > 2_000


@pytest.mark.usefixtures("no_report")
def test_cpu_and_energy_come_from_the_profile_and_the_configuration(tmp_path: Path):
    cpu = {"type": "Resource", "name": "cpu", "target_utilization_pct": 50}
    spec = {"max_replicas": 8, "metrics": [cpu]}
    changed = settings(tmp_path, policies={"m": {"kind": "hpa", "spec": spec}})
    changed["cluster"]["gpu_kinds"][GPU] = {"power_w": [50.0, 250.0]}
    profile = flat_profile([0.010, 0.012, 0.014, 0.016])
    known = profile.model_copy(update={"server_cpu": ServerCpu(idle_cores=0.1, seconds_per_request=0.005)})
    known.write(tmp_path / "profile.json")
    summary = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")
    replicas = MetricLog.read(tmp_path / "run" / "metrics.parquet").select("deployment", "ready_replicas")["value"]
    # 900 requests/s cost 4.5 cores; half a core each (less what idles) makes eleven, and eight are allowed.
    assert replicas.iloc[-1] == 8
    idle_j = 8 * 50.0 * 300
    assert idle_j < summary["energy_j"] < 5 * idle_j


@pytest.mark.usefixtures("no_report")
def test_keda_wakes_a_model_that_has_no_pod_and_lets_it_sleep_again(tmp_path: Path):
    """What clients send counts before the pods: the queue of pods that are not there says nothing."""
    keda = {"kind": "keda", "threshold": 300, "cooldown_s": 60.0, "polling_interval_s": 15.0}
    burst = {"base": 0, "spike": 400, "spike_s": 60, "every_s": 180}  # from 120 to 180 s
    replicas = {}
    for metric in ("arrivals_per_second", "in_flight_requests"):
        changed = settings(tmp_path, policies={"m": {**keda, "metric": metric}}, duration_s=299)
        changed["traffic"] = {"m": {"pattern": "bursty", "parameters": burst}}
        changed["cluster"]["models"][0]["replicas"] = 0
        config = ClusterRunConfig.model_validate(changed)
        summary = simulate_cluster(config, tmp_path / metric)["models"]["m"]
        log = MetricLog.read(tmp_path / metric / "metrics.parquet").select("deployment", "spec_replicas")
        replicas[metric] = log.set_index("time_s")["value"]
        assert summary["error"] > 400  # nobody was there when they came
    slept = replicas["arrivals_per_second"]
    assert slept[slept.index < 120].max() == 0
    assert slept[(slept.index > 155) & (slept.index < 180)].min() >= 1
    assert slept.max() == 2  # 400 / 300
    assert slept.iloc[-1] == 0
    assert replicas["in_flight_requests"].max() == 0


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "kind", ["fixed", "hpa", "knative", "keda", "ray_serve", "llm_d", "dynamo", "predictive", "oracle"]
)
def test_every_policy_runs(tmp_path: Path, kind: str):
    policy = {
        "fixed": {"replicas": 3},
        "hpa": {"metric": "queue_time_ms", "target": 5.0},
        "knative": {"container_concurrency": 8},
        "keda": {"metric": "in_flight_requests", "threshold": 5, "min_replicas": 1},
        "ray_serve": {"target_ongoing_requests": 5},
        "llm_d": {"latency_target_s": 0.03, "rate_window_s": 15.0},
        "dynamo": {"replica_capacity_rps": 150, "latency_target_s": 0.03, "throughput_interval_s": 30.0},
        "predictive": {"replica_capacity_rps": 150, "provisioning_delay_s": 8},
        "oracle": {"replica_capacity_rps": 150, "provisioning_delay_s": 6},
    }[kind]
    changed = settings(tmp_path, policies={"m": {"kind": kind, **policy}}, duration_s=120)
    summary = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")
    assert (summary["models"]["m"]["changes"] >= 1) is (kind != "fixed")


@pytest.mark.usefixtures("no_report")
def test_a_fixed_number_of_replicas_is_there_from_the_start(tmp_path: Path):
    """They came after the policy's first minute: a shorter trace was served wholly by another number."""
    changed = settings(tmp_path, policies={"m": {"kind": "fixed", "replicas": 4}}, duration_s=20)
    one = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")["models"]["m"]
    assert (one["policy"], one["changes"], one["gpu_seconds"]) == ("fixed-4", 0, 80.0)
    changed["policies"]["m"]["replicas"] = 9
    with pytest.raises(ConfigError, match="replicas is 9, max_replicas of the model is 8: raise that, or give fewer"):
        simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "more")
    changed["policies"]["m"]["replicas"] = 8
    changed["cluster"]["pools"][0]["nodes"] = 1
    with pytest.raises(KisError, match="starts with 8 replicas, and the nodes have no room for so many"):
        simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "more")


def traced(folder: Path, lasts_s: float, **changes: Any) -> Path:
    """A configuration's file, with a trace of 50 requests/s."""
    (folder / "t.csv").write_text("\n".join(f"{time:.2f}" for time in np.arange(0, lasts_s, 0.02)))
    (folder / "c.yaml").write_text(yaml.safe_dump(settings(folder, policies={}, **changes)))
    return folder / "c.yaml"


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("flags", "lasts_s", "note"),
    [
        ([], 20, ""),  # not the 300 s of the file's own traffic
        (["--duration", "30"], 30, "the trace of m lasts 20 s, the run 30 s: nothing comes after it"),
        (["--duration", "15"], 15, "the trace of m lasts 20 s, the run 15 s: it is cut"),
    ],
)
def test_a_run_of_a_trace_lasts_as_long_as_the_trace(tmp_path: Path, flags: list[str], lasts_s: float, note: str):
    file = traced(tmp_path, 20.0)
    arguments = ["simulate", "--cluster", str(file), "--trace", str(tmp_path / "t.csv"), *flags]
    result = CliRunner().invoke(application(), [*arguments, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["duration_s"] == pytest.approx(lasts_s, abs=0.05)
    assert summary["models"]["m"]["gpu_seconds"] == pytest.approx(lasts_s, abs=0.05)
    assert [one for one in summary["notes"] if one != note] == []
    assert note in result.output.replace("\n", " ")


@pytest.mark.usefixtures("no_report")
def test_a_pattern_is_not_called_a_trace(tmp_path: Path):
    gentle = {"pattern": "constant", "parameters": {"rate": 50}, "duration_s": 40}
    changed = settings(tmp_path, policies={}, duration_s=20, traffic={"m": gentle})
    assert simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")["notes"] == []


def test_what_waits_at_the_end_has_a_column(tmp_path: Path):
    """One replica of 250/s under 900/s: a quarter is answered, and the others were in no column."""
    changed = settings(tmp_path, policies={}, duration_s=20)
    changed["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 900}}}
    one = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")["models"]["m"]
    assert one["waiting"] > 10_000
    assert one["ok"] + one["waiting"] == one["requests"]
    assert one["slo_violation_rate"] > 0.98  # of the decided ones; by those that were answered it was less
    assert "| waiting at the end |" in (tmp_path / "run" / "report.md").read_text()
    assert "waiting<br>at the end" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.usefixtures("no_report")
def test_what_a_replica_serves_is_taken_from_the_profile_and_the_target(tmp_path: Path):
    """An oracle that believed in a fraction of it held so much more than an HPA that it was no bound."""
    changed = settings(tmp_path, policies={"m": {"kind": "oracle", "provisioning_delay_s": 6}}, duration_s=120)
    derived = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "run")["models"]["m"]
    told = json.loads((tmp_path / "run" / "cluster.json").read_text())["policies"]["m"]["replica_capacity_rps"]
    assert 200 < told < 250  # full batches of four take 16 ms; the target is 50 ms
    assert derived["slo_violation_rate"] < 0.05
    changed["policies"]["m"]["replica_capacity_rps"] = 100
    wasteful = simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "other")["models"]["m"]
    assert wasteful["gpu_seconds"] > 1.5 * derived["gpu_seconds"]
    changed["policies"]["m"].pop("replica_capacity_rps")
    changed["cluster"]["models"][0]["latency_target_s"] = 0.001
    with pytest.raises(ConfigError, match="no rate has P95 within 1 ms on one replica of 'm': raise latency_target_s"):
        simulate_cluster(ClusterRunConfig.model_validate(changed), tmp_path / "none")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"kind": "hpaa"}, "did you mean 'hpa'"),
        ({"kind": "knative", "container_concurency": 8}, "did you mean 'container_concurrency'"),
        ({"kind": "fixed", "replicas": "many"}, "replicas"),
        ({"kind": "oracle", "replica_capacity_rps": 1, "provisioning_delay_s": 1}, "must know the rate"),
        ({"kind": "hpa", "metric": "qps", "target": 1}, "the testbed offers"),
        ({"kind": "hpa", "metric": "queue_time_ms", "target": 0}, "target above 0, not 0"),
        ({"kind": "hpa", "metric": "arrivals_per_second", "target": 9}, "not of pods, but of a whole service"),
        ({"kind": "keda", "metric": "arrivals", "threshold": 9}, "known are .*arrivals_per_second"),
    ],
)
def test_a_wrong_policy_is_one_clear_line(policy: dict[str, Any], message: str):
    with pytest.raises(Exception, match=message) as caught:
        build_policy(policy, 8, None)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_names_the_nearest(tmp_path: Path):
    wrong = settings(tmp_path)
    wrong["cluster"]["scheduller"] = "spread"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError, match="did you mean 'scheduler'"):
        load_config(tmp_path / "c.yaml", ClusterRunConfig)


def test_a_fault_on_a_node_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path, faults=[{"at_s": 5, "lose_node": "node-9"}])))
    with pytest.raises(ConfigError, match="the cluster has node-0, node-1"):
        load_config(tmp_path / "c.yaml", ClusterRunConfig)


def test_traffic_for_a_model_that_is_not_served_is_refused(tmp_path: Path):
    wrong = settings(tmp_path, traffic={"other": {"pattern": "constant"}})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError, match="the cluster serves m"):
        load_config(tmp_path / "c.yaml", ClusterRunConfig)


def test_nodes_that_are_made_first_are_in_the_records_the_report_and_the_money(tmp_path: Path):
    given = settings(tmp_path, policies={"m": {"kind": "fixed", "replicas": 1}}, duration_s=100)
    given["cluster"] = with_money(given["cluster"])
    given["cluster"]["pools"][0] |= {"max_nodes": 2, "nodes": 1, "node_ready_s": 40}
    given["policies"] = {"m": {"kind": "hpa", "metric": "in_flight_requests", "target": 1, "max_replicas": 8}}
    given["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 700}}}
    summary = simulate_cluster(ClusterRunConfig.model_validate(given), tmp_path / "run")
    nodes, (pool,) = summary["nodes"], summary["nodes"]["pools"]
    metrics = MetricLog.read(tmp_path / "run" / "metrics.parquet")
    states = metrics.select("replica", "state", replica="pod-1")
    waited_s = np.diff(states["time_s"].to_numpy()[:2])[0]
    assert waited_s == pytest.approx(40 + 1, abs=0.1)  # Karpenter's second, and the node
    asked_s = float(states["time_s"].iloc[0]) + waited_s - 40
    assert pool["node_hours"] == pytest.approx((100 + 100 - asked_s) / 3600)
    assert (pool["most"], pool["at_the_end"]) == (2, 2)
    assert (nodes["currency"], nodes["cost"]) == ("EUR", pytest.approx(3.6 * pool["node_hours"]))
    assert nodes["pending_for_node_s"] == pytest.approx(waited_s, abs=10.0)
    assert nodes["pending_at_max_s"] > 0  # two nodes are the most there may be
    there = metrics.select("device", "utilisation", node="node-1")["time_s"]
    assert asked_s <= there.min() <= asked_s + 5  # before, there was no such device
    assert metrics.select("pool", "starting_nodes")["value"].max() == 1
    causes = {one["cause"] for one in summary["models"]["m"]["post_mortem"]["episodes"]}
    assert causes <= {"node", "no room", "starting"}
    assert causes & {"node", "no room"}
    page = (tmp_path / "run" / "report.md").read_text()
    assert f"{nodes['cost']:.2f}" in page
    assert "pods waited for a node" in page


@pytest.mark.usefixtures("no_report")
def test_a_run_without_prices_and_provisioner_has_no_word_of_nodes(tmp_path: Path):
    given = settings(tmp_path, duration_s=20)
    summary = simulate_cluster(ClusterRunConfig.model_validate(given), tmp_path / "run")
    assert "nodes" not in summary
    given["cluster"] |= {"currency": "EUR", "gpu_kinds": {GPU: {"price_per_gpu_hour": 1.8}}}
    summary = simulate_cluster(ClusterRunConfig.model_validate({**given, "draws": 3}), tmp_path / "priced")
    assert summary["nodes"]["cost"] == pytest.approx(8 * 1.8 * 20 / 3600)
    assert summary["nodes"]["cost_interval"]["high"] == pytest.approx(8 * 1.8 * 20 / 3600)  # the same in every run
