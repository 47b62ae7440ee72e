"""etcd, the API server, the controller manager, the scheduler, kwok: their command lines.

Everything listens on the loopback address, but the API server, which pods may call: on the bridge's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testbed.localcluster import pki
from testbed.localcluster.layout import (
    API_PORT,
    ETCD_PEER_PORT,
    ETCD_PORT,
    FAKE_POD_SUBNET,
    GPU,
    HOST_IP,
    PKI,
    SERVICE_SUBNET,
    STATE,
    login,
)
from testbed.localcluster.processes import Daemon

# Daemon -> (Kubernetes user, group): the users that Kubernetes has roles for.
USERS = {
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "gpu-keeper": ("kis-gpu-keeper", pki.ADMINISTRATORS),
    "kwok": ("kwok", pki.ADMINISTRATORS),
}

# Those that the tests' objects need: all of them would take 4 s more to make the default service account.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
)

# Time constants, shorter than Kubernetes' defaults so that a test does not wait for minutes. Default in the comment.
NODE_MONITOR_PERIOD_S = 1  # 5
NODE_MONITOR_GRACE_S = 8  # 50; longer than the node leases of node.py
HPA_SYNC_PERIOD_S = 5  # 15
HPA_DOWNSCALE_STABILIZATION_S = 10  # 300

FAKE_NODE = "kwok.x-k8s.io/node"  # annotation; its value is "fake"
FAKE_LABEL = "kis/fake"  # of fake nodes, for a nodeSelector


def etcd(binaries: Path) -> Daemon:
    """Keeps everything in a folder that `down` throws away, so it need not be safe on disk."""
    client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return _daemon(
        binaries / "etcd",
        f"--data-dir={STATE}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def api_server(binaries: Path) -> Daemon:
    """With RBAC as in production, and ready for aggregated APIs (metrics for the HPA)."""
    return _daemon(
        binaries / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
        f"--bind-address={HOST_IP}",
        f"--advertise-address={HOST_IP}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_SUBNET}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=false",
        f"--tls-cert-file={PKI}/apiserver.crt",
        f"--tls-private-key-file={PKI}/apiserver.key",
        f"--client-ca-file={pki.CA}",
        f"--token-auth-file={pki.TOKENS}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.SERVICE_ACCOUNT_PUBLIC_KEY}",
        f"--service-account-signing-key-file={pki.SERVICE_ACCOUNT_KEY}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={PKI}/kubelet-client.crt",
        f"--kubelet-client-key={PKI}/kubelet-client.key",
        f"--requestheader-client-ca-file={pki.FRONT_PROXY_CA}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={PKI}/front-proxy-client.crt",
        f"--proxy-client-key-file={PKI}/front-proxy-client.key",
        "--enable-aggregator-routing=true",  # to the pods of an aggregated API: its Service's address leads nowhere
    )


def controller_manager(binaries: Path) -> Daemon:
    """The controllers above, with the shortened time constants."""
    return _daemon(
        binaries / "kube-controller-manager",
        *_logins("kube-controller-manager"),
        "--bind-address=127.0.0.1",
        "--secure-port=20257",
        "--leader-elect=false",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki.SERVICE_ACCOUNT_KEY}",
        f"--root-ca-file={pki.CA}",
        f"--flex-volume-plugin-dir={STATE}/flex-volumes",
        f"--node-monitor-period={NODE_MONITOR_PERIOD_S}s",
        f"--node-monitor-grace-period={NODE_MONITOR_GRACE_S}s",
        f"--horizontal-pod-autoscaler-sync-period={HPA_SYNC_PERIOD_S}s",
        f"--horizontal-pod-autoscaler-downscale-stabilization={HPA_DOWNSCALE_STABILIZATION_S}s",
    )


def scheduler(binaries: Path) -> Daemon:
    """The stock scheduler."""
    return _daemon(
        binaries / "kube-scheduler",
        *_logins("kube-scheduler"),
        "--bind-address=127.0.0.1",
        "--secure-port=20259",
        "--leader-elect=false",
    )


def kwok(binaries: Path) -> Daemon:
    """Plays the kubelets of the nodes that are annotated as fake."""
    return _daemon(
        binaries / "kwok",
        f"--kubeconfig={login('kwok')}",
        f"--config={Path(__file__).with_name('kwok.yaml')}",
        f"--manage-nodes-with-annotation-selector={FAKE_NODE}=fake",
        "--node-lease-duration-seconds=20",  # renewed each quarter of it: well within NODE_MONITOR_GRACE_S
        f"--node-ip={HOST_IP}",
        f"--cidr={FAKE_POD_SUBNET}",
    )


def fake_node(name: str, gpus: int) -> dict[str, Any]:
    """The manifest of a node that kwok plays: real to the API server and the scheduler, so that hundreds of GPUs can be
    placed on. Its pods start and become ready without running (kwok.yaml), and answer nothing.

    Only pods that tolerate its taint, whose key is FAKE_NODE, go there.
    """
    resources = {"cpu": "64", "memory": "512Gi", "pods": "110"} | ({GPU: str(gpus)} if gpus else {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE: "fake"},
            "labels": {FAKE_LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": FAKE_NODE, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    }


def _logins(name: str) -> tuple[str, ...]:
    return tuple(f"--{use}kubeconfig={login(name)}" for use in ("", "authentication-", "authorization-"))


def _daemon(binary: Path, *flags: str) -> Daemon:
    return Daemon(binary.name, (str(binary), *flags))
