"""GPUs that are only numbers: `python -m testbed.localcluster.gpus KUBECONFIG NODE=COUNT...` keeps them advertised.

The scheduler counts them as it counts real ones. A kubelet that registers its node knows nothing of them, and may set
to 0 what none of its device plugins announced, so somebody has to watch and write them again: this process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from testbed.errors import ClusterError
from testbed.localcluster.api import Api
from testbed.localcluster.layout import GPU

_WATCH_S = 60
_RETRY_S = 0.5


def missing(node: dict[str, Any], count: int) -> list[dict[str, str]]:
    """The JSON patch of the node's status that makes it have `count` GPUs; empty if it has."""
    resource = GPU.replace("/", "~1")
    return [
        {"op": "add", "path": f"/status/{kind}/{resource}", "value": str(count)}
        for kind in ("capacity", "allocatable")
        if node["status"].get(kind, {}).get(GPU) != str(count) and kind in node["status"]
    ]


def keep(api: Api, counts: dict[str, int]) -> None:
    """Watch the nodes for a while, and mend each that lost its GPUs."""
    for event in api.watch("/api/v1/nodes", _WATCH_S):
        node = event["object"]
        count = counts.get(node.get("metadata", {}).get("name"))
        if count is not None and event["type"] in ("ADDED", "MODIFIED") and (patch := missing(node, count)):
            api.patch(f"/api/v1/nodes/{node['metadata']['name']}/status", patch)


def main(kubeconfig: Path, counts: dict[str, int]) -> None:
    """Until it is killed: the API server may come and go."""
    api = Api(kubeconfig)
    while True:
        try:
            keep(api, counts)
        except ClusterError as error:
            print(error, file=sys.stderr, flush=True)
            time.sleep(_RETRY_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), {name: int(count) for name, count in (word.split("=") for word in sys.argv[2:])})
