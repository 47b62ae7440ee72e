"""Beside Locust in a pod of the load generator: `python -m testbed.serving.load_pod SETTINGS FOLDER ROLE`.

SETTINGS is a file as manifests/load/load.yaml. FOLDER gets endpoints.json, the ready pods of the service to be loaded,
kept true as they come and go; where ROLE is worker, not master, locust.conf too, with the master's address. `ready` is
there once Locust can start. Addresses come from EndpointSlices: no DNS is asked, and no proxy stands between.
"""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from kubernetes import client
from pydantic import Field

from loadgen.endpoints import write_endpoints
from testbed.config import Strict
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.serving.kubernetes import SERVICE_LABEL
from testbed.serving.kubernetes_api import api_client, follow, own_namespace
from testbed.serving.kubernetes_objects import listed_in, ready_pods
from workloads.errors import KisError
from workloads.files import write_text_atomically

ENDPOINTS, LOCUST_CONF, READY = "endpoints.json", "locust.conf", "ready"
ROLES = ("master", "worker")
_WRONG = 2


class LoadPodConfig(Strict):
    """What a pod of the load generator has to find."""

    target: str = Field(description="headless Service of the Triton pods")
    master: str = Field(description="headless Service of Locust's master")


class Addresses:
    """What the slices of the two services say, written into the folder as it changes."""

    def __init__(self, folder: Path, needs_master: bool) -> None:
        self._folder, self._needs_master = folder, needs_master
        self._slices: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def heard_target(self, kind: str, part: Any) -> None:
        """A slice of the service that is loaded."""
        with self._lock:
            self._slices[part.metadata.name] = (
                [] if kind == "DELETED" else [pod.endpoint.http for pod in listed_in(part) if pod.ready]
            )
            listed = sorted(address for some in self._slices.values() for address in some)
            write_endpoints(self._folder / ENDPOINTS, listed)
            self._note_ready(bool(listed))

    def heard_master(self, kind: str, part: Any) -> None:
        """A slice of the master's service. Its first address stays: Locust reads it once."""
        with self._lock:
            pods = ready_pods(part)
            if kind != "DELETED" and pods and not (self._folder / LOCUST_CONF).exists():
                write_text_atomically(self._folder / LOCUST_CONF, f"master-host = {pods[0][1]}\n")
            self._note_ready(any(self._slices.values()))

    def _note_ready(self, target: bool) -> None:
        if target and (not self._needs_master or (self._folder / LOCUST_CONF).exists()):
            (self._folder / READY).touch()


def keep(settings: Path, folder: Path, role: str, stop: threading.Event) -> None:
    """Keep the folder true until `stop`; KisError if the settings, the role or the cluster cannot be used."""
    if role not in ROLES:
        raise ConfigError(f"unknown role '{role}': give {' or '.join(ROLES)}")
    config = load_config(settings, LoadPodConfig)
    slices: Any = client.DiscoveryV1Api(api_client(None))
    addresses = Addresses(folder, needs_master=role == "worker")
    followed = {config.target: addresses.heard_target}
    if role == "worker":
        followed[config.master] = addresses.heard_master
    for service, heard in followed.items():
        watch = partial(follow, slices.list_namespaced_endpoint_slice, own_namespace())
        threading.Thread(target=watch, args=(f"{SERVICE_LABEL}={service}", heard, stop), daemon=True).start()
    stop.wait()


def main() -> None:
    """Until SIGTERM. One line and exit status 2 for an error that the user can mend."""
    settings, folder, role = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        keep(Path(settings), Path(folder), role, stop)
    except KisError as error:
        print(f"load pod: {error}", file=sys.stderr)
        sys.exit(_WRONG)


if __name__ == "__main__":
    main()
