"""Where the cluster is: its one folder, its addresses. A machine can have one.

/var/lib/kis-cluster/
├── kubeconfig           the administrator's
├── daemons/ logs/       each daemon's command and pid, and what it wrote
├── pki/ logins/         certificates, and a kubeconfig for each daemon
├── host/                links to this machine's Python and to the project, for pods (hostroot.py)
├── shared/              a folder that every pod may mount and write to
├── images/ etcd/
└── node-a/ ...          a node's containerd, kubelet, CNI configuration

Not in /run: Debian mounts that noexec.
"""

from __future__ import annotations

from pathlib import Path

STATE = Path("/var/lib/kis-cluster")
KUBECONFIG = STATE / "kubeconfig"
LOGS = STATE / "logs"
PKI = STATE / "pki"
LOGINS = STATE / "logins"
SHARED = STATE / "shared"

BRIDGE = "kis0"
HOST_IP = "10.244.0.1"  # the bridge's: of the API server, of each kubelet; only this machine has a route to it
POD_SUBNET = "10.244.0.0/24"
SERVICE_SUBNET = "10.96.0.0/16"
FAKE_POD_SUBNET = "10.245.0.0/16"  # written into fake pods' status; nothing ever answers there
API_PORT = 16443
API_SERVER = f"https://{HOST_IP}:{API_PORT}"
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380

GPU = "nvidia.com/gpu"


def login(name: str) -> Path:
    """The kubeconfig of the daemon `name`."""
    return LOGINS / f"{name}.kubeconfig"
