"""The small pictures of README.md, of committed campaigns: few policies and kinds of traffic, so that they can be read.

kis restore results/golden-transients && python docs/hooks/readme_pictures.py docs/assets
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from testbed.reporting.drawing import save_png
from testbed.reporting.experiment import read_experiment
from testbed.reporting.figures.evaluation import pareto
from testbed.reporting.figures.experiment import timelines

POLICIES = ("tuned-hpa", "kiscaler", "predictive", "knative", "keda", "ray-serve", "fixed-6")
PAIRS = {("periodic", "kpa"), ("periodic", "hpa-queue"), ("bursty", "kpa"), ("bursty", "hpa-queue")}


def main(folder: Path) -> None:
    """Draw both into the folder."""
    evaluation = json.loads(Path("results/golden-evaluation/evaluation.json").read_text())
    evaluation["policies"] = {policy: evaluation["policies"][policy] for policy in POLICIES}
    evaluation["pareto_front"] = [policy for policy in evaluation["pareto_front"] if policy in POLICIES]
    save_png(pareto(evaluation), folder / "policies.png")
    experiment = read_experiment(Path("results/golden-transients"))
    chosen = tuple(pair for pair in experiment.pairs if (pair.traffic, pair.policy) in PAIRS)
    save_png(timelines(replace(experiment, pairs=chosen)), folder / "replicas.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
