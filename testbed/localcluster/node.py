"""One node: a containerd and a kubelet of its own, both in a folder of the cluster's.

Two kubelets on one containerd would end each other's pods, and two with one cgroup root each other's cgroups: every
node has its own of both.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import ClusterError
from testbed.localcluster import cgroups, network, pki
from testbed.localcluster.host import cni_plugins, path_of
from testbed.localcluster.images import PAUSE
from testbed.localcluster.layout import HOST_IP, STATE, login
from testbed.localcluster.processes import Daemon
from workloads.files import write_json, write_text_atomically

MAX_NODES = 4  # as many ranges of pod addresses are in the subnet
_ADDRESSES = 60  # of a node's pods
LEASE_S = 8  # shorter than control_plane.NODE_MONITOR_GRACE_S needs: a lost node is noticed within seconds


@dataclass(frozen=True)
class LocalNode:
    """The node of that index, 0 first."""

    index: int

    @property
    def name(self) -> str:
        """node-a, node-b, ..."""
        return f"node-{'abcd'[self.index]}"

    @property
    def folder(self) -> Path:
        """All that the node writes, but its cgroups and what the kernel keeps."""
        return STATE / self.name

    @property
    def socket(self) -> Path:
        """containerd's."""
        return self.folder / "containerd.sock"

    @property
    def user(self) -> tuple[str, str]:
        """The kubelet's Kubernetes user and group: the Node authorizer knows them."""
        return f"system:node:{self.name}", "system:nodes"

    def prepare(self) -> None:
        """Folders, configuration files, the cgroup."""
        for name in ("cni", "kubelet", "containerd", "containerd-state", "pod-logs", "flex-volumes"):
            (self.folder / name).mkdir(parents=True)
        first = 10 + _ADDRESSES * self.index
        conflist = network.cni_configuration(
            f"kis-{self.name}", f"10.244.0.{first}", f"10.244.0.{first + _ADDRESSES - 1}", self.folder / "ipam"
        )
        write_json(self.folder / "cni" / "10-kis.conflist", conflist)
        write_text_atomically(self.folder / "containerd.toml", self._containerd_configuration())
        write_json(self.folder / "kubelet.json", self._kubelet_configuration())
        cgroups.create(self.name)

    def containerd(self) -> Daemon:
        """The container runtime."""
        command = (str(path_of("containerd")), f"--config={self.folder}/containerd.toml")
        return Daemon(f"containerd-{self.name}", command)

    def answers(self) -> bool:
        """True once containerd can be used."""
        return self.socket.exists() and self._ctr("version").returncode == 0

    def import_images(self, archives: Sequence[Path]) -> None:
        """Make the images known; they cannot be pulled from anywhere."""
        for archive in archives:
            done = self._ctr("images", "import", str(archive))
            if done.returncode != 0:
                raise ClusterError(f"{self.name} cannot import {archive.name}: {done.stderr.strip()}")

    def kubelet(self, binaries: Path) -> Daemon:
        """The node's agent; it registers the node."""
        return Daemon(
            f"kubelet-{self.name}",
            (
                str(binaries / "kubelet"),
                f"--config={self.folder}/kubelet.json",
                f"--kubeconfig={login(self.name)}",
                f"--hostname-override={self.name}",
                f"--node-ip={HOST_IP}",
                f"--root-dir={self.folder}/kubelet",
                f"--cert-dir={self.folder}/kubelet/pki",
            ),
        )

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(path_of("ctr")), "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _containerd_configuration(self) -> str:
        # Without restrict_oom_score_adj no sandbox starts where root lacks CAP_SYS_RESOURCE. Several of containerd's
        # places are fixed unless they are named here: /run/netns, /run/containerd/runc, /opt/containerd.
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        unused = ("snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper", "snapshotter.v1.zfs")
        return f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
disabled_plugins = {json.dumps([f"io.containerd.{name}" for name in unused])}

[grpc]
  address = "{self.socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{self.folder}/opt"

[{cri}]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [{cri}.cni]
    bin_dir = "{cni_plugins()}"
    conf_dir = "{self.folder}/cni"

  [{cri}.containerd]
    snapshotter = "overlayfs"

    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{self.folder}/containerd-state/runc"
"""

    def _kubelet_configuration(self) -> dict[str, object]:
        port = 20250 + 10 * self.index
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": HOST_IP,
            "port": port,
            "healthzPort": port - 2,
            "readOnlyPort": 0,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(pki.CA)}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups.root_of(self.name),
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,  # a lower one needs CAP_SYS_RESOURCE
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            # A full disk must not end pods here, and images that are removed cannot be pulled again.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "podLogsDir": f"{self.folder}/pod-logs",
            "volumePluginDir": f"{self.folder}/flex-volumes",
            "resolvConf": "",
            "nodeLeaseDurationSeconds": LEASE_S,
            "nodeStatusUpdateFrequency": "5s",
        }
