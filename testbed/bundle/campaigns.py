"""`python -m testbed.bundle.campaigns PLAN`: campaigns one after the other, each within its time.

For a machine that is there for minutes only. What a campaign leaves is packed as soon as it ends, also when its time
was up: it is fitted elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from testbed.config import Strict
from testbed.config_file import load_config
from workloads.errors import KisError

LEAST_S = 30.0  # a campaign that would have less is not begun
PACKING_S = 12.0  # kept for the last one
KILL_AFTER_S = 15.0  # from the interrupt
LINES = 40  # of a campaign's output, at its end
LEFT_OUT = ("raw", "models")
MACHINE = (
    ("nvidia-smi",),
    ("nvidia-smi", "-q"),
    ("lscpu",),
    ("free", "-g"),
    ("df", "-h", "/dev/shm"),
    ("uname", "-a"),
)


class Stage(Strict):
    """One campaign. command: its first word may be kis; `--out FOLDER` is added."""

    name: str = Field(pattern=r"^[\w.-]+$", description="name of the campaign and of its archive")
    most_s: float = Field(gt=0, description="time limit; the campaign is then interrupted, and its results are kept")
    command: tuple[str, ...] = Field(min_length=1)
    mps: bool = Field(False, description="start NVIDIA's Multi-Process Service for this campaign")


class CampaignPlan(Strict):
    """The most valuable campaign first."""

    stages: tuple[Stage, ...] = Field(min_length=1, description="campaigns, the most valuable one first")


class Ended(NamedTuple):
    """status: None: there was no time for it. archive: what is to be brought back."""

    name: str
    status: int | None
    archive: Path | None


def run(plan: CampaignPlan, seconds: float, out: Path, work: Path) -> list[Ended]:
    """Run what fits into `seconds`; archives go to `out`, results to `work`/NAME."""
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    _look(work / "machine")
    _packed(work / "machine", out)
    ended = []
    for stage in plan.stages:
        left_s = seconds - (time.monotonic() - begun) - PACKING_S
        most_s = min(stage.most_s, left_s)
        passed = f"[{time.monotonic() - begun:.0f} s] {stage.name}"
        if most_s < min(LEAST_S, stage.most_s):
            print(f"{passed}: no time left", flush=True)
            ended.append(Ended(stage.name, None, None))
            continue
        print(f"{passed}: at most {most_s:.0f} s", flush=True)
        status = _run(stage, most_s, work / stage.name)
        print(f"[{time.monotonic() - begun:.0f} s] {stage.name}: exit status {status}", flush=True)
        ended.append(Ended(stage.name, status, _packed(work / stage.name, out)))
    return ended


def _run(stage: Stage, most_s: float, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    command = list(stage.command)
    if command[0] == "kis":
        command[:1] = [sys.executable, "-m", "testbed.cli"]
    console = folder / "console.log"
    try:
        with _service(stage.mps, folder) as more, console.open("wb") as log:
            process = subprocess.Popen(
                [*command, "--out", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **more},
                start_new_session=True,
                # What was started in the background of a script ignores the interrupt, and so would all that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one thread only
            )
            status = _attend(process, most_s)
    except OSError as error:
        console.write_text(f"kis: {command[0]}: {error.strerror}\n")
        status = 127
    lines = console.read_text(errors="replace").splitlines()
    print("\n".join(f"  {line}" for line in lines[-LINES:]), flush=True)
    return status


def _attend(process: subprocess.Popen[bytes], most_s: float) -> int:
    """Its exit status; interrupted once its time is up, and killed, with all that it started, if that is no help."""
    try:
        return process.wait(most_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return 124  # as timeout(1) says it


@contextmanager
def _service(mps: bool, folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of processes that share a GPU by MPS; its daemon runs for the block. Without: nothing."""
    if not mps:
        yield {}
        return
    pipes, logs = folder / "mps", folder / "mps-log"
    pipes.mkdir(exist_ok=True)
    logs.mkdir(exist_ok=True)
    more = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
    subprocess.run(["nvidia-cuda-mps-control", "-d"], env={**os.environ, **more}, check=False)
    try:
        yield more
    finally:
        options = {"env": {**os.environ, **more}, "input": b"quit\n", "timeout": KILL_AFTER_S}
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["nvidia-cuda-mps-control"], check=False, **options)  # type: ignore[call-overload]
        shutil.rmtree(pipes, ignore_errors=True)


def _look(folder: Path) -> None:
    """What this machine is, in the words of its own tools; what it does not have is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "machine.txt").open("w") as file:
        for command in MACHINE:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
                file.write(f"$ {' '.join(command)}\n{done.stdout}\n")


def _packed(folder: Path, out: Path) -> Path:
    """`out`/NAME.tar.xz, in one step; without pages (`kis report` writes them), streamed rows and repositories."""
    archive = out / f"{folder.name}.tar.xz"
    unfinished = archive.with_suffix(".part")
    with tarfile.open(unfinished, "w:xz") as tar:
        tar.add(folder, arcname=folder.name, filter=_kept)
    unfinished.replace(archive)
    return archive


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(member.name).name
    return None if name in LEFT_OUT or name.endswith(".html") or not (member.isfile() or member.isdir()) else member


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="campaigns", description=__doc__)
    parser.add_argument("plan", type=Path, help="testbed/configs/gpu-day.yaml, or one of your own")
    parser.add_argument("--seconds", type=float, default=560.0, help="in all")
    parser.add_argument("--out", type=Path, required=True, help="for the archives")
    parser.add_argument("--work", type=Path, default=Path("/tmp/kis-results"), help="for the results themselves")
    given = parser.parse_args()
    try:
        ended = run(load_config(given.plan, CampaignPlan), given.seconds, given.out, given.work)
    except KisError as error:
        raise SystemExit(f"kis: {error}") from None
    raise SystemExit(0 if all(campaign.status == 0 for campaign in ended) else 1)


if __name__ == "__main__":
    main()
