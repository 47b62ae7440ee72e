"""The chart, and helm: the one that `make helm` built, else that on PATH, else None."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CHART = Path(__file__).parents[1] / "charts" / "kis"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kis"
HELM = next(map(str, sorted(_CACHE.glob("helm-*/helm"), reverse=True)), None) or shutil.which("helm")
