"""What a cluster leaves on a machine, and its removal, whatever state it is in.

There is one way down, and it asks nothing of any daemon: everything is killed, then unmounted, then removed. So a
crashed cluster goes the same way as one that runs.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from testbed.errors import ClusterError
from testbed.localcluster import cgroups, network, processes
from testbed.localcluster.layout import STATE
from workloads.files import write_json

# Places that containerd, its shims, the CNI library and the kubelet use whatever their configuration says.
_SHIM_SOCKETS = Path("/run/containerd/s")
_CNI_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_EMPTIED = (
    _SHIM_SOCKETS,
    _SHIM_SOCKETS.parent,
    _CNI_RESULTS,
    _CNI_RESULTS.parent,
    _LOG_LINKS,
    _DEVICE_PLUGINS,
    _DEVICE_PLUGINS.parent,
)
# Kernel settings that a kubelet changes: remembered when the cluster starts, put back when it ends.
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_KERNEL = Path("/proc/sys")
_REMEMBERED = STATE / "sysctls.json"


_KILL_S = 10.0
_LOOKS, _LOOK_S = 2, 0.05
_NAMED = 5


def sysctls() -> dict[str, str]:
    """The kernel settings that a kubelet changes, and their values now."""
    return {name: (_KERNEL / name).read_text().strip() for name in _SYSCTLS}


def remember_sysctls() -> None:
    """Write them down, before a kubelet starts."""
    write_json(_REMEMBERED, sysctls())


def clean() -> None:
    """Leave nothing of the cluster; ClusterError says what could not be removed."""
    _kill_everything()
    _unmount()
    network.stop()
    _restore_sysctls()
    cgroups.remove()
    for file in (*_dead_shim_sockets(), *_cni_results(), *_log_links(), *_device_plugin_files()):
        file.unlink(missing_ok=True)
    for folder in _EMPTIED:
        with suppress(OSError):  # not there, or others use it too
            folder.rmdir()
    if not _mounts():  # through one of them, files would be deleted that are not the cluster's
        shutil.rmtree(STATE, ignore_errors=True)
    if left := leftovers():
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        raise ClusterError(f"the cluster is down, but this is left: {', '.join(left[:_NAMED])}{more}")


def leftovers() -> list[str]:
    """What of a cluster is on this machine, a phrase each; empty if there is none."""
    names = [f"process {process.pid}" for process in (*processes.ours(), *cgroups.processes())]
    names += [f"mount {path}" for path in _mounts()]
    names += [f"cgroup {path}" for path in cgroups.roots()]
    names += ["network bridge"] if network.exists() else []
    names += [f"{path}" for path in (*_cni_results(), *_log_links())]
    names += [str(STATE)] if STATE.exists() else []
    return names


def foreign_kubelet() -> psutil.Process | None:
    """A kubelet that is not ours: this machine is a node of a real cluster, whose files we would share."""
    own = {process.pid for process in processes.ours(["kubelet"])}
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "kubelet" and process.pid not in own and processes.alive(process):
            return process
    return None


def _kill_everything() -> None:
    """First who starts others. A process that is just being started has no arguments yet, so look twice."""
    for name in ("kubelet", "containerd"):
        processes.kill(processes.ours([name]))
    deadline = time.monotonic() + _KILL_S
    empty_looks = 0
    while empty_looks < _LOOKS:
        if left := [*processes.ours(), *cgroups.processes()]:
            if time.monotonic() > deadline:
                raise ClusterError(f"process {left[0].pid} of the cluster comes back after it was killed")
            processes.kill(left)
            empty_looks = 0
        else:
            empty_looks += 1
            time.sleep(_LOOK_S)


def _unmount() -> None:
    for path in reversed(_mounts()):  # the last mounted first
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [path for path in (line.split()[1] for line in lines) if path.startswith(f"{STATE}/")]


def _dead_shim_sockets() -> list[Path]:
    """Those that nobody listens on. Their names are hashes: ours are those that died with our shims."""
    dead = []
    for path in _SHIM_SOCKETS.glob("*"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                dead.append(path)
            except OSError:
                pass  # gone meanwhile, or no socket
    return dead


def _cni_results() -> list[Path]:
    """The CNI library's memory of our pods' networks, and of their loopback devices."""
    ours = list(_CNI_RESULTS.glob("kis-node-*"))
    loopbacks = []
    for file in ours:
        with suppress(OSError, ValueError, KeyError):
            container = json.loads(file.read_text())["containerId"]
            loopbacks.append(_CNI_RESULTS / f"cni-loopback-{container}-lo")
    return ours + loopbacks


def _log_links() -> list[Path]:
    return [link for link in _LOG_LINKS.glob("*.log") if link.is_symlink() and f"{STATE}/" in str(link.readlink())]


def _device_plugin_files() -> list[Path]:
    """The kubelet's own, in a place that a real node's kubelet uses too; a device plugin's socket is none of them."""
    if foreign_kubelet() is not None:
        return []
    names = ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION")
    return [file for file in (_DEVICE_PLUGINS / name for name in names) if file.exists()]


def _restore_sysctls() -> None:
    if _REMEMBERED.exists():
        for name, value in json.loads(_REMEMBERED.read_text()).items():
            if sysctls()[name] != value:
                (_KERNEL / name).write_text(value)
