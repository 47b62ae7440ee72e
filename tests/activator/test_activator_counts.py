"""From an activator's counts to a policy that wakes a deployment: the page, the reader, the window, the guard."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from testbed.activator import run
from testbed.activator.config import ActivatorConfig, HoldLimits
from testbed.activator.front import Front
from testbed.activator.page import Counts
from testbed.activator.run import serve_until
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.activator import ActivatorReader, Demand
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import LiveObservation, PodScraper
from testbed.autoscaling.metrics import of_all
from testbed.config_file import load_config
from testbed.controller.guard import Limits
from testbed.controller.loop import Controller
from testbed.errors import ClusterError, ConfigError, ServingError
from testbed.measurement import triton_metrics
from testbed.measurement.triton_metrics import TritonAddress

PAGE = "http://127.0.0.1:9102"


def page_of(monkeypatch: pytest.MonkeyPatch, *fronts: Front) -> None:
    registry = CollectorRegistry()
    registry.register(Counts(fronts))
    monkeypatch.setattr(triton_metrics, "_get", lambda url, *_: generate_latest(registry).decode())


def test_the_reader_reads_what_the_page_shows_and_goes_on_after_a_restart(monkeypatch) -> None:
    front, other = Front("web", HoldLimits()), Front("other", HoldLimits())
    front.requests, other.requests = 7, 100
    page_of(monkeypatch, front, other)
    reader = ActivatorReader(PAGE, "web")
    assert reader.read() == Demand(7.0, 0.0)
    front.requests = 2  # it began anew
    assert reader.read() == Demand(9.0, 0.0)
    front.requests = 5
    assert reader.read() == Demand(12.0, 0.0)
    with pytest.raises(ServingError, match="counts nothing of deployment 'nothing'"):
        ActivatorReader(PAGE, "nothing").read()


@pytest.mark.parametrize("text", ["<html>busy</html>", "", 'kis_activator_requests_total{deployment="web"} NaN\n'])
def test_a_page_that_is_no_activators_is_refused(monkeypatch, text: str) -> None:
    monkeypatch.setattr(triton_metrics, "_get", lambda url, *_: text)
    with pytest.raises(ServingError, match="activator's"):
        ActivatorReader(PAGE, "web").read()


class Asked(ActivatorReader):
    """An activator whose counts are set by hand; None: it does not answer."""

    def __init__(self) -> None:
        self.now: Demand | None = Demand(0.0, 0.0)

    def read(self) -> Demand:
        if self.now is None:
            raise ServingError("it does not answer")
        return self.now


def window_after(activator: Asked, later: Demand | None) -> tuple[float | None, PodScraper]:
    scraper = PodScraper("m", activator)
    scraper.scrape(0.0, ())
    activator.now = later
    scraper.scrape(5.0, ())
    window = LiveObservation(5.0, 0, (), tuple(scraper.scrapes)).window(5.0, 0.0)
    assert window is not None
    return of_all("arrivals_per_second", window), scraper


def test_arrivals_are_known_without_pods_and_what_waits_arrives_again() -> None:
    assert window_after(Asked(), Demand(20.0, 0.0))[0] == 4.0
    assert window_after(Asked(), Demand(0.0, 5.0))[0] == 1.0  # it was sent before anybody looked, and still waits
    value, scraper = window_after(Asked(), None)
    assert value is None
    assert scraper.failures == {"activator": "it does not answer"}


KEDA = {"kind": "keda", "metric": "arrivals_per_second", "threshold": 50, "polling_interval_s": 2, "cooldown_s": 10}
SHORT = {"metrics_delay_s": 0.0, "window_s": 2.0}
RATE = {"replica_capacity_rps": 50, "provisioning_delay_s": 4, "min_replicas": 0, "metrics_delay_s": 0.0}


class Sleeper:
    """A deployment whose pods are ready two seconds after they are asked for."""

    def __init__(self) -> None:
        self.replicas, self.ready_s, self.now_s = 0, 0.0, 0.0
        self.counts: list[int] = []
        self.told: list[str] = []

    def look(self) -> DeploymentStatus:
        pods = [PodState(f"pod-{k}", "Running", self.now_s >= self.ready_s, 0.0, 0.0) for k in range(self.replicas)]
        here = [TritonAddress(pod.name, pod.name, pod.name) for pod in pods if pod.ready]
        return DeploymentStatus(self.replicas, pods, here)

    def patch(self, replicas: int, judged: int) -> None:
        self.replicas, self.ready_s = replicas, self.now_s + 2.0
        self.counts.append(replicas)

    def tell(self, reason: str, message: str, warning: bool) -> None:
        self.told.append(f"{reason}: {message}")


@pytest.mark.parametrize(
    "policy",
    [
        {**KEDA, **SHORT},
        {"kind": "predictive", **RATE, "window_s": 2.0, "down_delay_s": 5.0},
        {"kind": "rule", **RATE, "hold_s": 5.0},
    ],
    ids=lambda policy: policy["kind"],
)
def test_a_controller_wakes_for_one_request_that_waits_and_sleeps_after_it(monkeypatch, policy) -> None:
    activator, deployment = Asked(), Sleeper()
    scraper = PodScraper("m", activator)
    monkeypatch.setattr(scraper, "_read", lambda pod: (1.0, 0.0, 0.01, 0.0, 0.01, float("nan"), 1.0))
    controller = Controller(
        deployment,
        scraper,
        build_policy(policy, 4, None),
        Limits(min_replicas=0, max_replicas=4),
        clock=lambda: deployment.now_s,
    )

    def until(end_s: float) -> None:
        while deployment.now_s < end_s:
            deployment.now_s += 1.0
            controller.turn()

    until(120.0)
    assert deployment.counts == []  # it sleeps on, and says nothing of it
    assert deployment.told == []
    activator.now = Demand(1.0, 1.0)
    until(130.0)
    assert deployment.counts == [1]
    activator.now = Demand(1.0, 0.0)  # it was taken
    until(200.0)
    assert deployment.counts == [1, 0]


def test_keda_does_not_sleep_while_the_activator_does_not_answer(monkeypatch) -> None:
    activator, deployment = Asked(), Sleeper()
    deployment.replicas = 1
    scraper = PodScraper("m", activator)
    monkeypatch.setattr(scraper, "_read", lambda pod: (1.0, 0.0, 0.01, 0.0, 0.01, float("nan"), 1.0))
    limits = Limits(min_replicas=0, max_replicas=4)
    policy = build_policy({**KEDA, **SHORT}, 4, None)
    controller = Controller(deployment, scraper, policy, limits, clock=lambda: deployment.now_s)
    activator.now = None
    while deployment.now_s < 120.0:
        deployment.now_s += 1.0
        controller.turn()
    assert deployment.counts == []


def config(**more: object) -> ActivatorConfig:
    ports = [{"listen": 0, "pod": 8000}]
    given = {"deployments": [{"deployment": "web", "ports": ports}], "metrics_port": 0, **more}
    return ActivatorConfig.model_validate(given)


def test_it_keeps_the_pods_it_knew_while_the_api_is_away_and_ends_when_it_is_told(capsys) -> None:
    stop, looks = threading.Event(), 0
    fronts: list[Front] = []

    def look() -> DeploymentStatus:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise ClusterError("the API does not answer")
        return DeploymentStatus(1, (), (TritonAddress("pod-0", "127.0.0.9:8000", None),))

    async def story() -> None:
        served = asyncio.create_task(
            serve_until(config(look_period_s=0.02), {"web": look}, stop, lambda made, _: fronts.extend(made.values()))
        )
        async with asyncio.timeout(10):
            while looks < 4:
                await asyncio.sleep(0.01)
        assert fronts[0].pods == {"pod-0": "127.0.0.9"}
        stop.set()
        await asyncio.wait_for(served, 5)

    asyncio.run(story())
    assert capsys.readouterr().out.count("the API does not answer") == 1


@pytest.mark.parametrize(("given", "looked"), [({}, "the-pods-own"), ({"namespace": "mine"}, "mine")])
def test_the_namespace_is_the_pods_own_unless_it_is_given(monkeypatch, given, looked) -> None:
    seen: list[str] = []

    class View:
        def __init__(self, api: object, namespace: str, name: str) -> None:
            seen.append(namespace)

        def look(self) -> DeploymentStatus:
            return DeploymentStatus(0, (), ())

    monkeypatch.setattr(run, "api_client", lambda kubeconfig: None)
    monkeypatch.setattr(run, "own_namespace", lambda: "the-pods-own")
    monkeypatch.setattr(run, "DeploymentView", View)
    stop = threading.Event()
    stop.set()
    run.run_activator(config(**given), kubeconfig=None, stop=stop)
    assert seen == [looked]


def test_a_port_that_is_taken_is_one_line() -> None:
    async def story() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        taken = config(deployments=[{"deployment": "web", "ports": [{"listen": port, "pod": 8000}]}])
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be had"):
            await serve_until(taken, {}, threading.Event())

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments: []", "at least 1 item"),
        ("deployments: [{deployment: a, ports: [{listen: 1, pod: 2}]}, {deployment: a, ports: [{listen: 3, pod: 2}]}]",
         "a is named twice"),
        ("deployments: [{deployment: a, ports: [{listen: 1, pod: 2}, {listen: 1, pod: 3}]}]", "port 1 is given twice"),
        ("deployments: [{deployment: a, ports: [{listen: 9102, pod: 2}]}]", "port 9102 is given twice"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "activator.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(file, ActivatorConfig)
