"""Up, and down again.

up: what an earlier cluster left goes first; then certificates, bridge, control plane, nodes, GPUs; then it waits until
a pod can be made. down: cleanup.py.
"""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from testbed.errors import ClusterError
from testbed.localcluster import binaries, cleanup, control_plane, host, hostroot, images, network, pki
from testbed.localcluster.api import Api
from testbed.localcluster.layout import GPU, KUBECONFIG, LOGS, SHARED, STATE, login
from testbed.localcluster.node import MAX_NODES, LocalNode
from testbed.localcluster.processes import GPU_KEEPER, Daemon, all_recorded, wait_until

Say = Callable[[str], None]


@dataclass(frozen=True)
class Shape:
    """What the cluster has. gpus: of each node; they are counted, not real."""

    nodes: int = 2
    gpus: int = 4
    kwok: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.nodes <= MAX_NODES:
            raise ClusterError(f"a cluster cannot have {self.nodes} nodes: choose 0 to {MAX_NODES}, add fake nodes")
        if self.gpus < 0:
            raise ClusterError(f"a node cannot have {self.gpus} GPUs: choose 0 or more")


def up(shape: Shape, say: Say) -> Path:
    """Start a cluster, in place of any there is, and return the administrator's kubeconfig.

    The binaries and packages must be there. A cluster that does not come up is cleaned away; the error says where its
    logs were moved.
    """
    host.check_packages()
    if unbuilt := binaries.missing():
        raise ClusterError(f"{unbuilt[0].name} is not built yet: run `python -m testbed.localcluster prepare` first")
    with alone():
        if (kubelet := cleanup.foreign_kubelet()) is not None:
            raise ClusterError(f"this machine is a node of another cluster (kubelet, pid {kubelet.pid}): use that one")
        cleanup.clean()
        try:
            _start(shape, binaries.folder(), say)
        except ClusterError as error:
            logs = _kept_logs()
            cleanup.clean()
            raise ClusterError(f"{error} (logs: {logs})") from None
        except BaseException:
            cleanup.clean()
            raise
    return KUBECONFIG


def down() -> None:
    """Leave nothing, from whatever state."""
    with alone():
        cleanup.clean()


def daemons() -> list[tuple[Daemon, int]]:
    """The daemons of the cluster, each with its memory in bytes, 0 if it has ended; empty if there is no cluster."""
    rows = []
    for daemon in all_recorded():
        process = daemon.process()
        rows.append((daemon, 0 if process is None else process.memory_info().rss))
    return rows


def _start(shape: Shape, built: Path, say: Say) -> None:
    nodes = [LocalNode(index) for index in range(shape.nodes)]
    STATE.mkdir(mode=0o700)
    cleanup.remember_sysctls()
    pki.write_certificates()
    pki.write_logins(control_plane.USERS | {node.name: node.user for node in nodes})
    hostroot.write_links()
    SHARED.mkdir()
    SHARED.chmod(0o1777)  # pods are ordinary users; as in /tmp, nobody removes what is another's
    network.start()
    runtimes = [_start_runtime(node) for node in nodes]  # they come up beside the control plane
    api, control = _start_control_plane(built, say)
    if shape.kwok:
        control.append(_started(control_plane.kwok(built)))
    _import_images(nodes, runtimes, built)
    kubelets = [_started(node.kubelet(built)) for node in nodes]
    if shape.gpus and nodes:
        control.append(_started(_gpu_keeper({node.name: shape.gpus for node in nodes})))
    for node in nodes:
        wait_until(f"{node.name} ready", partial(_is_usable, api, node, shape.gpus), kubelets + runtimes)
    say(f"{len(nodes)} nodes are ready")
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_until("the default service account", lambda: api.get(account) is not None, control)


def _start_control_plane(built: Path, say: Say) -> tuple[Api, list[Daemon]]:
    store, server = control_plane.etcd(built), control_plane.api_server(built)
    control = [_started(store), _started(server)]
    api = Api(KUBECONFIG)
    wait_until("the API server ready", api.ready, control)
    say("the API server is ready")
    control += [_started(control_plane.controller_manager(built)), _started(control_plane.scheduler(built))]
    return api, control


def _start_runtime(node: LocalNode) -> Daemon:
    node.prepare()
    return _started(node.containerd())


def _import_images(nodes: list[LocalNode], runtimes: list[Daemon], built: Path) -> None:
    folder, machine = STATE / "images", platform.machine()
    folder.mkdir()
    archives = [folder / "pause.tar", folder / "hostroot.tar"]
    images.pause_image(archives[0], built / "pause", machine)
    images.hostroot_image(archives[1], machine)
    for node in nodes:
        wait_until(f"containerd of {node.name}", node.answers, runtimes)
        node.import_images(archives)


def _gpu_keeper(counts: dict[str, int]) -> Daemon:
    words = [f"{name}={count}" for name, count in counts.items()]
    return Daemon("gpu-keeper", (sys.executable, "-m", GPU_KEEPER, str(login("gpu-keeper")), *words))


def _started(daemon: Daemon) -> Daemon:
    daemon.start()
    return daemon


def _is_usable(api: Api, node: LocalNode, gpus: int) -> bool:
    """Ready, and its GPUs are there."""
    shown_node = api.get(f"/api/v1/nodes/{node.name}")
    if shown_node is None:
        return False
    conditions = shown_node["status"].get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and shown_node["status"]["allocatable"].get(GPU, "0") == str(gpus)


def _kept_logs() -> Path:
    kept = Path(tempfile.mkdtemp(prefix="kis-cluster-logs-"))
    if LOGS.exists():
        shutil.copytree(LOGS, kept, dirs_exist_ok=True)
    return kept


@contextmanager
def alone() -> Iterator[None]:
    """ClusterError if another process brings the cluster up or down. The kernel forgets the lock with its holder."""
    name = "\0kis-cluster"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(name)
        except OSError:
            raise ClusterError(
                "another process is bringing the cluster up or down: try again when it is done"
            ) from None
        yield
