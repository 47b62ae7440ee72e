"""The simulated HPA against the real one: `python -m tests.conformance.hpa_differential FILE [--record]`.

FILE holds what the real kube-controller-manager was given at each sync of each story, and what it decided. The
simulated HPA gets the same values and the same pods at the same instants. From the first sync on it goes by its own
decisions: one that differs is not forgotten. --record: play the stories on the local cluster first, and write FILE.
The last line says 'N stories, M agree'; the exit status is 1 if one does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.pods import PodSample, PodState
from testbed.autoscaling.hpa.proposal import MetricReadings
from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec
from testbed.autoscaling.hpa.stabilization import History
from testbed.localcluster.control_plane import HPA_DOWNSCALE_STABILIZATION_S, HPA_SYNC_PERIOD_S

SCHEMA = 1
# As the local cluster's controller manager is started; its version is the local cluster's.
FLAGS = ControllerFlags(
    sync_period_s=HPA_SYNC_PERIOD_S, downscale_stabilization_s=HPA_DOWNSCALE_STABILIZATION_S, kubernetes_minor=34
)
_PHASES = {"Pending": "P", "Running": "R", "Succeeded": "S", "Failed": "F"}
_PHASE_OF = {letter: phase for phase, letter in _PHASES.items()}


class Compared(NamedTuple):
    """One story, sync by sync: seconds since the first, replicas after each."""

    name: str
    times_s: list[float]
    real: list[int]
    simulated: list[int]

    @property
    def agrees(self) -> bool:
        """The same decision at each sync."""
        return self.real == self.simulated


def compare(story: Mapping[str, Any]) -> Compared:
    """The simulated HPA over what a real one was given."""
    spec = HpaSpec.model_validate(story["spec"])
    history, replicas, simulated = History(), int(story["replicas"]), []
    for one in story["syncs"]:
        readings = MetricReadings(
            per_pod={
                key: {pod: PodSample(value_m, one["time_s"], 5.0) for pod, value_m in values.items()}
                for key, values in one["per_pod"].items()
            },
            values={key: [value_m] for key, value_m in one["values"].items()},
        )
        pods = [_pod(name, code) for name, code in one["pods"].items()]
        target = ScaleTarget(replicas, one["status_replicas"], pods)
        answer = sync(spec, target, readings, history, one["time_s"], FLAGS)
        history = answer.history
        replicas = replicas if answer.desired_replicas is None else answer.desired_replicas
        simulated.append(replicas)
    times_s = [round(one["time_s"], 3) for one in story["syncs"]]
    return Compared(story["name"], times_s, [one["real"] for one in story["syncs"]], simulated)


def read(file: Path) -> list[Compared]:
    """Of a file that was recorded."""
    told = json.loads(file.read_text())
    assert told["schema"] == SCHEMA, f"{file} has schema {told['schema']}: record it again"
    return [compare(story) for story in told["stories"]]


def write(file: Path, seen: Mapping[str, Sequence[Any]], stories: Sequence[Any], version: str) -> None:
    """Keep what was recorded. seen: hpa_record.Seen by story."""
    kept = []
    for story in stories:
        syncs = seen[story.name]
        zero_s = syncs[0].time_s
        kept.append(
            {
                "name": story.name,
                "spec": story.spec.model_dump(exclude_none=True),
                "replicas": story.replicas,
                "syncs": [
                    {
                        "time_s": round(one.time_s - zero_s, 3),
                        "status_replicas": one.status_replicas,
                        "pods": {name.partition("/")[2]: _code(pod) for name, pod in one.pods.items()},
                        "values": one.values,
                        "per_pod": {
                            key: {name.partition("/")[2]: value_m for name, value_m in values.items()}
                            for key, values in one.per_pod.items()
                        },
                        "real": one.real,
                    }
                    for one in syncs
                ],
            }
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(_lines(story) for story in kept)
    file.write_text(f'{{"schema": {SCHEMA}, "kubernetes": "{version}", "stories": [\n{lines}\n]}}\n')


def _lines(story: dict[str, Any]) -> str:
    """JSON with a line for each sync: it can be read, and is not long."""
    syncs = ",\n".join("  " + json.dumps(one, separators=(",", ":")) for one in story.pop("syncs"))
    return f'{json.dumps(story)[:-1]}, "syncs": [\n{syncs}\n]}}'


def _code(pod: PodState) -> str:
    """Phase, + if ready, and x on its way out."""
    return _PHASES[pod.phase] + ("+" if pod.ready else "") + ("x" if pod.deleting else "")


def _pod(name: str, code: str) -> PodState:
    return PodState(name, _PHASE_OF[code[0]], "+" in code, 0.0, 0.0, "x" in code)  # type: ignore[arg-type]


def table(found: Sequence[Compared]) -> str:
    """Markdown: one line a story, and what differs below."""
    lines = ["| story | syncs | real | simulated | agree |", "| --- | --- | --- | --- | --- |"]
    for one in found:
        real, simulated = (_changes(one.times_s, values) for values in (one.real, one.simulated))
        lines.append(
            f"| {one.name} | {len(one.real)} | {real} | {'the same' if one.agrees else simulated} | "
            f"{'yes' if one.agrees else 'NO'} |"
        )
    return "\n".join(lines)


def _changes(times_s: Sequence[float], values: Sequence[int]) -> str:
    """`3, 5 at 10.0 s, ...`: replicas after the first sync, and each change with its time."""
    changes = [str(values[0])]
    for k in range(1, len(values)):
        if values[k] != values[k - 1]:
            changes.append(f"{values[k]} at {times_s[k]:.1f} s")
    return ", ".join(changes)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    recording = "--record" in words
    files = [Path(word) for word in words if word != "--record"]
    if len(files) != 1 or not (recording or files[0].is_file()):
        print(__doc__, file=sys.stderr)
        return 2
    if recording:
        record_to(files[0])
    found = read(files[0])
    print(table(found))
    print(f"{len(found)} stories, {sum(one.agrees for one in found)} agree")
    return 0 if all(one.agrees for one in found) else 1


def record_to(file: Path) -> None:
    """Play the stories on the local cluster, which must be up."""
    from kubernetes import client, config

    from testbed.localcluster.layout import KUBECONFIG
    from tests.conformance.hpa_record import record
    from tests.conformance.hpa_stories import STORIES

    namespace = "hpa-differential"
    with config.new_client_from_config(str(KUBECONFIG)) as api:
        core = client.CoreV1Api(api)
        core.create_namespace({"metadata": {"name": namespace}})
        try:
            seen = record(api, namespace)
        finally:
            core.delete_namespace(namespace)
        write(file, seen, STORIES, client.VersionApi(api).get_code().git_version)


if __name__ == "__main__":
    sys.exit(main())
