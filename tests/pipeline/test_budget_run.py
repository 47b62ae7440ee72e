"""Models of a simulated cluster on one budget of GPUs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from testbed.config_file import build
from testbed.errors import ConfigError
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline.cluster_budget import gpus_per_replica
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import prepare, simulate_cluster
from testbed.simulation.cluster.services import read_services
from tests.oracles.cluster_worlds import GPU, flat_profile

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.pipeline.cluster_run.write_report", lambda folder: None)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two models that both want more from the first decision on; `slow` serves a third of what `fast` does."""
    flat_profile([0.010]).write(folder / "fast.json")
    flat_profile([0.030]).write(folder / "slow.json")
    model = {
        "max_batch_size": 1,
        "max_replicas": 8,
        "latency_target_s": 0.2,
        "replicas": 2,
        "pod": {"grace_period_s": 4},
    }
    policy = {"kind": "knative", "container_concurrency": 2, "max_replicas": 8}
    return {
        "cluster": {
            "gpu_kinds": {GPU: {}},
            "pools": [{"nodes": 2, "gpus": 4, "gpu_kind": GPU}],
            "models": [{"name": name, "profiles": {GPU: str(folder / f"{name}.json")}, **model} for name in RATES],
        },
        "traffic": {
            name: {"pattern": "constant", "parameters": {"rate": rate}, "seed": seed}
            for seed, (name, rate) in enumerate(RATES.items())
        },
        "policies": dict.fromkeys(RATES, policy),
        "duration_s": 120,
        **changes,
    }


RATES = {"fast": 250, "slow": 80}  # for three replicas of either


def run(folder: Path, name: str, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = build(ClusterRunConfig, settings(folder, **changes), "c.yaml")
    summary = simulate_cluster(config, folder / name)
    return summary["models"], json.loads((folder / name / "decisions.json").read_text())


def replicas(folder: Path, metric: str) -> dict[str, Any]:
    log = MetricLog.read(folder / "metrics.parquet")
    return {name: log.select("deployment", metric, model=name)["value"].to_numpy() for name in RATES}


def test_the_budget_holds_and_decisions_say_what_was_cut_and_why(tmp_path):
    _, free = run(tmp_path, "free")
    models, decisions = run(tmp_path, "fair", budget={"gpus": 5})
    spec = replicas(tmp_path / "fair", "spec_replicas")
    assert (spec["fast"] + spec["slow"]).max() == 5
    assert min(spec["fast"][-1], spec["slow"][-1]) >= 1
    assert sum(model["gpu_seconds"] for model in models.values()) <= 5 * 120
    cut = [step["reason"] for step in decisions if "5 GPUs for fast (" in step["reason"]]
    assert cut
    assert all("; wants " in reason for reason in cut)
    assert not any("GPU" in step["reason"] for step in free)


def test_the_objective_and_the_weights_decide_who_is_cut(tmp_path):
    missed = {}
    for name, budget in {
        "sum": {"objective": "sum"},
        "weighted": {"objective": "sum", "weights": {"slow": 10}},
    }.items():
        models, _ = run(tmp_path, name, budget={"gpus": 5, **budget})
        missed[name] = {model: result["slo_violation_rate"] for model, result in models.items()}
    assert missed["sum"]["fast"] < 0.5 < missed["sum"]["slow"]
    assert missed["weighted"]["slow"] < 0.5 < missed["weighted"]["fast"]


def test_sum_gives_no_more_to_a_model_that_has_no_traffic_for_it(tmp_path):
    changes = settings(tmp_path)
    changes["traffic"]["fast"]["parameters"]["rate"] = 20
    changes["traffic"]["slow"]["parameters"]["rate"] = 95
    fixed = {"kind": "knative", "container_concurrency": 0.01, "max_replicas": 5}  # it wants five for any traffic
    changes["policies"] = {"fast": fixed, "slow": fixed}
    config = build(ClusterRunConfig, {**changes, "budget": {"gpus": 5, "objective": "sum"}}, "c.yaml")
    simulate_cluster(config, tmp_path / "run")
    spec = replicas(tmp_path / "run", "spec_replicas")
    assert (spec["fast"][-1], spec["slow"][-1]) == (1, 4)


def test_a_budget_for_everybody_changes_nothing(tmp_path):
    _, without = run(tmp_path, "without")
    _, ample = run(tmp_path, "ample", budget={"gpus": 8}, policies=capped(4))
    _, alone = run(tmp_path, "alone", policies=capped(4))
    assert ample == alone
    assert without != alone
    for log in ("requests", "batches", "metrics"):
        files = [(tmp_path / name / f"{log}.parquet").read_bytes() for name in ("ample", "alone")]
        assert files[0] == files[1]


def capped(most: int) -> dict[str, Any]:
    policy = {"kind": "knative", "container_concurrency": 2, "max_replicas": most}
    return dict.fromkeys(RATES, policy)


def test_pods_that_drain_hold_their_gpus_until_they_are_gone(tmp_path):
    """What `slow` gives up lasts as long as its requests do; `fast` waits for it."""
    changes = settings(tmp_path)
    for model in changes["cluster"]["models"]:
        model["replicas"] = 3 if model["name"] == "slow" else 1
        model["pod"] = {"pre_stop_s": 20.0, "grace_period_s": 30.0}
    changes["policies"] = {
        "fast": {"kind": "knative", "container_concurrency": 1, "max_replicas": 3},
        "slow": {"kind": "knative", "container_concurrency": 1000, "max_replicas": 3},
    }
    config = build(ClusterRunConfig, {**changes, "budget": {"gpus": 4}}, "c.yaml")
    policy_run = prepare(config, read_services(config.cluster), 1, keep_rows=False)
    most = 0
    for second in range(1, 100):
        policy_run.advance(float(second))
        most = max(most, len(policy_run.sim.alive("fast")) + len(policy_run.sim.alive("slow")))
    assert most == 4
    ups = [step for step in policy_run.steps if step.model == "fast"]
    down_s = next(step.time_s for step in policy_run.steps if step.model == "slow")
    assert ups
    assert ups[0].time_s >= down_s + 20


def test_a_model_that_no_policy_scales_keeps_its_replicas(tmp_path):
    changes = settings(tmp_path, policies={"fast": capped(8)["fast"]})
    config = build(ClusterRunConfig, {**changes, "budget": {"gpus": 5}}, "c.yaml")
    policy_run = prepare(config, read_services(config.cluster), 1, keep_rows=False)
    policy_run.advance(60.0)
    assert [len(policy_run.sim.wanted(name)) for name in RATES] == [3, 2]
    assert "5 GPUs for fast (3 of " in policy_run.steps[-1].reason
    assert policy_run.steps[-1].reason.endswith("and slow (keeps 2)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"gpus": 9}}, "budget: gpus is 9, the nodes have 8"),
        ({"budget": {"gpus": 4, "weights": {"fats": 2}}}, "budget.weights names the model 'fats'"),
        ({"budget": {"gpus": 4, "weights": {"fast": 0}}}, "budget.weights.fast"),
        ({"budget": {"gpus": 4, "weights": {"fast": float("inf")}}}, "budget.weights.fast"),
        ({"budget": {"gpus": 0}}, "budget.gpus"),
        ({"budget": {"gpus": 1.5}}, r"min_replicas \(fast 1, slow 1\) take 2 GPUs, gpus is 1.5"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        run(tmp_path, "run", **changes)
    assert "\n" not in str(error.value)


def test_a_run_that_begins_above_its_budget_is_one_line(tmp_path):
    changes = settings(tmp_path)
    changes["cluster"]["models"][0]["replicas"] = 4
    config = build(ClusterRunConfig, {**changes, "budget": {"gpus": 4}}, "c.yaml")
    with pytest.raises(ConfigError, match=r"begins with more replicas \(fast 4, slow 2\) than 4 GPUs hold"):
        prepare(config, read_services(config.cluster), 1, keep_rows=False)


def test_a_budget_is_for_several_models(tmp_path):
    changes = settings(tmp_path)
    for part in ("traffic", "policies"):
        del changes[part]["slow"]
    changes["cluster"]["models"] = changes["cluster"]["models"][:1]
    with pytest.raises(ConfigError, match="budget: it is for several models"):
        build(ClusterRunConfig, {**changes, "budget": {"gpus": 4}}, "c.yaml")


def test_a_replica_takes_its_share_of_a_gpu(tmp_path):
    changes = settings(tmp_path)["cluster"]
    changes["gpu_kinds"]["slice"] = {"sharing": "mig", "shares": 7}
    changes["pools"] += [{"name": "s", "gpus": 1, "gpu_kind": "slice"}, {"name": "c", "cpu_replicas": 4}]
    file = str(tmp_path / "fast.json")

    def share(*kinds: str) -> Fraction:
        models = [{**changes["models"][0], "profiles": dict.fromkeys(kinds, file)}]
        cluster = build(
            ClusterRunConfig, {"cluster": {**changes, "models": models}, "traffic": {"fast": {}}}, "c"
        ).cluster
        return gpus_per_replica(cluster, cluster.models[0])

    assert (share(GPU), share("slice"), share("cpu")) == (1, Fraction(1, 7), 0)
    with pytest.raises(ConfigError, match=r"'fast' takes different parts of a GPU \(h100 1, cpu 0\)"):
        share(GPU, "cpu")


def test_sum_needs_the_capacity_of_a_model_on_several_kinds(tmp_path):
    changes = settings(tmp_path)
    changes["cluster"]["gpu_kinds"]["other"] = {}
    changes["cluster"]["pools"].append({"name": "o", "gpus": 1, "gpu_kind": "other"})
    changes["cluster"]["models"][0]["profiles"]["other"] = str(tmp_path / "fast.json")
    budget = {"gpus": 4, "objective": "sum"}
    with pytest.raises(ConfigError, match=r"give budget\.replica_capacity_rps\.fast, as the model runs on several"):
        simulate_cluster(build(ClusterRunConfig, {**changes, "budget": budget}, "c.yaml"), tmp_path / "run")
