"""The wheel, in a folder of its own: all that a user needs is in it, and nothing of the repository is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("workloads", "loadgen", "testbed", "pyproject.toml", "README.md", "LICENSE")
USED = """
import loadgen, testbed, workloads
print(testbed.__file__, loadgen.__file__, workloads.__file__)
run = testbed.simulate(testbed.example_profile(), testbed.Constant(rate=50.0), duration_s=5)
print(int(run.summary["answered"]) == len(run.requests) > 100)
"""
START = "import sys; from testbed.cli import main; sys.argv[0] = 'kis'; main()"


def run(*command: str, cwd: Path, **environment: str) -> str:
    """What it prints; an AssertionError has its errors."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    run("-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation", "-w", "..", cwd=source)
    (wheel,) = folder.glob("kis_testbed-*.whl")
    shutil.rmtree(source)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    keep_compiled(folder / "installed")
    return folder / "installed"


def keep_compiled(installed: Path) -> None:
    """Numba takes what it compiled in the repository for its own, as the sources are the same: it saves a minute."""
    own = ROOT / "testbed" / "simulation"
    there = installed / "testbed" / "simulation"
    (there / "__pycache__").mkdir()
    for compiled in (own / "__pycache__").glob("*.nb[ic]"):
        shutil.copy(compiled, there / "__pycache__")
    for source in own.glob("*.py"):
        assert source.read_bytes() == (there / source.name).read_bytes()
        shutil.copystat(source, there / source.name)


def test_the_example_is_simulated_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    files, simulated = run("-c", USED, cwd=tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert [Path(file).parent.parent for file in files.split()] == [installed] * 3
    assert simulated == "True"
    assert not list(tmp_path.iterdir())


def test_its_command_and_its_configurations_are_there(installed: Path, tmp_path: Path) -> None:
    entry = (installed / "kis_testbed-0.1.0.dist-info" / "entry_points.txt").read_text()
    assert "kis = testbed.cli:main" in entry
    assert "calibrate" in run("-c", START, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    kept = (
        "configs/**/*.yaml",
        "examples/*.json",
        "examples/*.log",
        "reporting/templates/*",
        "localcluster/go/**/*.go",
        "bundle/run.sh",
    )
    for pattern in kept:
        ours = {file.relative_to(ROOT) for file in (ROOT / "testbed").glob(pattern)}
        assert ours
        assert {file for file in ours if not (installed / file).is_file()} == set()


def test_what_ships_is_found_by_the_path_that_it_has_in_the_repository(installed: Path, tmp_path: Path) -> None:
    cluster = ("simulate", "--cluster", "testbed/configs/cluster.yaml", "--duration-s", "60", "--out", "run")
    printed = run("-c", START, *cluster, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "run/report.html" in printed
    assert (tmp_path / "run" / "report.html").is_file()
