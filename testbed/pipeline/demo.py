"""`kis demo`: a real Triton is measured and simulated beside itself, and two autoscalers meet in the simulator.

Files in results/<name>/: measured/ (a calibration of the emulated accelerator), tuned/ (an HPA and a rule for it),
compared/ (both, KIScaler and fixed numbers), and index.html, a page with what each found.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from testbed.config import CalibrateConfig
from testbed.config_file import load_config
from testbed.pipeline.calibrate import calibrate
from testbed.pipeline.evaluate import evaluate
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.made_runs import Reporter
from testbed.pipeline.tune import tune
from testbed.pipeline.tune_config import TuneConfig
from testbed.reporting.compare import compare_folder
from testbed.reporting.index import Entry, write_index
from testbed.reporting.labels import claim
from testbed.reporting.reports import tuning, write_report
from testbed.reporting.verdict import verdict
from testbed.serving.tritonserver import find_tritonserver
from testbed.study import Workers
from workloads.catalog import ServiceConfig

MODEL = "emulated"


class Step(NamedTuple):
    """entry: of the page, without what was found. run: does it, and returns that in a sentence."""

    entry: Entry
    run: Callable[[], str]


def demo(folder: Path, reporter: Reporter, workers: Workers) -> Path:
    """Every step, each kept when the folder has it; returns index.html. ServingError without an embedded server."""
    find_tritonserver()
    measure = "a real Triton is measured, its profile fitted, other traffic simulated and compared"
    tune = "an HPA and a rule are tuned for a wave of traffic, in the simulator"
    steps = (
        Step(
            Entry(measure, "measured", "", pictures=("figures/run-01.png",), named=ServiceConfig().label),
            lambda: _measured(folder, reporter, workers),
        ),
        Step(
            Entry(tune, "tuned", "", pictures=("figures/search-1-time.png",)),
            lambda: _tuned(folder, reporter),
        ),
        Step(
            Entry(
                "both, KIScaler and fixed numbers of replicas, on the wave and on other traffic",
                "compared",
                "",
                pictures=("timelines.png", "pareto.png"),
            ),
            lambda: _compared(folder, reporter, workers),
        ),
    )
    entries = []
    for number, step in enumerate(steps, start=1):
        reporter.phase(f"step {number} of {len(steps)}: {step.entry.title}")
        entries.append(step.entry._replace(found=step.run()))
        reporter.phase(entries[-1].found)
    return write_index(folder, "kis demo: measured, simulated, scaled", entries)


def _config(name: str, kind: type[Any], **overrides: Any) -> Any:
    return load_config(Path(str(resources.files("testbed") / "configs" / "demo" / name)), kind, overrides)


def _served(folder: Path) -> dict[str, Any]:
    """The cluster's model with the profile of the first step."""
    profiles = {"emulated": str(folder / "measured" / f"profile-{MODEL}.json")}
    return {"models": [{"name": MODEL, "profiles": profiles}]}


def _measured(folder: Path, reporter: Reporter, workers: Workers) -> str:
    calibrate(_config("measure.yaml", CalibrateConfig), folder / "measured", reporter, workers=workers)
    return " ".join(map(claim, compare_folder(folder / "measured").summary.groups))


def _tuned(folder: Path, reporter: Reporter) -> str:
    config = _config("tune.yaml", TuneConfig, cluster=_served(folder))
    tune(config, folder / "tuned", reporter.progress)
    write_report(folder / "tuned")
    return tuning.found(folder / "tuned")


def _compared(folder: Path, reporter: Reporter, workers: Workers) -> str:
    tuned = str(folder / "tuned" / "tuned.json")
    policies = {kind: {"kind": kind, "tuned": tuned} for kind in ("hpa", "rule")}
    config = _config("compare.yaml", EvaluateConfig, cluster=_served(folder), policies=policies, baseline="hpa")
    return verdict(evaluate(config, folder / "compared", reporter.progress, workers))
