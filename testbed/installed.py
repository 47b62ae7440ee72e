"""What of this project is installed, and what to type for what is not: nothing here is on a package index."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"  # of a checkout
IN_ENV = ("serve", "train")  # extras that `make env` installs
EXTRAS = {"gymnasium": "train", "stable_baselines3": "train", "onnx": "train", "onnxscript": "train", "ray": "ray"}


def kis_version() -> str:
    """Of what is installed; of a checkout that is not, its own."""
    try:
        return version("kis-testbed")
    except PackageNotFoundError:
        return f"{_project_version()} (not installed)"


def is_installed(package: str | None) -> bool:
    """True also of None, nothing."""
    try:
        return package is None or find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def extra_of(package: str) -> str:
    """The extra that brings it."""
    return EXTRAS.get(package, "serve")


def how_to_install(extra: str) -> str:
    """What to type: in a checkout `make env`, if that brings the extra."""
    if not PROJECT.exists():
        return f"pip install 'kis_testbed-{kis_version().partition(' ')[0]}-py3-none-any.whl[{extra}]'"
    return "make env" if extra in IN_ENV else f"pip install '.[{extra}]'"


def needed(extra: str) -> str:
    """The same in a few words."""
    return "needs make env" if PROJECT.exists() and extra in IN_ENV else f"needs the extra {extra}"


def _project_version() -> str:
    if not PROJECT.exists():
        return "unknown version"
    return str(tomllib.loads(PROJECT.read_text())["project"]["version"])
