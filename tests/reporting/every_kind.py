"""A small results folder of every kind of page, in seconds: nothing is served, the simulated ones are simulated."""

from __future__ import annotations

from pathlib import Path

from synthetic_runs import write_demo
from test_devices_report import LATE, folder_of

from testbed.grid_study import run_study
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from testbed.pipeline.evaluate import evaluate
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.pipeline.studies.rate_sweep import RateSweep
from testbed.reporting.index import Entry, write_index
from testbed.reporting.overview import write_overview
from testbed.reporting.reports import write_report
from testbed.study import HERE
from tests.oracles.cluster_worlds import flat_profile
from tests.pipeline import test_cluster_run, test_evaluate, test_experiment
from tests.pipeline.played import begin_run, play_run

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
    kinds = ("calibration", "devices", "cluster", "evaluation", "experiment", "study")
    pages = {kind: write_report(folder / kind) for kind in kinds}
    found = Entry("an HPA meets another", "evaluation", "one of them holds less.", pictures=("pareto.png",))
    pages["demo"] = write_index(folder, "kis demo: measured, simulated, scaled", [found]).rename(folder / "demo.html")
    pages["overview"] = write_overview(folder)
    return pages


def _experiment(folder: Path) -> None:
    config = ExperimentConfig.model_validate(test_experiment.settings(folder))
    for policy in config.policies:
        begin_run(config, folder / "experiment", ("ramp", policy, 1))
        play_run(config, folder / "experiment", ("ramp", policy, 1))
    (folder / "experiment" / "experiment.json").write_text(config.model_dump_json(indent=2))
