"""Kubernetes, etcd and kwok, built once with Go into a cache folder named after all that they are made from.

Versions are those of go/*/go.mod; go.sum there holds the hash of every source. An interrupted build leaves no half
binary, and a later one goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from testbed.errors import ClusterError

KUBERNETES = "1.34.4"
SOURCES = Path(__file__).with_name("go")

_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_STAMPS = {"gitVersion": f"v{KUBERNETES}", "gitMajor": _MAJOR, "gitMinor": _MINOR, "gitTreeState": "clean"}
# Kubernetes takes its version from the linker: without it kubelets and clients call themselves v0.0.0.
_KUBERNETES_FLAGS = " ".join(
    f"-X {package}/version.{name}={value}"
    for package in ("k8s.io/component-base", "k8s.io/client-go/pkg")
    for name, value in _STAMPS.items()
)
# Sources in Go's module cache, and compiled packages in its build cache.
_NEEDED_BYTES = 8 * 10**9
_UNFINISHED = ".unfinished-"  # and the builder's pid


@dataclass(frozen=True)
class Program:
    """A main package, in one of the modules of go/."""

    name: str
    module: str
    package: str
    linker_flags: str = ""


PROGRAMS = (
    Program("pause", "pause", "."),
    *(
        Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_FLAGS)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
    ),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
)


def folder() -> Path:
    """Where the binaries are, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made_from = hashlib.sha256(repr(PROGRAMS).encode())
    for file in sorted(SOURCES.rglob("*")):
        if file.is_file():
            made_from.update(file.read_bytes())
    return cache / "kis" / f"kubernetes-{KUBERNETES}-{made_from.hexdigest()[:12]}"


def missing() -> list[Program]:
    """What is not built yet."""
    return [program for program in PROGRAMS if not (folder() / program.name).exists()]


def build(say: Callable[[str], None]) -> Path:
    """Build what is missing, and return the folder. say: gets a line for each program."""
    target, todo = folder(), missing()
    target.mkdir(parents=True, exist_ok=True)
    for left in target.glob(f"*{_UNFINISHED}*"):  # of builds that were killed; others may be building now
        if not psutil.pid_exists(int(left.name.rpartition("-")[2])):
            left.unlink(missing_ok=True)
    if todo and shutil.disk_usage(target).free < _NEEDED_BYTES:
        raise ClusterError(
            f"building Kubernetes takes {_NEEDED_BYTES / 1e9:.0f} GB: free some space on {target}'s disk"
        )
    for number, program in enumerate(todo, start=1):
        say(f"building {program.name} ({number} of {len(todo)})")
        started = time.monotonic()
        _build(program, target)
        say(f"built {program.name} in {time.monotonic() - started:.0f} s")
    return target


def _build(program: Program, target: Path) -> None:
    unfinished = target / f"{program.name}{_UNFINISHED}{os.getpid()}"
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]
    command += ["-ldflags", f"-s -w {program.linker_flags}".strip(), "-o", str(unfinished), program.package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        done = subprocess.run(
            command, cwd=SOURCES / program.module, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ClusterError(f"cannot build {program.name}: {reason} (go build in {SOURCES / program.module})")
        unfinished.rename(target / program.name)
    finally:
        unfinished.unlink(missing_ok=True)
