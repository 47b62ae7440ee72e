"""The pods' network: one bridge. No NAT, no forwarding, no route in pods but the bridge's own subnet.

Host to pod and pod to pod work; whatever a pod sends elsewhere is refused at once in the pod itself. There is no
kube-proxy: the Services' addresses lead nowhere, clients use the pods' (EndpointSlices of a headless Service).
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path
from typing import Any

from testbed.errors import ClusterError
from testbed.localcluster.layout import BRIDGE, HOST_IP, POD_SUBNET, SERVICE_SUBNET

_SUBNETS = tuple(map(ipaddress.ip_network, (POD_SUBNET, SERVICE_SUBNET)))


def start() -> None:
    """The bridge, with our address. ClusterError if this machine uses those addresses already."""
    for route in _ip_json("route", "show"):
        destination = route["dst"]
        if destination == "default":
            continue
        taken = ipaddress.ip_network(destination, strict=False)
        if any(taken.overlaps(subnet) for subnet in _SUBNETS):
            raise ClusterError(
                f"this machine has a route to {destination} ({route.get('dev', 'no device')}), which the cluster "
                f"needs ({POD_SUBNET}, {SERVICE_SUBNET}): stop what uses it, or test on that cluster"
            )
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{HOST_IP}/{_SUBNETS[0].prefixlen}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    # The addresses of Services belong to nobody here: without this they would leave by the default route.
    _ip("route", "add", "unreachable", SERVICE_SUBNET)


def stop() -> None:
    """Remove what `start` and the pods' CNI made; nothing happens if there is nothing."""
    if exists():
        for port in _ip_json("link", "show", "master", BRIDGE):
            _ip("link", "delete", port["ifname"], check=False)  # it may go by itself, with its pod
        _ip("link", "delete", BRIDGE)
    if any(route.get("type") == "unreachable" for route in _ip_json("route", "show", SERVICE_SUBNET)):
        _ip("route", "delete", "unreachable", SERVICE_SUBNET)


def exists() -> bool:
    """True if the bridge is there."""
    return Path("/sys/class/net", BRIDGE).exists()


def cni_configuration(network: str, first: str, last: str, data: Path) -> dict[str, Any]:
    """A CNI network on the bridge whose pods get the addresses `first` to `last`; `data` remembers which are taken."""
    addresses = [{"subnet": POD_SUBNET, "rangeStart": first, "rangeEnd": last, "gateway": HOST_IP}]
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": False,
        "ipMasq": False,
        "ipam": {"type": "host-local", "dataDir": str(data), "ranges": [addresses]},
    }
    return {"cniVersion": "1.0.0", "name": network, "plugins": [bridge]}


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = json.loads(_ip("-json", *arguments) or "[]")
    return answer


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
