"""The cluster, driven as a user drives it."""

from __future__ import annotations

import subprocess
import sys

COMMAND = [sys.executable, "-m", "testbed.localcluster"]
_LIMIT_S = 280


def cluster_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m testbed.localcluster ARGUMENTS`, as a user types it."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=_LIMIT_S)


class LocalCluster:
    """The local cluster, up or down."""

    def __init__(self) -> None:
        self.is_up = False

    def up(self) -> None:
        done = cluster_command("up")
        assert done.returncode == 0, done.stderr
        self.is_up = True

    def down(self) -> None:
        done = cluster_command("down")
        assert done.returncode == 0, done.stderr
        self.is_up = False
