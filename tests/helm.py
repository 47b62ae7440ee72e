"""The chart, and helm and kubectl: what `make helm` and the local cluster have built, else what is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from testbed.localcluster import binaries

CHART = Path(__file__).parents[1] / "charts" / "kis"
MANIFESTS = CHART.parents[1] / "manifests"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kis"
HELM = next(map(str, sorted(_CACHE.glob("helm-*/helm"), reverse=True)), None) or shutil.which("helm")
KUBECTL = next(filter(os.path.exists, [str(binaries.folder() / "kubectl")]), shutil.which("kubectl"))


def run(*command: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([part or "" for part in command], capture_output=True, text=True, check=False)


def kustomized(*folders: str | Path) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    for folder in folders:
        done = run(KUBECTL, "kustomize", str(MANIFESTS / folder))
        assert done.returncode == 0, done.stderr
        objects += yaml.safe_load_all(done.stdout)
    return objects
