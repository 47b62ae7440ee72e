"""What a machine must have for a cluster, and what to type if it has not."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from testbed.errors import ClusterError

_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))  # Debian's, and everybody else's
_CNI_PLUGINS = ("bridge", "host-local", "loopback")
_GO = (1, 24)
# Command -> Debian's package.
_COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "openssl": "openssl",
}


def check(needs_go: bool) -> None:
    """ClusterError, in one line, if no cluster can run here whatever packages are installed.

    needs_go: the binaries are not built yet.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise ClusterError(f"a local cluster needs Linux on x86-64 or arm64, this is {platform.platform(terse=True)}")
    if os.geteuid() != 0:
        raise ClusterError("a local cluster needs root (mounts, namespaces, cgroups): use sudo, or an existing cluster")
    go = _go_version()
    if needs_go and (go is None or go < _GO):
        have = "there is none" if go is None else f"this is {go[0]}.{go[1]}"
        raise ClusterError(f"Kubernetes is built here with Go {_GO[0]}.{_GO[1]} or later, {have}: install it, on PATH")
    if missing_packages() and shutil.which("apt-get") is None:
        raise ClusterError(
            f"a local cluster needs {', '.join(missing_packages())}: install them with this system's tool"
        )


def missing_packages() -> list[str]:
    """Debian's names of what is not installed."""
    missing = {package for command, package in _COMMANDS.items() if shutil.which(command) is None}
    if _cni_folder() is None:
        missing.add("containernetworking-plugins")
    return sorted(missing)


def check_packages() -> None:
    """ClusterError with the command to type if packages are missing."""
    if missing := missing_packages():
        raise ClusterError(
            f"a local cluster needs {', '.join(missing)}: "
            f"apt-get install --no-install-recommends {' '.join(missing)} (or make cluster-up INSTALL=1)"
        )


def install_packages(say: Callable[[str], None]) -> None:
    """Install what is missing with apt-get."""
    missing = missing_packages()
    if not missing:
        return
    say(f"installing {', '.join(missing)}")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(
            ["apt-get", "--quiet=2", *command],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ClusterError(f"apt-get {command[0]} failed: {reason}")


def path_of(command: str) -> Path:
    """The command's path; ClusterError if it is not installed."""
    path = shutil.which(command)
    if path is None:
        raise ClusterError(f"there is no {command} on PATH: install {_COMMANDS.get(command, command)}")
    return Path(path)


def cni_plugins() -> Path:
    """The folder of the CNI plugins."""
    folder = _cni_folder()
    if folder is None:
        raise ClusterError(
            f"no CNI plugins in {' or '.join(map(str, _CNI_FOLDERS))}: install containernetworking-plugins"
        )
    return folder


def _cni_folder() -> Path | None:
    for folder in _CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in _CNI_PLUGINS):
            return folder
    return None


def _go_version() -> tuple[int, int] | None:
    if shutil.which("go") is None:
        return None
    printed = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", printed)
    return None if version is None else (int(version[1]), int(version[2]))
