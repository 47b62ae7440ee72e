"""What a cluster could leave on a machine, looked up in the kernel and the file system, not in the cluster's code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

_DAEMONS = {"etcd", "kwok", "kubelet", "containerd", "containerd-shim", "runc", "tritonserver"}
_FOLDERS = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/lib/kis-cluster",
    "/var/log/containers",
    "/var/log/pods",
    "/opt/containerd",
    "/opt/cni",
    "/etc/cni",
)


def machine_state() -> dict[str, object]:
    """Everything by kind, to be compared with an earlier look."""
    return {
        "processes": _processes(),
        "mounts": sorted(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": _lines("ip", "route", "show", "table", "all"),
        "namespaces": _lines("ip", "netns", "list"),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("*kis*")),
        "sysctls": {name: Path("/proc/sys", name).read_text() for name in _SYSCTLS},
        "files": sorted(str(path) for folder in _FOLDERS for path in Path(folder).rglob("*")),
        "shared memory": sorted(path.name for path in Path("/dev/shm").glob("triton*")),  # a pod's; no prefix of ours
        "folders": [folder for folder in _FOLDERS if Path(folder).exists()],
    }


_SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def _processes() -> list[str]:
    found = []
    for process in psutil.process_iter(["name", "status"]):
        name = process.info["name"]
        known = name in _DAEMONS or name.startswith(("kube-", "containerd-shim", "pause"))
        if name == "tritonserver" and not _in_a_pod(process.pid):
            continue  # of other tests beside these
        if known and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(name)
    return sorted(found)


def _in_a_pod(pid: int) -> bool:
    try:
        return "kis" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _lines(*command: str) -> list[str]:
    return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
