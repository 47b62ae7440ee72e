"""The rules, the dashboard and prometheus.yml of manifests/monitoring, read by a real Prometheus.

It scrapes a real tritonserver, which real traffic goes to, and a real controller's page. Only the Kubernetes API beside
that controller is played: its deployment is the tritonserver on this machine. Grafana is not here: the dashboard is
held against a schema of our own, written after the one that Grafana publishes, as far as the dashboard uses it
(github.com/grafana/grafana-foundation-sdk, jsonschema/dashboard.jsonschema.json).
"""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import PodScraper
from testbed.cli.serve import scraped
from testbed.config import ServeConfig
from testbed.config_file import load_config
from testbed.controller.exporter import Exporter
from testbed.controller.guard import Limits
from testbed.controller.health import Pulse, serve
from testbed.controller.loop import Controller
from testbed.pipeline.target import Target, served
from workloads.files import write_json

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
OF_A_GPU = {"nv_gpu_utilization"}  # on no page of a server without one: no query over it has a result here
VARIABLES = {"$namespace": "local", "$model": "emulated", "$__rate_interval": "10s"}  # as Grafana fills them in
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="no prometheus and promtool on PATH"
)


def rules() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    return spec


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MONITORING / "kis-dashboard.json").read_text())
    return read


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_prometheus
def test_the_rules_are_rules_and_each_alert_fires_when_it_is_to(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules()))
    cases = Path(__file__).with_name("rules_test.yaml")
    shutil.copy(cases, tmp_path)
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml")
    promtool("test", "rules", tmp_path / cases.name)
    alerts = {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}
    asked = [case for test in yaml.safe_load(cases.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in asked if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in asked if not case["exp_alerts"]} == alerts


@needs_prometheus
def test_prometheus_takes_its_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", MONITORING / "prometheus.yml")


class Part(BaseModel):
    """Of a dashboard: it has nothing but what is written here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DataSource(Part):
    type: str
    uid: str


class GridPos(Part):
    x: int = Field(ge=0, lt=24)
    y: int = Field(ge=0)
    w: int = Field(gt=0, le=24)
    h: int = Field(gt=0)


class Query(Part):
    """A Prometheus query: jsonschema/prometheus.jsonschema.json."""

    refId: str  # noqa: N815 - Grafana's name
    datasource: DataSource
    expr: str
    legendFormat: str  # noqa: N815


class FieldConfig(Part):
    unit: str
    min: float | None = None
    max: float | None = None


class FieldConfigSource(Part):
    defaults: FieldConfig
    overrides: list[dict[str, Any]]


class Panel(Part):
    id: int
    type: Literal["timeseries"]
    title: str
    datasource: DataSource
    gridPos: GridPos  # noqa: N815
    fieldConfig: FieldConfigSource  # noqa: N815
    targets: list[Query] = Field(min_length=1)


class Option(Part):
    text: str
    value: str


class VariableQuery(Part):
    """As Grafana's editor writes it; the published schema has a text or an object there, and no more of it."""

    query: str
    refId: str  # noqa: N815


class Variable(Part):
    name: str
    type: Literal["query", "datasource"]
    query: str | VariableQuery
    datasource: DataSource | None = None
    includeAll: bool = False  # noqa: N815
    multi: bool = False
    refresh: Literal[0, 1, 2] = 0
    current: Option | None = None


class Templating(Part):
    list: list[Variable]


class Annotations(Part):
    list: list[dict[str, Any]]


class Span(Part):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)
    begin: str = Field(alias="from")
    to: str


class Dashboard(Part):
    uid: str = Field(min_length=8, max_length=40)
    title: str
    tags: list[str]
    schemaVersion: int = Field(ge=36)  # noqa: N815
    timezone: str
    refresh: str
    time: Span
    annotations: Annotations
    templating: Templating
    panels: list[Panel]


def test_the_dashboard_is_as_grafanas_published_schema_has_it() -> None:
    read = Dashboard.model_validate(dashboard())
    ids = [panel.id for panel in read.panels]
    assert len(set(ids)) == len(ids)
    known = {f"${variable.name}" for variable in read.templating.list} | {"$__rate_interval"}
    uids = {panel.datasource.uid for panel in read.panels} | {
        one.datasource.uid for p in read.panels for one in p.targets
    }
    assert uids == {"${datasource}"}
    assert {name for query in queries() for name in re.findall(r"\$\w+", query)} <= known
    cells = [
        (x, y)
        for panel in read.panels
        for x in range(panel.gridPos.x, panel.gridPos.x + panel.gridPos.w)
        for y in range(panel.gridPos.y, panel.gridPos.y + panel.gridPos.h)
    ]
    assert len(set(cells)) == len(cells)  # no panel lies on another
    assert max(x for x, _ in cells) < 24


def test_the_schema_refuses_what_is_wrong() -> None:
    wrong = dashboard()
    wrong["panels"][0]["targets"][0]["expression"] = wrong["panels"][0]["targets"][0].pop("expr")
    with pytest.raises(ValidationError, match=r"panels\.0\.targets\.0\.expr"):
        Dashboard.model_validate(wrong)


class OnThisMachine:
    """The deployment of the controller: what serves on this machine, as ready pods. It takes any number, and stays."""

    def __init__(self, target: Target) -> None:
        self._target, self._replicas = target, len(target.addresses())

    def look(self) -> DeploymentStatus:
        addresses = self._target.addresses()
        pods = [PodState(address.endpoint, "Running", True, 0.0, 0.0) for address in addresses]
        return DeploymentStatus(self._replicas, pods, addresses)

    def patch(self, replicas: int, judged: int) -> None:
        self._replicas = replicas

    def tell(self, reason: str, message: str, warning: bool) -> None:
        """To nobody."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """One that runs, at a port of this machine."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """Of its HTTP API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=1):
                return True
        except OSError:
            return False

    def query(self, expr: str) -> list[Any]:
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        result: list[Any] = self.ask("query", query=expr)["result"]
        return [one for one in result if one["value"][1] != "NaN"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus of prometheus.yml over a tritonserver under traffic, and a controller that looks at it."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "rules.yml").write_text(yaml.safe_dump(rules()))
    config = load_config(ROOT / "testbed" / "configs" / "serve-emulated.yaml", ServeConfig, {})
    stop = threading.Event()
    with served(config, folder / "serving", latency_summaries=True) as target:
        write_json(folder / "triton.json", scraped(target))
        exporter = Exporter("triton-emulated", "knative", [], log=io.StringIO())
        page = serve(0, exporter.registry, [Pulse(60.0)])
        controller = threading.Thread(target=control, args=(target, exporter, stop))
        settings = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["rule_files"] = [str(folder / "rules.yml")]
        settings["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(folder / "triton.json")]
        of_controller = {"targets": [f"127.0.0.1:{page}"], "labels": {"namespace": "local"}}
        settings["scrape_configs"].append({"job_name": "local/kis-controller", "static_configs": [of_controller]})
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        port = free_port()
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        traffic = [sys.executable, "-m", "testbed.cli", "replay", "--server", target.addresses()[0].http_url]
        traffic += ["--metrics", str(target.addresses()[0].metrics_url), "--pattern", "constant"]
        traffic += ["--set", "rate=100", "--duration", "120", "--out", str(folder / "run")]
        with (folder / "log").open("w") as log:
            processes = [
                subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log),
                subprocess.Popen(traffic, stdout=log, stderr=log),
            ]
        controller.start()
        try:
            running = Prometheus(port)
            wait_for(running.ready, 60)
            yield running
        finally:
            stop.set()
            for process in processes:
                process.terminate()
                process.wait(30)
            controller.join(10)


def control(target: Target, exporter: Exporter, stop: threading.Event) -> None:
    """As run_controller does, without the API."""
    policy = build_policy({"kind": "knative", "container_concurrency": 8}, 8, None)
    scraper = PodScraper("emulated")
    controller = Controller(OnThisMachine(target), scraper, policy, Limits(max_replicas=8, stale_s=10.0))
    while not stop.wait(0.5):
        turn = controller.turn()
        if turn is not None:
            exporter.tell(turn, dict(scraper.failures))
    scraper.close()


def wait_for(condition: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.5)
    return bool(condition())


@needs_prometheus
@pytest.mark.server
@pytest.mark.parametrize("expr", queries())
def test_every_query_of_the_dashboard_has_a_result(prometheus: Prometheus, expr: str) -> None:
    if any(name in expr for name in OF_A_GPU):
        assert prometheus.query(expr) == []
        pytest.skip("no GPU serves here")
    assert wait_for(lambda: prometheus.query(expr), 60), expr


@needs_prometheus
@pytest.mark.server
def test_what_the_dashboard_lets_one_choose_is_there(prometheus: Prometheus) -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            series = asked[1].replace("$namespace", "local")
            wait_for(lambda series=series: prometheus.query(series), 60)
            assert prometheus.ask(f"label/{asked[2]}/values", **{"match[]": series}) == [VARIABLES[f"${asked[2]}"]]


@needs_prometheus
@pytest.mark.server
def test_prometheus_evaluates_every_rule_and_none_is_in_error(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    assert wait_for(lambda: {rule["health"] for rule in evaluated()} == {"ok"}, 60)
    assert len(evaluated()) == sum(len(group["rules"]) for group in rules()["groups"])
    assert {target["health"] for target in prometheus.ask("targets")["activeTargets"]} == {"up"}
