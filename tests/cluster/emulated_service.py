"""The emulated model as pods, traffic to it, and `kis controller` over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from loadgen.job import ReplayJob, RequestShape, run_replay
from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import poisson_schedule
from testbed.serving.kubernetes import KubernetesService
from workloads.catalog import find_model

NAME = "triton-emulated"  # of the deployment and its service
LONG_S = 180.0  # what is waited for has come long before, on any machine


def replay_at(
    rate_rps: float,
    seconds: float,
    service: KubernetesService | Path,
    folder: Path,
    on_progress: Callable[[float, float], None] | None = None,
    stop: threading.Event | None = None,
    *,
    timeout_s: float = 10.0,
) -> RequestLog:
    """Poisson arrivals at a constant rate, sent to the service's endpoints as they change; for so long, or to a stop.

    service: or a file of endpoints.

    What had not been sent then is `unsent`.
    """
    spec = find_model("emulated")
    schedule = folder / "schedule.parquet"
    poisson_schedule(make_pattern("constant", rate=rate_rps), seconds, 1, spec.name).write(schedule)
    job = ReplayJob(
        schedule=schedule,
        run_dir=folder,
        endpoints=service if isinstance(service, Path) else service.endpoints_file,
        requests={spec.name: RequestShape(inputs=spec.inputs)},
        timeout_s=timeout_s,
    )
    return run_replay(job, on_progress, stop)


def sent(log: RequestLog) -> pd.DataFrame:
    """The rows of the requests whose time came before the replay was stopped."""
    return log.frame[log.frame["status"] != "unsent"]


class Kis:
    """`kis controller` as a process, and the lines that it has written."""

    def __init__(self, folder: Path, kubeconfig: Path, number: int, **settings: Any) -> None:
        one = (
            {}
            if "deployments" in settings
            else {"deployment": NAME, "model": "emulated", "limits": {"max_replicas": 4}}
        )
        config = {**one, **settings}
        file, self.log = folder / f"controller-{number}.yaml", folder / f"controller-{number}.jsonl"
        file.write_text(yaml.safe_dump(config))
        command = [str(Path(sys.executable).with_name("kis")), "controller", str(file), "--kubeconfig", str(kubeconfig)]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "COLUMNS": "200"})

    def turns(self) -> list[dict[str, Any]]:
        """Its decisions so far, as it logged them."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def acts(self) -> bool:
        """Whether its last decision was one that it may carry out."""
        return bool(self.turns()) and bool(self.turns()[-1]["acted"])

    def patched(self) -> list[int]:
        """The counts that it has set."""
        return [turn["replicas"] for turn in self.turns() if turn["acted"] and turn["replicas"] is not None]
