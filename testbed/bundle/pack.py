"""`python -m testbed.bundle.pack`: this project for a Linux machine without a network, in one folder.

env.tar.xz has a Python with its shared library, the wheels of the light core and the embedded tritonserver as
requirements.lock names them (hashes checked), and the project. What the machine has already is left out: PyTorch,
torchvision and transformers always, and the packages of --there. run.sh beside it unpacks and runs a command.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from testbed.errors import ConfigError
from workloads.errors import KisError

PROJECT = Path(__file__).parents[2]
EMBEDDED_SERVER = "nvidia-pytriton"
SERVER_LIBRARIES = "nvidia_pytriton.libs"
# PyTorch comes with its CUDA, gigabytes of it: a machine with a GPU has its own. HPAs are tuned elsewhere.
NEVER = frozenset({"torch", "torchvision", "transformers", "optuna"})
_PLATFORMS = (
    *(f"manylinux_2_{minor}" for minor in (35, 34, 31, 28, 27, 26, 24, 17, 12, 5)),
    *("manylinux2014", "manylinux2010", "manylinux1"),
)
_NOT_OF_PYTHON = (
    "test",
    "tests",
    "idlelib",
    "ensurepip",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "pydoc_data",
    "site-packages",
)
# Of wheels: pages for notebooks, and parts of the server for other Pythons.
_NOT_OF_WHEELS = ("share", "bin")


class BundlePython(NamedTuple):
    """The Python that goes along."""

    version: str  # "3.12"
    full_version: str
    executable: Path
    stdlib: Path
    library: Path  # libpython3.12.so.1.0


def describe(python: Path) -> BundlePython:
    """ConfigError if it is no Python of 3.11 to 3.13 with a shared library."""
    ask = (
        "import json, platform, sys, sysconfig; print(json.dumps([platform.python_version(), "
        "getattr(sys, '_base_executable', sys.executable), sysconfig.get_path('stdlib'), "
        "sysconfig.get_config_var('LIBDIR'), sys.base_prefix]))"
    )
    try:
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"--python {python}: {error}: give the interpreter of the Python to bring") from None
    full, executable, stdlib, library_folder, prefix = json.loads(answer)
    version = ".".join(full.split(".")[:2])
    if version not in ("3.11", "3.12", "3.13"):
        raise ConfigError(f"--python {python} is Python {full}: the embedded server has stubs for 3.11 to 3.13")
    for folder in (Path(library_folder), Path(prefix) / "lib"):
        library = folder / f"libpython{version}.so.1.0"
        if library.exists():
            return BundlePython(version, full, Path(executable).resolve(), Path(stdlib), library)
    raise ConfigError(f"--python {python} has no libpython{version}.so.1.0: give one built with --enable-shared")


def wanted(target: BundlePython, there: Iterable[str]) -> set[str]:
    """Canonical names of the packages that the light core and its server need on the target, less those it has."""
    environment: dict[str, Any] = {**default_environment(), "extra": ""}
    environment |= {"python_version": target.version, "python_full_version": target.full_version}
    have = {canonicalize_name(name) for name in there} | NEVER
    names: set[str] = {EMBEDDED_SERVER}
    left = [Requirement(text) for text in metadata.requires("kis-testbed") or ()]
    left = [
        requirement for requirement in left if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    visited: set[tuple[str, frozenset[str]]] = set()
    while left:
        requirement = left.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in have or (name, extras) in visited:
            continue
        visited.add((name, extras))
        names.add(name)
        left += _needs_of(name, extras, environment)
    return names


def _needs_of(name: str, extras: frozenset[str], environment: dict[str, Any]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            yield need


def locked(lock: str, names: set[str], target: BundlePython) -> tuple[str, ...]:
    """The lock's entries, hashes and all, of these packages for that Python. ConfigError names one that is missing."""
    environment: dict[str, Any] = {**default_environment(), "extra": ""}
    environment |= {"python_version": target.version, "python_full_version": target.full_version}
    locked_names: dict[str, str] = {}
    for entry in lock.replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith(("#", "-")):
            continue
        requirement = Requirement(entry.split(" --hash")[0])
        name = canonicalize_name(requirement.name)
        if name in names and (requirement.marker is None or requirement.marker.evaluate(environment)):
            # Without the marker: pip would evaluate it for the Python that it runs in, and leave the package out.
            hashes = [part for part in entry.split() if part.startswith("--hash=")]
            locked_names[name] = " ".join((f"{requirement.name}{requirement.specifier}", *hashes))
    missing = sorted(names - locked_names.keys())
    if missing:
        raise ConfigError(f"requirements.lock has no {', '.join(missing)} for Python {target.version}: `make lock`")
    return tuple(locked_names[name] for name in sorted(locked_names))


def pack(out: Path, target: BundlePython, there: Iterable[str]) -> Path:
    """Make the bundle in the folder `out`; returns it. ConfigError if pip cannot get a wheel."""
    missing = [tool for tool in ("tar", "xz", "strip") if shutil.which(tool) is None]
    if missing:
        raise ConfigError(f"a bundle is made with {', '.join(missing)}, which this machine does not have: install it")
    entries = locked((PROJECT / "requirements.lock").read_text(), wanted(target, there), target)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        _install(entries, target, work)
        _trim(work / "site", target)
        _copy_python(target, work / "python")
        for package in ("workloads", "loadgen", "testbed"):
            shutil.copytree(PROJECT / package, work / "project" / package, ignore=shutil.ignore_patterns("__pycache__"))
        _strip(work)
        archive = out / "env.tar.xz"
        archive.unlink(missing_ok=True)
        command = [
            "tar",
            "--sort=name",
            "-C",
            scratch,
            "-I",
            "xz -T0 -6",
            "-cf",
            str(archive),
            "site",
            "python",
            "project",
        ]
        subprocess.run(command, check=True)
    (out / "version").write_text(target.version + "\n")
    shutil.copyfile(str(resources.files("testbed.bundle") / "run.sh"), out / "run.sh")
    return out


def _install(entries: tuple[str, ...], target: BundlePython, work: Path) -> None:
    wants = work / "requirements.txt"
    wants.write_text("\n".join(entries) + "\n")
    digits = target.version.replace(".", "")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
        "--ignore-requires-python",  # pip would ask the Python that it runs in; the lock is for the target
    ]
    command += ["--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", target.version]
    command += [part for abi in (f"cp{digits}", "abi3", "none") for part in ("--abi", abi)]
    command += [part for name in _PLATFORMS for part in ("--platform", f"{name}_x86_64")] + ["--platform", "any"]
    done = subprocess.run(
        [*command, "--target", str(work / "site"), "-r", str(wants)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise ConfigError(f"pip cannot get what the bundle needs: {reason}")


def _trim(site: Path, target: BundlePython) -> None:
    for name in _NOT_OF_WHEELS:
        shutil.rmtree(site / name, ignore_errors=True)
    for stub in (site / "pytriton" / "tritonserver" / "python_backend_stubs").glob("*"):
        if stub.name != target.version:
            shutil.rmtree(stub)
    for library in (site / SERVER_LIBRARIES).glob("libpython3-*"):
        if f".{target.version.split('.')[1]}." not in library.name:
            library.unlink()  # of the stub for another Python


def _copy_python(target: BundlePython, python: Path) -> None:
    name = f"python{target.version}"
    (python / "bin").mkdir(parents=True)
    shutil.copy2(target.executable, python / "bin" / name)
    for link in ("python3", "python"):
        (python / "bin" / link).symlink_to(name)
    ignore = shutil.ignore_patterns("__pycache__", "config-*", *_NOT_OF_PYTHON)
    shutil.copytree(target.stdlib, python / "lib" / name, ignore=ignore)
    (python / "lib" / name / "site-packages").mkdir()
    shutil.copy2(target.library, python / "lib" / target.library.name)


def _strip(work: Path) -> None:
    """Without debugging symbols; a file that cannot be stripped stays as it is.

    Libraries that came into a wheel from outside (NAME.libs) do not survive it: their tables were moved (patchelf).
    The server's own are large, and do.
    """
    files = [file for file in work.rglob("*") if file.is_file() and not file.is_symlink() and _is_elf(file)]
    files = [file for file in files if file.parent.suffix != ".libs" or file.parent.name == SERVER_LIBRARIES]
    for file in files:
        subprocess.run(["strip", "--strip-unneeded", str(file)], capture_output=True, check=False)


def _is_elf(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(4) == b"\x7fELF"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m testbed.bundle.pack", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bundle"))
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="that goes along; its packages do not"
    )
    parser.add_argument("--there", type=Path, help="what the machine has: names, one a line (`pip freeze` will do)")
    given = parser.parse_args()
    try:
        there = [] if given.there is None else _names(given.there)
        target = describe(given.python)
        folder = pack(given.out, target, there)
    except KisError as error:
        raise SystemExit(f"kis: {error}") from None
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB, Python {target.full_version}; there: bash {folder}/run.sh kis --help")


def _names(file: Path) -> list[str]:
    try:
        lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
        return [Requirement(line.split("@")[0].strip()).name for line in lines if line]
    except OSError as error:
        raise ConfigError(f"--there {file}: {error.strerror}: give a list of packages") from None
    except ValueError as error:
        raise ConfigError(f"--there {file}: {error}: give names, one a line") from None


if __name__ == "__main__":
    main()
