"""What goes into a bundle, and what its run.sh says where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testbed.bundle.pack import PROJECT, BundlePython, describe, locked, wanted
from testbed.errors import ConfigError

RUN = PROJECT / "testbed" / "bundle" / "run.sh"
LOCK = """
one==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
two==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:ba
two==2.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
# three==3.0
"""


def of(version: str) -> BundlePython:
    return BundlePython(version, f"{version}.1", Path(), Path(), Path())


def test_the_entry_of_the_lock_is_the_one_for_the_bundles_python() -> None:
    assert [entry.split()[0] for entry in locked(LOCK, {"one", "two"}, of("3.12"))] == ["one==1.0", "two==2.5"]
    assert [entry.split()[0] for entry in locked(LOCK, {"one", "two"}, of("3.11"))] == ["one==1.0", "two==2.0"]
    assert locked(LOCK, {"one"}, of("3.12"))[0].count("--hash=") == 2


def test_pip_is_told_no_marker_as_it_would_evaluate_it_for_the_python_that_it_runs_in() -> None:
    """A bundle of Python 3.12 that was made with 3.11 had neither numpy nor scipy."""
    assert ";" in LOCK
    assert not any(";" in entry for entry in locked(LOCK, {"one", "two"}, of("3.12")))


def test_a_package_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="three"):
        locked(LOCK, {"one", "three"}, of("3.12"))


def test_the_light_core_and_its_server_go_along_and_pytorch_never(tmp_path: Path) -> None:
    names = wanted(of("3.12"), [])
    assert {"numpy", "gevent", "locust", "tritonclient", "geventhttpclient", "nvidia-pytriton", "grpcio"} <= names
    assert not names & {"torch", "torchvision", "transformers", "optuna", "mypy", "ray"}
    fewer = wanted(of("3.12"), ["NumPy", "grpcio"])
    assert names - fewer >= {"numpy", "grpcio"}
    assert locked((PROJECT / "requirements.lock").read_text(), names, of("3.12"))
    assert locked((PROJECT / "requirements.lock").read_text(), names, of("3.13"))


def test_a_python_that_cannot_go_along_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-python"):
        describe(tmp_path / "no-python")
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho \'["3.9.1", "x", "y", "z", "w"]\'\n')
    fake.chmod(0o755)
    with pytest.raises(ConfigError, match=r"3\.9\.1"):
        describe(fake)
    fake.write_text(f'#!/bin/sh\necho \'["3.12.1", "x", "y", "{tmp_path}", "{tmp_path}"]\'\n')
    with pytest.raises(ConfigError, match="--enable-shared"):
        describe(fake)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose Python is this one."""
    made, root = tmp_path / "bundle", tmp_path / "root"
    version = ".".join(map(str, sys.version_info[:2]))
    (root / "python" / "bin").mkdir(parents=True)
    (root / "python" / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
    for name in ("site", "project"):
        (root / name).mkdir()
    (root / "python" / "bin" / "python3").symlink_to(sys.executable)
    made.mkdir()
    with tarfile.open(made / "env.tar.xz", "w:xz") as tar:
        for name in ("python", "site", "project"):
            tar.add(root / name, arcname=name)
    (made / "version").write_text(version + "\n")
    (made / "run.sh").write_text(RUN.read_text())
    return made


def ran(bundle: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "KIS_BUNDLE": str(bundle.parent / "unpacked"), **environment}
    given = {name: value for name, value in given.items() if value != "unset"}
    return subprocess.run(["bash", bundle / "run.sh", *command], env=given, capture_output=True, text=True, check=False)


def test_a_command_runs_with_the_bundles_python_first_and_the_machines_packages_last(bundle: Path) -> None:
    done = ran(bundle, "sh", "-c", "command -v python3; echo $LD_LIBRARY_PATH", THERE="/machine/packages")
    assert done.returncode == 0, done.stderr
    unpacked = bundle.parent / "unpacked"
    assert done.stdout.splitlines()[0] == f"{unpacked}/python/bin/python3"
    assert done.stdout.splitlines()[1].startswith(f"{unpacked}/python/lib")
    (paths,) = unpacked.glob("python/lib/*/site-packages/kis.pth")
    assert paths.read_text().splitlines() == [f"{unpacked}/project", f"{unpacked}/site", "/machine/packages"]
    assert ran(bundle, "sh", "-c", "exit 7", THERE="").returncode == 7  # unpacked once
    assert paths.read_text().splitlines() == [f"{unpacked}/project", f"{unpacked}/site"]


def test_packages_of_another_python_are_refused_in_one_line(bundle: Path) -> None:
    (bundle / "version").write_text("3.99\n")
    done = ran(bundle, "true", THERE="unset", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert done.stderr.startswith("kis: this machine's packages are of Python")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_command_it_says_what_to_give(bundle: Path) -> None:
    done = ran(bundle, THERE="")
    assert done.returncode == 2
    assert "kis --help" in done.stderr
