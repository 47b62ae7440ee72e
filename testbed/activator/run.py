"""An activator from its configuration: until it is told to stop, and what is open has finished."""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from testbed.activator.config import ActivatorConfig
from testbed.activator.front import Front
from testbed.activator.page import Counts
from testbed.activator.proxy import LINGER_S, Client
from testbed.autoscaling.live.deployment import DeploymentStatus, DeploymentView
from testbed.controller.health import Pulse, serve
from testbed.errors import ClusterError, ConfigError
from testbed.log_line import of_error, print_line
from testbed.serving.kubernetes_api import api_client, own_namespace

HUNG_S = 30.0  # an event loop that does not come round for so long hangs
BEAT_S = 0.2  # how soon it notices that it is to stop
Look = Callable[[], DeploymentStatus]


def run_activator(config: ActivatorConfig, *, kubeconfig: Path | None, stop: threading.Event) -> None:
    """Serve until `stop`. A deployment that is not there yet has no pods until it is."""
    api = api_client(kubeconfig)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a forwarded connection is two files
    namespace = config.namespace or own_namespace()
    views = {each.deployment: DeploymentView(api, namespace, each.deployment).look for each in config.deployments}
    asyncio.run(serve_until(config, views, stop))


async def serve_until(
    config: ActivatorConfig,
    looks: Mapping[str, Look],
    stop: threading.Event,
    on_start: Callable[[Mapping[str, Front], list[int]], None] = lambda fronts, ports: None,
) -> None:
    """Forward what comes until `stop`, and drain. looks: by deployment; on_start: is told the listening ports."""
    loop = asyncio.get_running_loop()
    fronts = {each.deployment: Front(each.deployment, config.hold) for each in config.deployments}
    pulse = Pulse(HUNG_S, of="the event loop")
    registry = CollectorRegistry()
    registry.register(Counts(tuple(fronts.values())))
    listeners = [
        await _listen(fronts[each.deployment], config.address, port.listen, port.pod)
        for each in config.deployments
        for port in each.ports
    ]
    if config.metrics_port:  # a page that answers says that it listens, too
        serve(config.metrics_port, registry, [pulse])
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    print_line(sys.stdout, listening=ports, address=config.address)
    on_start(fronts, ports)
    for name, front in fronts.items():
        threading.Thread(
            target=_follow, args=(looks[name], front, loop, config.look_period_s), name="look", daemon=True
        ).start()
    while not stop.is_set():
        pulse.beat()
        await asyncio.sleep(BEAT_S)
    for listener in listeners:
        listener.close()
    left = await _drained(fronts, config.drain_s)
    print_line(sys.stdout, ended=True, cut_off=left)


async def _listen(front: Front, address: str, listen: int, pod_port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: Client(front, pod_port), address, listen, backlog=1024
        )
    except OSError as error:
        raise ConfigError(f"port {listen} of {address} cannot be had ({error.strerror}): choose another") from None


async def _drained(fronts: Mapping[str, Front], drain_s: float) -> int:
    """Wait for the open connections; how many were cut off."""
    for front in fronts.values():
        front.drain()
    left = await _left(fronts, drain_s)
    for client in left:
        client.cut_off()
    for client in await _left(fronts, 2 * LINGER_S):
        client.transport.abort()
    await asyncio.sleep(0)
    return len(left)


async def _left(fronts: Mapping[str, Front], seconds: float) -> list[Client]:
    """Wait until there are no clients, or the time is over; those that there still are."""
    until_s = time.monotonic() + seconds
    while any(front.clients for front in fronts.values()) and time.monotonic() < until_s:
        await asyncio.sleep(BEAT_S / 4)
    return [client for front in fronts.values() for client in front.clients]


def _follow(look: Look, front: Front, loop: asyncio.AbstractEventLoop, period_s: float) -> None:
    """Look again and again, also while it drains: what waits is still to find a pod."""
    told = ""
    while not loop.is_closed():
        begin_s = time.monotonic()
        try:
            pods = {pod.endpoint: _host(pod.http_url) for pod in look().addresses}
            loop.call_soon_threadsafe(front.set_pods, pods)
            trouble = ""
        except ClusterError as error:
            trouble = str(error)  # what was known stays
        except RuntimeError:
            return  # the loop was closed meanwhile
        except Exception as error:  # whatever it was, the next look may do
            trouble = of_error(error)
        if trouble != told:
            print_line(sys.stdout, deployment=front.name, not_seen=trouble)
            told = trouble
        time.sleep(max(0.0, period_s - (time.monotonic() - begin_s)))


def _host(url: str) -> str:
    """`10.1.2.3` of `10.1.2.3:8000`."""
    return urlsplit(f"//{url}").hostname or url
