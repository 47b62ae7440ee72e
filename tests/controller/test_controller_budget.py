"""Several deployments in one process on a budget of GPUs: over deployments and pods made of plain values."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from testbed.autoscaling.budget import Budget, Claim, GpuBudget
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import PodScraper
from testbed.cli.main import application
from testbed.config_file import build
from testbed.controller import run
from testbed.controller.config import BudgetControllerConfig
from testbed.controller.exporter import Exporter
from testbed.controller.guard import Limits
from testbed.controller.loop import Controller, Place, Turn
from testbed.controller.run import budget_of, run_controller
from testbed.errors import ClusterError, ConfigError
from testbed.measurement import triton_metrics
from tests.controller.test_controller_loop import Answers, Deployment, statistics_of


@dataclass
class Leaving(Deployment):
    """Its pods go only when they are told to."""

    leaving: list[PodState] = field(default_factory=list)

    def look(self) -> DeploymentStatus:
        status = super().look()
        return status._replace(pods=[*status.pods, *self.leaving])

    def patch(self, replicas: int, judged: int) -> None:
        names = [f"pod-{k}" for k in range(replicas, judged)]
        super().patch(replicas, judged)
        self.leaving += [PodState(name, "Running", True, 0.0, 0.0, deleting=True) for name in names]


class Shared:
    """Deployments `a` and `b` under policies that want so many, on one budget and one clock that is turned by hand."""

    def __init__(self, gpus: float, has: dict[str, int], wants: dict[str, Any], **limits: Any) -> None:
        self.now_s, self.wants, self.has = 0.0, wants, {name: Leaving(count) for name, count in has.items()}
        claims = [Claim(name, wanted=count, held=count) for name, count in has.items()]
        self.budget = GpuBudget(Budget(gpus=gpus), claims)
        self.controllers = {name: self.controller(name, **limits) for name in has}

    def controller(self, name: str, **limits: Any) -> Controller:
        def wanted(seen: Any) -> Any:
            if self.wants[name] == "fails":
                raise ZeroDivisionError("it failed")
            return self.wants[name]

        return Controller(
            self.has[name],
            PodScraper("m"),
            Answers(wanted, period_s=1.0),
            Limits(**{"max_replicas": 10, "stale_s": 5.0, **limits}),
            place=Place(self.budget, name),
            clock=lambda: self.now_s,
        )

    def second(self) -> dict[str, Turn]:
        """What each decides, in their order."""
        self.now_s += 1.0
        turns = {name: controller.turn() for name, controller in self.controllers.items()}
        return {name: turn for name, turn in turns.items() if turn is not None}

    def replicas(self) -> dict[str, int]:
        return {name: one.replicas for name, one in self.has.items()}


@pytest.fixture(autouse=True)
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_metrics, "_get", lambda url, *_: statistics_of(url, 100))


def test_wants_that_fit_are_followed():
    shared = Shared(6, {"a": 1, "b": 1}, {"a": 2, "b": 4})
    turns = shared.second()
    assert shared.replicas() == {"a": 2, "b": 4}
    assert not any(turn.refusal for turn in turns.values())
    assert turns["b"].reason == "because"


def test_what_does_not_fit_is_divided_and_said():
    shared = Shared(6, {"a": 1, "b": 1}, {"a": 4, "b": 5})
    shared.second()
    assert shared.replicas() == {"a": 4, "b": 2}  # b has not asked yet when a does
    turns = shared.second()
    assert shared.replicas() == {"a": 3, "b": 2}
    assert (turns["a"].reason, turns["a"].refusal) == (
        "because",
        "wants 4, has 3: 6 GPUs for a (3 of 4) and b (3 of 5)",
    )
    assert turns["b"].refusal == "wants 5, has 2 until 1 GPU is free: 6 GPUs for a (3 of 4) and b (3 of 5)"
    assert (turns["b"].wanted, turns["b"].replicas) == (5, None)
    assert shared.has["b"].told[-1] == ("Held", turns["b"].refusal)
    assert shared.has["a"].told[-2][1].startswith("4 -> 3: because; wants 4, has 3")


def test_a_pod_that_is_going_away_has_its_gpu_until_it_is_gone():
    shared = Shared(4, {"a": 3, "b": 1}, {"a": 1, "b": 3})
    for _ in range(3):
        shared.second()
        assert shared.replicas() == {"a": 1, "b": 1}
    del shared.has["a"].leaving[0]
    shared.second()
    assert shared.replicas() == {"a": 1, "b": 2}
    shared.has["a"].leaving.clear()
    shared.second()
    assert shared.replicas() == {"a": 1, "b": 3}


def test_pods_that_have_ended_hold_nothing():
    shared = Shared(3, {"a": 1, "b": 1}, {"a": 1, "b": 1})
    shared.has["b"].leaving = [PodState("old", "Failed", False, 0.0, 0.0)]
    shared.second()
    shared.wants["a"] = 2
    shared.second()
    assert shared.replicas() == {"a": 2, "b": 1}


def test_a_deployment_that_cannot_be_seen_keeps_what_it_has_and_nobody_takes_it():
    shared = Shared(6, {"a": 3, "b": 1}, {"a": 1, "b": 6})
    shared.has["a"].broken = "the API does not answer"
    for _ in range(3):
        turns = shared.second()
    assert shared.replicas() == {"a": 3, "b": 3}
    assert turns["b"].refusal == "wants 6, has 3: 6 GPUs for a (keeps 3) and b (3 of 6)"
    shared.has["a"].broken = ""
    shared.second()
    shared.has["a"].leaving.clear()
    shared.second()
    shared.second()
    assert shared.replicas() == {"a": 1, "b": 5}


def test_a_policy_that_fails_keeps_its_last_proposal():
    shared = Shared(4, {"a": 2, "b": 1}, {"a": 2, "b": 2})
    shared.second()
    shared.wants |= {"a": "fails", "b": 4}
    turns = shared.second()
    assert shared.replicas() == {"a": 2, "b": 2}
    assert turns["a"].refusal == "the policy failed"
    assert turns["a"].reason == "ZeroDivisionError: it failed"
    assert turns["b"].refusal == "wants 4, has 2: 4 GPUs for a (2 of 2) and b (2 of 4)"


@pytest.mark.parametrize("nonsense", [-1, float("nan"), float("inf")])
def test_an_answer_that_is_no_count_is_no_proposal(nonsense):
    shared = Shared(4, {"a": 2, "b": 1}, {"a": 2, "b": 2})
    shared.second()
    shared.wants |= {"a": nonsense, "b": 4}
    turns = shared.second()
    assert shared.replicas() == {"a": 2, "b": 2}
    assert turns["a"].refusal == f"the policy answered {nonsense}"
    assert turns["b"].refusal == "wants 4, has 2: 4 GPUs for a (2 of 2) and b (2 of 4)"


def test_the_arrivals_are_known_while_every_pod_tells_them(monkeypatch):
    shared = Shared(4, {"a": 2, "b": 1}, {"a": 2, "b": 1})
    monkeypatch.setattr("testbed.controller.loop.arrival_rate", lambda observation: 42.0)
    shared.second()
    assert shared.budget._claims["a"].rate_rps == 42.0
    monkeypatch.setattr(triton_metrics, "_get", lambda url, *_: "" if "pod-1" in url else statistics_of(url, 100))
    shared.second()
    assert shared.budget._claims["a"].rate_rps is None
    assert shared.budget._claims["b"].rate_rps == 42.0


def test_the_guard_holds_what_the_budget_takes_and_the_others_wait():
    shared = Shared(4, {"a": 3, "b": 1}, {"a": 3, "b": 3}, down_window_s=10.0)
    for _ in range(9):
        turns = shared.second()
        assert shared.replicas() == {"a": 3, "b": 1}
    cut = "wants 3, has 2: 4 GPUs for a (2 of 3) and b (2 of 3)"
    assert turns["a"].refusal == f"3 were wanted within the last 10 s; {cut}"
    shared.second()
    shared.second()
    assert shared.replicas() == {"a": 2, "b": 1}


def test_no_minimum_is_reached_without_a_gpu_for_it():
    shared = Shared(4, {"a": 3, "b": 1}, {"a": 3, "b": 3}, min_replicas=2)
    shared.has["a"].broken = "the API does not answer"
    shared.second()
    assert shared.replicas() == {"a": 3, "b": 1}
    shared.wants["b"] = "fails"
    shared.second()
    assert shared.replicas() == {"a": 3, "b": 1}


def test_more_than_the_limits_allow_is_not_asked_of_the_budget():
    shared = Shared(6, {"a": 1, "b": 1}, {"a": 2, "b": 9}, max_replicas=4)
    turns = shared.second()
    assert shared.replicas() == {"a": 2, "b": 4}
    assert turns["b"].refusal == "9 is out of 1..4"


def settings(**changes: Any) -> dict[str, Any]:
    one = {"model": "m", "limits": {"max_replicas": 6}}
    policy = {"kind": "fixed", "replicas": 4, "period_s": 0.01}
    deployments = [{"deployment": name, "policy": policy, **one} for name in ("a", "b")]
    return {"deployments": deployments, "budget": {"gpus": 6}, "scrape_period_s": 0.01, **changes}


def test_one_process_controls_them_all_each_with_its_loop_and_labels(monkeypatch):
    has, stop, sums, log = {"a": Deployment(1), "b": Deployment(1)}, threading.Event(), list[int](), io.StringIO()
    monkeypatch.setattr(run, "Exporter", partial(Exporter, log=log))
    monkeypatch.setattr(run, "api_client", lambda kubeconfig: None)
    monkeypatch.setattr(run, "KubernetesDeployment", lambda api, namespace, name, timeout_s: has[name])

    def note(turn: Turn) -> None:
        sums.append(sum(one.replicas for one in has.values()))
        if [one.replicas for one in has.values()] == [3, 3] or len(sums) > 1000:
            stop.set()

    config = build(BudgetControllerConfig, settings(), "c.yaml")
    run_controller(config, kubeconfig=None, once=False, stop=stop, on_turn=note)
    assert {name: one.replicas for name, one in has.items()} == {"a": 3, "b": 3}
    assert max(sums) == 6
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {line["deployment"] for line in lines} == {"a", "b"}
    assert len(lines) == len(sums)


def test_a_loop_that_ends_as_nobody_reckoned_with_ends_the_process(monkeypatch):
    has, stop = {"a": Deployment(1), "b": Deployment(1)}, threading.Event()
    monkeypatch.setattr(run, "api_client", lambda kubeconfig: None)
    monkeypatch.setattr(run, "KubernetesDeployment", lambda api, namespace, name, timeout_s: has[name])

    def note(turn: Turn) -> None:
        raise ZeroDivisionError("nobody reckoned with it")

    config = build(BudgetControllerConfig, settings(), "c.yaml")
    with pytest.raises(ZeroDivisionError):
        run_controller(config, kubeconfig=None, once=False, stop=stop, on_turn=note)


def test_a_deployment_that_is_not_there_is_told_at_the_start(monkeypatch):
    has = {"a": Deployment(1), "b": Deployment(1, broken="deployment b: 404 Not Found")}
    monkeypatch.setattr(run, "api_client", lambda kubeconfig: None)
    monkeypatch.setattr(run, "KubernetesDeployment", lambda api, namespace, name, timeout_s: has[name])
    config = build(BudgetControllerConfig, settings(), "c.yaml")
    with pytest.raises(ClusterError, match="404 Not Found"):
        run_controller(config, kubeconfig=None, once=True, stop=threading.Event())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"gpus": 1}}, r"min_replicas \(a 1, b 1\) take 2 GPUs, gpus is 1"),
        ({"budget": {"gpus": 6, "objective": "sum"}}, "deployments: a: give replica_capacity_rps"),
        ({"budget": {"gpus": 6, "objective": "most"}}, "budget.objective"),
        ({"deployments": settings()["deployments"][:1]}, "deployments"),
        ({"deployments": [*settings()["deployments"], settings()["deployments"][0]]}, r"two have the same name \(a, b"),
        ({"deployment": "a"}, "unknown key 'deployment'"),
        ({"deployments": [{**each, "weight": float("inf")} for each in settings()["deployments"]]}, "weight"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        budget_of(build(BudgetControllerConfig, settings(**changes), "c.yaml"))
    assert "\n" not in str(error.value)


def test_a_share_of_a_gpu_and_a_weight_reach_the_budget():
    deployments = settings()["deployments"]
    deployments[0] |= {"gpus_per_replica": "1/4", "weight": 3}
    one = budget_of(build(BudgetControllerConfig, settings(deployments=deployments, budget={"gpus": 2}), "c.yaml"))
    one.note("a", wanted=6)
    one.note("b", wanted=6)
    assert one.grant("a", 1).replicas == 4  # what is left of the two GPUs beside b's pod
    assert one.free == 0


@pytest.mark.parametrize("flags", [["--policy", "fixed:replicas=2"], ["--adapt", "adapt.yaml"]])
def test_what_is_of_one_deployment_is_refused_for_several(tmp_path: Path, flags: list[str]):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings()))
    result = CliRunner().invoke(application(), ["controller", str(tmp_path / "c.yaml"), *flags])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{flags[0]} goes with one deployment, not with several"
