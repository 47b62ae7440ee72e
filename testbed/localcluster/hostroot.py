"""This machine's Python and this project, at paths that manifests can name.

Pods with the embedded server mount them (manifests/components/local-server): the links' targets differ from machine
to machine, the links do not. Each of our packages has a link of its own: the clone may be readable for its owner only.

link in the host folder    where pods mount it
python                     /opt/python
site-packages              /opt/site-packages
venv                       /opt/venv            an environment made of those two; Triton's stubs go by its bin/python3
loadgen testbed workloads  /opt/kis/...
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from testbed.errors import ClusterError
from testbed.localcluster.layout import STATE

HOST = STATE / "host"
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("loadgen", "testbed", "workloads")


def links() -> dict[str, Path]:
    """Name in the host folder -> what it leads to."""
    return {
        "python": Path(sys.base_prefix),
        "site-packages": Path(sysconfig.get_path("purelib")),
        **{name: PROJECT / name for name in PACKAGES},
    }


def write_links() -> None:
    """Make them; ClusterError if a pod's user, which is not root, could not read what they lead to."""
    HOST.mkdir()
    for name, target in links().items():
        if target.stat().st_mode & 0o005 != 0o005:
            raise ClusterError(f"{target} is not readable for others, so no pod can use it: chmod -R go+rX {target}")
        (HOST / name).symlink_to(target)
    _write_environment(HOST / "venv")


def _write_environment(folder: Path) -> None:
    """A virtual environment whose parts are where pods mount them: on this machine its links lead nowhere."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for below in ("bin", f"lib/{version}"):
        (folder / below).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    (folder / "bin" / "python3").symlink_to(f"/opt/python/bin/{version}")
    (folder / "lib" / version / "site-packages").symlink_to("/opt/site-packages")
