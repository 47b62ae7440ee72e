"""A small results folder of every kind of page, in seconds: nothing is served, the simulated ones are simulated."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from synthetic_runs import write_demo
from test_devices_report import LATE, folder_of
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.grid_study import run_study
from testbed.pipeline.benchmark import benchmark
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from testbed.pipeline.evaluate import evaluate
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from testbed.pipeline.studies.rate_sweep import RateSweep
from testbed.pipeline.tune import tune
from testbed.pipeline.tune_config import TuneConfig
from testbed.reporting.index import Entry, write_index
from testbed.reporting.overview import write_overview
from testbed.reporting.reports import write_report
from testbed.study import HERE
from tests.golden import RESULTS
from tests.oracles.cluster_worlds import flat_profile
from tests.pipeline import test_benchmark, test_cluster_run, test_evaluate, test_experiment, test_tune
from tests.pipeline.played import begin_run, play_run
from workloads.catalog import ServiceConfig
from workloads.files import write_json

ANSWERS = ("traffic", "plan", "packing", "service_tuning", "tuning", "benchmark", "training", "adaptation")
POLICIES = {
    "all": {"kind": "fixed", "replicas": 6},
    "one": {"kind": "fixed", "replicas": 1},
    "oracle": {"kind": "oracle", "replica_capacity_rps": 180, "provisioning_delay_s": 4},
    "hpa": test_evaluate.HPA | {"target": 4},
}


def write_every_kind(folder: Path) -> dict[str, Path]:
    """The page of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    write_demo(folder / "calibration")
    folder_of(folder / "devices", repeats=2, resnet50_gpu_2={"verdict": LATE})
    cluster = ClusterRunConfig.model_validate(test_cluster_run.settings(folder, duration_s=90))
    simulate_cluster(cluster, folder / "cluster")
    evaluation = EvaluateConfig.model_validate(test_evaluate.settings(folder, policies=POLICIES, challenger="hpa"))
    evaluate(evaluation, folder / "evaluation", lambda share: None, HERE)
    _experiment(folder)
    flat_profile([0.010] * 8).write(folder / "profile.json")
    study = RateSweep(kind="rate-sweep", profile=folder / "profile.json", rates=(20, 80, 1200), seeds=2, duration_s=5)
    run_study(study, folder / "study", lambda share: None)
    _typed("simulate", "--replicas", "2", "--out", str(folder / "run"), profile=folder / "profile.json")
    _typed("plan", "--target-ms", "50", "--out", str(folder / "plan"), profile=folder / "profile.json")
    _packed(folder / "packing", folder / "profile.json")
    log = resources.files("testbed") / "examples" / "access.log"
    result = CliRunner().invoke(application(["traffic"]), ["traffic", str(log), "--out", str(folder / "traffic")])
    assert result.exit_code == 0, result.output
    _tuned_service(folder / "service_tuning")
    search = TuneConfig.model_validate(test_tune.settings(folder, trials=4, duration_s=60))
    tune(search, folder / "tuning", lambda share: None)
    benchmark(test_benchmark.config_of(folder), folder / "benchmark", lambda share: None)
    for kind, golden in (("training", "golden-kiscaler/training"), ("adaptation", "golden-adaptation")):
        shutil.copytree(RESULTS / golden, folder / kind)
    kinds = ("calibration", "devices", "cluster", "evaluation", "experiment", "study", "run", *ANSWERS)
    pages = {kind: write_report(folder / kind) for kind in kinds}
    found = Entry("an HPA meets another", "evaluation", "one of them holds less.", pictures=("pareto.png",))
    pages["demo"] = write_index(folder, "kis demo: measured, simulated, scaled", [found]).rename(folder / "demo.html")
    pages["overview"] = write_overview(folder)
    return pages


def _packed(folder: Path, profile: Path) -> None:
    """Two models that may share a GPU, and one that may not."""
    traffic = {"pattern": "constant", "parameters": {"rate": 20}}
    models = [
        {"name": name, "profile": str(profile), "target_ms": target_ms, "traffic": traffic, "gpu_memory_gib": memory}
        for name, target_ms, memory in (("text", 500, 4), ("speech", 500, None), ("live", 14, 4))
    ]
    write_json(folder.with_suffix(".json"), {"gpu": {"memory_gib": 80}, "duration_s": 8, "models": models})
    typed = ["pack", str(folder.with_suffix(".json")), "--out", str(folder)]
    result = CliRunner().invoke(application(["pack"]), typed)
    assert result.exit_code == 0, result.output


def _tuned_service(folder: Path) -> None:
    """Two settings, one of them run: as a server would leave it."""

    def interval(middle: float) -> dict[str, float]:
        return {"low": 0.9 * middle, "middle": middle, "high": 1.2 * middle}

    rows = [
        {
            "model": "text",
            "service": ServiceConfig(instances=instances, max_batch_size=8).model_dump(),
            "holds": holds,
            "latency_ms": interval(latency_ms),
            "slo_violation_rate": interval(0.01),
            "utilisation": 0.4,
            "throughput_rps": 300.0 * instances,
            "measured": True,
            "cost_per_hour": 2.5,
            "front": holds,
        }
        for instances, holds, latency_ms in ((1, False, 60.0), (2, True, 24.0))
    ]
    run = {
        "run": "text-r1-n2-b8-d0ms-traffic",
        "valid": False,
        "reasons": ["requests were sent late"],
        "offered_rps": 120.0,
        "duration_s": 60.0,
        "latency_ms": 25.0,
        "predicted_ms": interval(24.0),
        "within_target_rps": 119.0,
        "predicted_within_target_rps": 118.0,
    }
    config = TuneServiceConfig(target_ms=50, price_per_gpu_hour=2.5, currency="EUR", models=("text",))
    folder.mkdir()
    write_json(
        folder / "tuned-service.json",
        {
            "config": config.model_dump(mode="json"),
            "settings": rows,
            "picks": [
                {"setting": 1, "file": "picks/1/text/config.pbtxt", "runs": {"traffic": run, "most": run}},
            ],
            "effort": {
                "measured_runs": 10,
                "confirmed_runs": 2,
                "traffic_s": 200.0,
                "grid_runs": 4,
                "grid_traffic_s": 240.0,
            },
        },
    )


def _typed(command: str, *arguments: str, profile: Path) -> None:
    traffic = ["--pattern", "constant", "--set", "rate=200", "--duration", "8"]
    typed = [command, "--profile", str(profile), *traffic, *arguments]
    result = CliRunner().invoke(application([command]), typed)
    assert result.exit_code == 0, result.output


def _experiment(folder: Path) -> None:
    config = ExperimentConfig.model_validate(test_experiment.settings(folder))
    for policy in config.policies:
        begin_run(config, folder / "experiment", ("ramp", policy, 1))
        play_run(config, folder / "experiment", ("ramp", policy, 1))
    (folder / "experiment" / "experiment.json").write_text(config.model_dump_json(indent=2))
