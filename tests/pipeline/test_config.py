"""Configuration files: what is wrong is said in one line, with its place and the nearest known key."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from pydantic import BaseModel

from testbed.config import CalibrateConfig, MeasureConfig, ServeConfig, SimulateConfig, StudyConfig
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.simulation.cluster.config import ClusterConfig
from workloads.catalog import ServiceConfig


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (ServeConfig, "modle: bert", "unknown key 'modle': did you mean 'model'?"),
        (ServeConfig, "service: {replcas: 2}", "unknown key 'service.replcas': did you mean 'replicas'?"),
        (
            CalibrateConfig,
            "studies: [{model: bert, held_out: {pattern: [ramp]}}]",
            "unknown key 'studies.0.held_out.pattern': did you mean 'patterns'?",
        ),
        (ServeConfig, "service: {replicas: 0}", "service.replicas: Input should be greater than or equal to 1 (got 0)"),
        (ServeConfig, "model: resnet5", "unknown model 'resnet5': did you mean 'resnet50'?"),
        (ServeConfig, "model: emulated", "model 'emulated' needs an `emulated` block"),
        (MeasureConfig, "traffic: {pattern: bursty, trace: a.csv}", "give either a pattern or a trace"),
        (CalibrateConfig, "seed: 1", "studies is missing"),
        (CalibrateConfig, "studies: [{model: bert}, {model: bert, threads: 1}]", "two studies of one model"),
        (
            CalibrateConfig,
            "studies: [{model: bert, configurations: [{replicas: 2}, {replicas: 2}]}]",
            "two configurations are the same",
        ),
        (
            CalibrateConfig,
            "studies: [{model: bert, configurations: [{length_buckets: [32, 128]}]}]",
            "give length_buckets of the service and lengths of the requests together",
        ),
        (
            CalibrateConfig,
            "studies: [{model: bert, lengths: {tokens: [64]}, configurations: [{length_buckets: [32]}]}]",
            "requests have up to 64 tokens, the longest bucket is 32",
        ),
        (
            MeasureConfig,
            "traffic: {lengths: {tokens: [64]}}",
            "serve.service.length_buckets and traffic.lengths together",
        ),
        (MeasureConfig, "traffic: {lengths: {median: 64, sigma: 1}}", "longest is missing"),
        (ServeConfig, "service: {length_buckets: [64, 32]}", "must be ascending"),
        (ServeConfig, "model: [", "is not YAML"),
        (ServeConfig, "- 1", "holds no mapping of keys"),
    ],
)
def test_what_is_wrong_is_one_clear_line(tmp_path: Path, kind: type[BaseModel], text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(written(tmp_path, text), kind)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "config.yaml" in str(error.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml", ServeConfig)


def test_all_configurations_of_a_study_give_an_instance_the_same_threads() -> None:
    study = StudyConfig(model="resnet50", configurations=(ServiceConfig(), ServiceConfig(instances=64)))
    assert {study.serve(service, "cpu").threads for service in study.configurations} == {1}


def test_flags_override_single_keys(tmp_path: Path) -> None:
    file = written(tmp_path, "model: bert\nservice: {replicas: 2, max_batch_size: 4}")
    config = load_config(file, ServeConfig, {"service": {"replicas": 3}})
    assert (config.model, config.service.replicas, config.service.max_batch_size) == ("bert", 3, 4)


def test_a_mapping_extends_another_file_and_items_that_have_a_name_are_merged_by_it(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base.yaml").write_text("extends: first.yaml\nmodels: [{name: a, replicas: 2}]")
    (tmp_path / "parts" / "first.yaml").write_text(
        "pools: [{gpus: 4, gpu_kind: x}]\n"
        "gpu_kinds: {x: {}}\n"
        "models:\n"
        "  - {name: a, profiles: {x: p.json}, latency_target_s: 0.1, replicas: 1, pod: {load_s: 3, schedule_s: 2}}\n"
        "  - {name: b, profiles: {x: q.json}, latency_target_s: 0.2}\n"
    )
    own = "extends: parts/base.yaml\nmodels: [{name: a, pod: {load_s: null}}]\npools: [{gpus: 9, gpu_kind: x}]"
    config = load_config(written(tmp_path, own), ClusterConfig)
    assert [(model.name, model.replicas, model.pod.load_s, model.pod.schedule_s) for model in config.models] == [
        ("a", 2, None, 2.0),
        ("b", 1, None, 0.05),
    ]
    assert [pool.gpus for pool in config.pools] == [9]  # without names, the list is another one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: none.yaml", "config.yaml: extends .*none.yaml: No such file"),
        ("service: {extends: config.yaml}", "extends .*config.yaml, which extends it: end the circle"),
        ("extends: [a, b]", r"extends is \['a', 'b'\]: give the name of a file beside it"),
    ],
)
def test_what_cannot_be_extended_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text), ServeConfig)


@pytest.mark.parametrize("name", ["default", "quick", "golden-emulated", "golden-resnet50", "golden-bert"])
def test_the_configurations_that_ship_are_right(name: str) -> None:
    config = load_config(Path(str(resources.files("testbed") / "configs" / f"{name}.yaml")), CalibrateConfig)
    for study in config.studies:
        for service in study.configurations:
            assert study.serve(service, "auto").service == service


RELATIVE = """
cluster:
  extends: ../parts/cluster.yaml
traffic: {spike: {trace: spike.csv}}
policies:
  learned: {kind: learned, file: ../policies/policy.onnx}
  hpa: {kind: hpa, tuned: /shared/tuned.json}
  each: {per_traffic: {spike: {kind: hpa, tuned: tuned.json}}}
baseline: hpa
"""


def relative_paths(config: EvaluateConfig) -> list[str]:
    profile = config.cluster.models[0].profiles["x"]
    policies = config.policies
    named = [policies["learned"]["file"], policies["hpa"]["tuned"], policies["each"]["per_traffic"]["spike"]["tuned"]]
    return [str(profile), str(config.traffic["spike"].trace), *named]


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the current folder they are kept relative to it, as a results folder goes with its checkout."""
    for folder in ("configs", "parts", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "configs" / "evaluate.yaml").write_text(RELATIVE)
    (tmp_path / "parts" / "cluster.yaml").write_text(
        "gpu_kinds: {x: {}}\npools: [{gpus: 1, gpu_kind: x}]\n"
        "models: [{name: m, profiles: {x: profile.json}, latency_target_s: 1}]"
    )
    expected = ["parts/profile.json", "configs/spike.csv", "policies/policy.onnx", "/shared/tuned.json"]
    expected.append("configs/tuned.json")
    monkeypatch.chdir(tmp_path)
    assert relative_paths(load_config(Path("configs/evaluate.yaml"), EvaluateConfig)) == expected
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(Path("../configs/evaluate.yaml"), EvaluateConfig)
    assert relative_paths(config) == [str(tmp_path / one) for one in expected]


def test_what_a_command_has_kept_beside_its_results_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"profile": "results/profile.json"}')
    assert load_config(file, SimulateConfig).profile == Path("results/profile.json")
