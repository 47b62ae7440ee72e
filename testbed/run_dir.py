"""A run's folder: run.json says what was run and whether it holds; the artefacts lie beside it under fixed names.

    run.json  schedule.parquet  requests.parquet  metrics.parquet  batches.parquet

A real run without a log of batches (a server of the user's) has no batches.parquet; a simulated run has all of them.
"""

from __future__ import annotations

from pathlib import Path

from loadgen.artifact import ArtifactError
from loadgen.run_manifest import ClientManifest, Device
from testbed.machine import Machine
from workloads.files import first_wrong, parse_model, read_text, write_json

__all__ = ["Device", "RunDir", "RunManifest", "is_complete", "run_dirs"]


class RunManifest(ClientManifest):
    """run.json."""

    threads: int | None = None  # CPU threads of each instance; None: not known, or simulated
    precision: str | None = None  # in which the network computes; None: not known, simulated, or fp32 by default
    execution: str | None = None  # on a GPU: graph | eager; None: not known, or on another device
    gpu_uuids: tuple[str, ...] = ()  # GPUs that served; none: another device, or not known which
    repeat: int = 0  # real repeats of one run share everything but this
    held_out: bool = False
    machine: Machine | None = None  # as it was before the campaign's runs; None: simulated, or not looked at
    simulates: str | None = None  # run_id of the real run that a simulated run repeats
    profile: str | None = None  # run folder or file of the profile that a simulated run used

    @property
    def network(self) -> str | None:
        """How the network ran, for tables: `fp16, as CUDA graphs`; None: not known."""
        if self.precision is None:
            return None
        how = {"graph": ", as CUDA graphs", "eager": ", kernel by kernel"}.get(self.execution or "", "")
        return f"{self.precision}{how}"


class RunDir:
    """Paths of one run's folder, and its manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_file = path / "run.json"
        self.schedule = path / "schedule.parquet"
        self.requests = path / "requests.parquet"
        self.metrics = path / "metrics.parquet"
        self.batches = path / "batches.parquet"
        self.raw = path / "raw"  # streamed rows and server logs; read once, when the run is closed

    def create(self) -> RunDir:
        """Make the folder; ArtifactError if a run is there already."""
        self.refuse_another()
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def refuse_another(self) -> None:
        """ArtifactError if a run is there already."""
        if self.manifest_file.exists():
            raise ArtifactError(f"{self.path} already holds a run: choose another folder, or remove it")

    @property
    def manifest(self) -> RunManifest:
        """Read run.json."""
        try:
            return manifest_of(read_text(self.manifest_file), str(self.manifest_file))
        except FileNotFoundError:
            raise ArtifactError(f"{self.path} is not a run folder: it has no run.json") from None
        except ValueError as error:
            raise ArtifactError(f"{self.manifest_file}: {error}: make the run again with this kis") from None

    def write_manifest(self, manifest: RunManifest) -> None:
        """Write run.json in one step, so that a kill leaves the old one or the new one."""
        write_json(self.manifest_file, manifest)


def manifest_of(text: str, where: str) -> RunManifest:
    """Of run.json's text; ArtifactError names the first key that is wrong. where: whose text it is."""
    try:
        return parse_model(RunManifest, text)
    except ValueError as error:
        raise ArtifactError(f"{where}: {first_wrong(error)}: make the run again with this kis") from None


def is_complete(run: Path) -> bool:
    """True if the run in that folder has ended as it should."""
    return (run / "run.json").exists() and RunDir(run).manifest.state == "complete"


def run_dirs(folder: Path) -> list[RunDir]:
    """The run folders of a results folder, by name; none if there is no runs/ in it."""
    return [RunDir(file.parent) for file in sorted(folder.glob("runs/*/run.json"))]
