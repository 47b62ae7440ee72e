"""What README.md and docs/ show can be done as it is shown: Python, YAML, make, python -m and the files they name.

`kis` commands have a test of their own, and docs/python.md is executed by test_api.py.
"""

from __future__ import annotations

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from testbed.config_file import build
from testbed.pipeline.devices_config import DevicesConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", flags=re.DOTALL | re.MULTILINE)
BATCHING = "docs/explanation/batching.md"
DEVICES = "docs/devices.md"
KUBERNETES = "docs/how-to/run-on-kubernetes.md"
SERVES = "docs/how-to/serve.md"


def blocks(language: str) -> dict[str, list[str]]:
    """The code blocks of that language, by page."""
    shown = {
        name: [textwrap.dedent(code) for _, of, code in FENCED.findall(text) if of == language]
        for name, text in TEXT.items()
    }
    return {name: codes for name, codes in shown.items() if codes}


def commands(pattern: str) -> set[str]:
    """What the pattern's group finds in code, on any page."""
    code = [line for text in TEXT.values() for *_, block in FENCED.findall(text) for line in block.splitlines()]
    code += [inline for text in TEXT.values() for inline in re.findall(r"`([^`\n]+)`", FENCED.sub("", text))]
    return {found for line in code for found in re.findall(pattern, line)}


def execute(page: str) -> dict[str, object]:
    """The names that the page's blocks leave, one run after the other."""
    namespace: dict[str, object] = {}
    for code in blocks("python")[page]:
        exec(compile(code, page, "exec"), namespace)
    return namespace


def test_every_page_with_python_is_known() -> None:
    assert set(blocks("python")) == {BATCHING, "docs/python.md", SERVES}


def test_the_examples_of_the_batching_page_run() -> None:
    """They assert their own figures."""
    assert "p95_ms" in execute(BATCHING)


@pytest.mark.server
def test_the_example_of_the_serving_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    execute(SERVES)
    assert capsys.readouterr().out.count("pid=") == 2  # of the two replicas that it began with


def test_every_block_of_yaml_is_what_its_page_says() -> None:
    shown = blocks("yaml")
    assert set(shown) == {DEVICES, KUBERNETES}
    for code in shown[DEVICES]:
        build(DevicesConfig, yaml.safe_load(code), DEVICES)
    for code in shown[KUBERNETES]:
        kustomization = yaml.safe_load(code)
        folders = [*kustomization["resources"], *kustomization.get("components", [])]
        for folder in folders:  # relative to an overlay of the reader's, beside manifests/
            assert (ROOT / "docs" / folder / "kustomization.yaml").is_file(), folder


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = commands(r"(?:^|[;&] *)make ([a-z-]+)")
    assert {"calibrate", "test", "bench", "cluster-up"} <= named
    assert named <= targets


def test_every_module_that_is_run_is_there() -> None:
    modules = commands(r"python -m ([a-z_.]+)")
    assert "testbed.localcluster" in modules
    assert [name for name in sorted(modules) if find_spec(name) is None] == []


def test_every_file_that_a_command_names_is_there() -> None:
    files = commands(r"(?<![\w/.])((?:testbed|loadgen|manifests|tests|docs)/[\w./*-]+)")
    assert "testbed/configs/cluster.yaml" in files
    assert [name for name in sorted(files) if not list(ROOT.glob(name.rstrip("/.")))] == []
