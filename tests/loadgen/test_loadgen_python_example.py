"""The example of the documentation that makes a run from Python, against a real tritonserver."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.request_log import RequestLog
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions

ROOT = Path(__file__).parents[2]


def example() -> str:
    """The one block of docs/ that calls run_replay, indented or fenced."""
    texts = [file.read_text() for file in sorted((ROOT / "docs").rglob("*.md"))]
    fenced = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]
    indented = [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for text in texts
        for block in re.findall(r"(?:^    .*\n|^\n)+", text, flags=re.MULTILINE)
    ]
    (found,) = {block.strip() for block in [*fenced, *indented] if "run_replay(" in block}
    return found


@pytest.mark.server
def test_the_example_makes_a_run(tmp_path):
    options = BackendOptions(emulated=EmulatedProfile.linear(0.001, 0.0002, 8, sigma=0), threads=1)
    with LocalService(tmp_path / "service", find_model("emulated"), ServiceConfig(), options) as service:
        code = example().replace("127.0.0.1:8000", service.endpoints()[0].http).replace(", 60, seed", ", 2, seed")
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=90)
    (log,) = tmp_path.glob("results/*/requests.parquet")
    assert RequestLog.read(log).ok.all()
