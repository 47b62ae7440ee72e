"""Trainings of several seeds as tasks on a Ray cluster; what they leave comes back as files, after each evaluation.

The cluster's nodes need this project with its `train` extra. Profiles, and what a training has left before, are sent
along. How a cluster lets its users in is between Ray and them (RAY_AUTH_MODE, RAY_AUTH_TOKEN).
"""

from __future__ import annotations

import io
import math
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.kiscaler.evaluation import Evaluation
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.seeds import OnEvaluation, Runner, Training
from testbed.kiscaler.train import Progress, train
from testbed.kiscaler.train_config import TrainConfig
from testbed.ray_cluster import connected, fetched, load_ray

ENVIRONMENTS_A_CORE = 3
POLL_S = 0.5


def on_ray(address: str) -> Runner:
    """A Runner. address: of a cluster, as ray.init takes it; LOCAL starts one on this machine.

    ConfigError if Ray is not installed, or the cluster does not answer.
    """
    ray = load_ray()

    def run(
        trainings: Sequence[Training], scenarios: Scenarios, on_evaluation: OnEvaluation, progress: Progress
    ) -> None:
        with connected(ray, address):
            _run(ray, trainings, scenarios, on_evaluation, progress)

    return run


def _run(
    ray: Any, trainings: Sequence[Training], scenarios: Scenarios, on_evaluation: OnEvaluation, progress: Progress
) -> None:
    from ray.util.queue import Queue  # noqa: PLC0415 - not everybody has it

    inbox = Queue(actor_options={"num_cpus": 0})
    task = ray.remote(_learn).options(num_cpus=_cores(ray, trainings[0].config), max_retries=0)
    shared = ray.put(scenarios)
    pending = {task.remote(training.config, shared, pack(training.folder), inbox): training for training in trainings}
    folders = {training.config.seed: training.folder for training in trainings}
    steps = dict.fromkeys(folders, 0)
    total = len(trainings) * trainings[0].config.total_steps
    while pending:
        ended, _ = ray.wait(list(pending), timeout=POLL_S)
        while not inbox.empty():
            seed, evaluation, files = inbox.get()
            unpack(files, folders[seed])
            steps[seed] = evaluation.steps
            on_evaluation(seed, evaluation)
            progress(sum(steps.values()) / total)
        for reference in ended:
            training = pending.pop(reference)
            unpack(fetched(ray, reference, f"seed {training.config.seed}"), training.folder)


def _cores(ray: Any, config: TrainConfig) -> int:
    """That a training keeps busy, but no more than a node has: it would wait for ever."""
    most = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return max(1, min(most, math.ceil(config.environments / ENVIRONMENTS_A_CORE)))


def _learn(config: TrainConfig, scenarios: Scenarios, files: bytes, inbox: Any) -> bytes:
    """The task: goes on from the files, puts (seed, evaluation, files) into the inbox, returns the files at the end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        unpack(files, folder)

        def tell(evaluation: Evaluation) -> None:
            inbox.put((config.seed, evaluation, pack(folder)))

        train(config, folder, tell, lambda share: None, scenarios)
        return pack(folder)


def pack(folder: Path) -> bytes:
    """All files under a folder, as a tar."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, arcname=".")
    return into.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """What pack has made, over what the folder has."""
    with tarfile.open(fileobj=io.BytesIO(files), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")
