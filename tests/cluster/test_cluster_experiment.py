"""`kis experiment` on real pods: a fixed number and a policy of ours, both beside their simulated runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from localcluster_pods import MANIFESTS

from loadgen.request_log import RequestLog
from testbed.errors import ClusterError
from testbed.pipeline.experiment import run_experiment
from testbed.pipeline.experiment_config import ExperimentConfig
from tests.pipeline.recording_reporter import RecordingReporter

pytestmark = pytest.mark.cluster
PROFILE = Path(__file__).parents[2] / "results" / "golden-emulated" / "profile-emulated.json"


def config_of(namespace: str, policies: dict[str, Any]) -> ExperimentConfig:
    served = {
        "name": "emulated",
        "profiles": {"emulated": str(PROFILE)},
        "max_replicas": 4,
        "balancer": "round_robin",
        "latency_target_s": 0.05,
        "pod": {"load_s": 1.5, "pre_stop_s": 5, "grace_period_s": 10},
    }
    return ExperimentConfig.model_validate(
        {
            "cluster": {
                "gpu_kinds": {"emulated": {}},
                "pools": [{"nodes": 2, "gpus": 4, "gpu_kind": "emulated"}],
                "models": [served],
            },
            "real": {
                "kustomization": str(MANIFESTS / "overlays" / "emulated"),
                "namespace": namespace,
                "deployment": "triton-emulated",
            },
            "traffic": {
                "step": {"pattern": "ramp", "parameters": {"low": 100, "peak": 500, "rise_s": 4}, "duration_s": 12}
            },
            "policies": policies,
            "simulated_runs": 3,
        }
    )


@pytest.mark.long
def test_a_pair_of_runs_and_going_on_after_an_interrupt(
    local_cluster: Any, namespace: str, api: Any, kubeconfig: Path, tmp_path: Path
) -> None:
    knative = {
        "kind": "knative",
        "container_concurrency": 3,
        "stable_window_s": 6,
        "panic_window_s": 2,
        "metrics_delay_s": 0,
        "period_s": 1,
    }
    config = config_of(namespace, {"fixed-2": {"kind": "fixed", "replicas": 2}, "kpa": knative})
    first = RecordingReporter(most=1.5)
    page = run_experiment(config, tmp_path, api, kubeconfig, first, look=None)
    assert page == tmp_path / "report.html"
    rows = {row["policy"]: row for row in json.loads((tmp_path / "pairs.json").read_text())["rows"]}
    assert rows["fixed-2"]["replica_seconds_real"] == pytest.approx(24.0, rel=0.02)
    assert rows["fixed-2"]["replica_seconds_sim"] == pytest.approx(24.0)
    assert rows["kpa"]["changes_real"] >= 1
    assert rows["kpa"]["changes_sim"] >= 1
    assert all(row["errors_real"] == 0 for row in rows.values())
    decisions = json.loads((tmp_path / "runs" / "step-kpa-real-1" / "decisions.json").read_text())
    assert decisions[0]["before"] == 1
    assert decisions[0]["wanted"] > 1
    assert "concurrency" in decisions[0]["reason"]  # the policy's own words
    log = RequestLog.read(tmp_path / "runs" / "step-kpa-real-1" / "requests.parquet")
    assert len(set(log.frame["endpoint"])) > 1  # the new pods were used
    (tmp_path / "runs" / "step-kpa-real-1" / "decisions.json").unlink()  # as an interrupt would leave it
    second = RecordingReporter(most=1.5)
    run_experiment(config, tmp_path, api, kubeconfig, second, look=None)
    assert [text.partition(":")[0] for text in second.phases if "pods" in text] == ["step-kpa-real-1"]


def test_an_hpa_without_an_adapter_is_one_clear_line(
    local_cluster: Any, namespace: str, api: Any, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.pipeline.scalers.READY_S", 8.0)
    config = config_of(namespace, {"hpa": {"kind": "hpa", "metric": "queue_time_ms", "target": 5, "max_replicas": 4}})
    with pytest.raises(ClusterError, match=r"no metrics after 8 s .*is the adapter applied"):
        run_experiment(config, tmp_path, api, kubeconfig, RecordingReporter(most=1.5), look=None)
