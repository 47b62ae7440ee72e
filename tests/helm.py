"""The chart, and helm and kubectl: what `make helm` and the local cluster have built, else what is on PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from testbed.localcluster import binaries

CHART = Path(__file__).parents[1] / "charts" / "kis"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kis"
HELM = next(map(str, sorted(_CACHE.glob("helm-*/helm"), reverse=True)), None) or shutil.which("helm")
KUBECTL = next(filter(os.path.exists, [str(binaries.folder() / "kubectl")]), shutil.which("kubectl"))
