"""A learned policy's files: run without torch, refused if they are not what they say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.features import FEATURES, VERSION, Past
from testbed.autoscaling.forecast import SMOOTHED
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Window
from testbed.errors import ConfigError

MAX_STEP = 2
KNOWN = Past(90.0, 0, (140.0, 140.0))  # with the step that is asked for, enough to act


def export(folder: Path, weights: np.ndarray, **changes: Any) -> Path:
    """logits = features @ weights; `changes` of policy.json."""
    k, outputs = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["logits"])],
        "policy",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", k])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "policy.onnx"
    onnx.save(model, file)
    told = {
        "features_version": VERSION,
        "features": list(FEATURES),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "max_step": MAX_STEP,
        "step_s": 5.0,
        "slo_penalties": [3.0, 30.0],
        **changes,
    }
    (folder / "policy.json").write_text(json.dumps(told))
    return file


def follows_load() -> np.ndarray:
    """One more while the ready replicas are asked for more than they can; one less below that."""
    weights = np.zeros((len(FEATURES), 2 * MAX_STEP + 1))
    load, asked = list(FEATURES).index("load"), list(FEATURES).index("asked")
    weights[load, MAX_STEP + 1] = 1.0
    weights[asked, MAX_STEP - 1] = 4.0  # of a quarter of all: 1
    return weights


@dataclass
class Scene:
    """Two ready pods of eight that answer `rate` requests a second."""

    rate: float
    now_s: float = 100.0
    spec_replicas: int = 2
    queue_s: float = 0.01
    pods: list[PodState] = field(default_factory=lambda: [PodState(f"pod-{k}", "Running", True, 0, 0) for k in (0, 1)])

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        one = np.ones(2)
        done = one * self.rate * seconds / 2
        end_s = self.now_s - metrics_delay_s
        return Window(
            end_s - seconds, end_s, ("pod-0", "pod-1"), done, done * self.queue_s, 0 * one, one, one * 0.5, one
        )


def policy_of(file: Path, **changes: Any) -> Any:
    settings = {
        "kind": "learned",
        "file": str(file),
        "replica_capacity_rps": 50,
        "latency_target_s": 0.1,
        "provisioning_delay_s": 5,
    }
    return build_policy({**settings, **changes}, 8, None)


def test_the_largest_logit_is_the_change(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, follows_load()))
    assert policy.period_s == 5.0
    up = policy.decide(Scene(rate=140.0), KNOWN)
    assert up.replicas == 3
    assert up.memory == (100.0, 1, (140.0, 140.0, 140.0), 0.0)
    assert up.reason == "+1: 140/s, 140 % of what 2 replicas serve; in 6 s 140/s on a line; 0 wait"
    quiet = KNOWN._replace(rates=(10.0, 10.0))
    assert policy.decide(Scene(rate=10.0), quiet).replicas == 1
    assert policy.decide(Scene(rate=10.0, spec_replicas=1), quiet).replicas == 1  # never below its least


def test_the_first_steps_are_looked_at_only(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, follows_load()))
    memory = None
    for _ in range(SMOOTHED - 1):
        decision = policy.decide(Scene(rate=140.0), memory)
        memory = decision.memory
        assert decision.replicas == 2
        assert "too little is known yet" in decision.reason
    assert policy.decide(Scene(rate=140.0), memory).replicas == 3


def test_a_metric_that_is_no_number_changes_nothing(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, follows_load()))
    decision = policy.decide(Scene(rate=140.0, queue_s=float("nan")), None)
    assert decision.replicas == 2
    assert "no number" in decision.reason


def test_a_network_that_answers_no_number_changes_nothing(tmp_path: Path) -> None:
    policy = policy_of(export(tmp_path, np.full((len(FEATURES), 2 * MAX_STEP + 1), np.nan)))
    assert policy.decide(Scene(rate=140.0), KNOWN).replicas == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"features_version": 0}, "expects features of version 0"),
        ({"features_version": "placement-1"}, "expects features of version placement-1"),
        ({"features": ["ready"]}, "expects features of version"),
        ({"sha256": "0" * 64}, "its hash differs"),
        ({"max_step": 3}, "has the ports"),
        ({"step_s": 0}, "step_s"),
        ({"slo_penalties": [20, 30]}, "slo_penalty is 10, it was trained with 20 to 30"),
        ({"optimiser": "adam"}, "optimiser"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    file = export(tmp_path, follows_load(), **changes)
    with pytest.raises(ConfigError, match=told) as caught:
        policy_of(file)
    assert "\n" not in str(caught.value)


def test_a_tampered_network_is_refused(tmp_path: Path) -> None:
    file = export(tmp_path, follows_load())
    body = bytearray(file.read_bytes())
    body[-5] ^= 1
    file.write_bytes(bytes(body))
    with pytest.raises(ConfigError, match="its hash differs"):
        policy_of(file)


def test_what_is_no_network_is_refused_in_one_line(tmp_path: Path) -> None:
    file = export(tmp_path, follows_load())
    file.write_bytes(b"not a network")
    told = json.loads(file.with_suffix(".json").read_text())
    told["sha256"] = hashlib.sha256(b"not a network").hexdigest()
    file.with_suffix(".json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="it is no ONNX file") as caught:
        policy_of(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_what_a_policy_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no policy .*nothing\.onnx: a policy is an \.onnx file and a \.json file"):
        policy_of(tmp_path / "nothing.onnx")
