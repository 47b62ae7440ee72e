"""`kis pack`: what models do to each other on a GPU, which may share one, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from recording_reporter import RecordingReporter
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from testbed.calibration.profile import DeviceMemory, ServiceProfile
from testbed.cli.main import application
from testbed.config_file import build
from testbed.errors import ConfigError
from testbed.pipeline.packing import Search, pack
from testbed.pipeline.packing_config import PackConfig, SharedGpu
from testbed.pipeline.packing_search import Group
from testbed.pipeline.packing_world import CONFIRMED, Law, Look, Subject, World, law_of
from testbed.reporting.packing import why_not
from testbed.reporting.reports import write_report
from testbed.run_dir import Device
from tests.oracles.cluster_worlds import flat_profile
from workloads.errors import KisError

GPU = Device(kind="gpu", name="flat")
GIB = 2.0**30


def gpu_profile(batch_s: float, memory_gib: float | None = None, **more: Any) -> ServiceProfile:
    memory = None if memory_gib is None else DeviceMemory(server_bytes=memory_gib * GIB, instance_bytes=0)
    return flat_profile([batch_s]).model_copy(update={"device": GPU, "device_memory": memory, **more})


def config_of(folder: Path, models: dict[str, dict[str, Any]], **more: Any) -> PackConfig:
    """models: by name, with `batch_s` of the profile (`memory_gib`, `interference`), `rate`, and keys of the file."""
    described = []
    for name, given in models.items():
        keys = dict(given)
        known = {key: keys.pop(key) for key in ("memory_gib", "interference") if key in keys}
        gpu_profile(keys.pop("batch_s"), **known).write(folder / f"{name}.json")
        traffic = {"pattern": "constant", "parameters": {"rate": keys.pop("rate")}}
        described.append({"name": name, "profile": folder / f"{name}.json", "traffic": traffic, **keys})
    return build(PackConfig, {"duration_s": 20, "models": described, **more}, "test")


def told_of(config: PackConfig) -> dict[str, Any]:
    return pack(config, RecordingReporter())


def world_of(config: PackConfig, replicas: Sequence[int]) -> World:
    subjects = tuple(Subject.of(model, config.duration_s) for model in config.models)
    return World(config, subjects, law_of(config.gpu, [one.profile for one in subjects]), tuple(replicas))


def regular(folder: Path, name: str, gap_s: float, seconds: float) -> Path:
    """A trace of arrivals so far apart."""
    lines = "".join(f"{k * gap_s:.6f}\n" for k in range(int(seconds / gap_s)))
    (folder / f"{name}.csv").write_text(lines)
    return folder / f"{name}.csv"


def test_beside_a_model_that_is_always_busy_a_batch_takes_the_measured_factor(tmp_path: Path):
    """`busy` has a batch of 100 ms every 101 ms; `rare` has one of 4 ms now and then, nearly always beside it."""
    models: dict[str, dict[str, Any]] = {
        "busy": {"batch_s": 0.1, "rate": 1, "target_ms": 1000},
        "rare": {"batch_s": 0.004, "rate": 2, "target_ms": 1000},
    }
    alone, turns, given = {}, {}, {}
    for found, gpu in ((alone, None), (turns, {}), (given, {"interference": [1.0, 1.5]})):
        config = config_of(tmp_path, models, gpu=gpu or {})
        traces = [regular(tmp_path, "busy", 0.101, 20), regular(tmp_path, "rare", 0.617, 20)]
        world = world_of(config, (1, 1))
        subjects = tuple(
            Subject.of(
                one.config.model_copy(update={"traffic": one.config.traffic.model_validate({"trace": trace})}), 20
            )
            for one, trace in zip(world.subjects, traces, strict=True)
        )
        world = replace(world, subjects=subjects)
        packing = [frozenset({0}), frozenset({1})] if gpu is None else [frozenset({0, 1})]
        found.update({m: one.latency_s.middle for m, one in world.look(packing).held.items()})
    assert alone[1] == pytest.approx(0.004)
    assert turns[1] == pytest.approx(2 * 0.004)
    assert given[1] == pytest.approx(1.5 * 0.004)


def test_models_that_take_turns_fill_gpus_as_their_work_says(tmp_path: Path):
    """Four models of 0.4 each: never three on a GPU (1.2), whatever their targets."""
    models = {f"m{k}": {"batch_s": 0.01, "rate": 40, "target_ms": 2000} for k in range(4)}
    told = told_of(config_of(tmp_path, models))
    assert told["law"] == {"factors": (1.0, 2.0, 3.0, 4.0), "source": "assumed", "most": 4}
    assert [len(gpu["models"]) for gpu in told["gpus"]] == [2, 2]
    assert (told["separate_gpus"], told["holds"]) == (4, True)
    assert all(model["work"] == pytest.approx(0.4, rel=0.1) for model in told["models"])
    assert all(0.5 < gpu["utilisation"] <= 1 for gpu in told["gpus"])


def test_a_tight_target_keeps_a_model_alone_and_the_pair_says_why(tmp_path: Path):
    models = {
        "tight": {"batch_s": 0.004, "rate": 40, "target_ms": 9},
        "slow": {"batch_s": 0.010, "rate": 30, "target_ms": 100},
        "small": {"batch_s": 0.002, "rate": 5, "target_ms": 100},
    }
    told = told_of(config_of(tmp_path, models))
    pairs = {tuple(pair["models"]): pair for pair in told["pairs"]}
    pair = pairs["tight", "slow"]
    assert pair["reason"] == "contention"
    assert pair["held"]["tight"]["latency_ms"]["high"] > 9
    assert (pair["held"]["tight"]["holds"], pair["held"]["slow"]["holds"]) == (False, True)
    assert pairs["slow", "small"]["reason"] is None
    assert len(told["gpus"]) == 2
    assert all(model["packed"]["holds"] for model in told["models"])


def test_memory_that_does_not_suffice_is_refused_and_memory_that_nobody_knows_is_not_a_number(tmp_path: Path):
    quiet = {"batch_s": 0.001, "rate": 5, "target_ms": 100}
    models = {"a": {**quiet, "memory_gib": 45}, "b": {**quiet, "memory_gib": 36}, "unknown": quiet}
    told = told_of(config_of(tmp_path, models, gpu={"memory_gib": 80}))
    pairs = {tuple(pair["models"]): (pair["reason"], pair["memory_gib"]) for pair in told["pairs"]}
    assert pairs == {("a", "b"): ("memory", 81.0), ("a", "unknown"): (None, None), ("b", "unknown"): (None, None)}
    assert len(told["gpus"]) == 2
    assert {gpu["memory_gib"] for gpu in told["gpus"]} <= {None, 45.0, 36.0}
    assert [model["memory_gib"] for model in told["models"]] == [45.0, 36.0, None]
    with pytest.raises(ConfigError, match=r"'a' takes 45\.0 GiB, and may have 40\.0"):
        told_of(config_of(tmp_path, models, gpu={"memory_gib": 40}))
    given = {**models, "unknown": {**quiet, "gpu_memory_gib": 50}}
    assert len(told_of(config_of(tmp_path, given, gpu={"memory_gib": 80}))["gpus"]) == 3


def test_a_model_that_needs_two_gpus_has_a_replica_on_each_and_its_requests_are_divided(tmp_path: Path):
    models = {
        "large": {"batch_s": 0.01, "rate": 130, "target_ms": 60},
        "b": {"batch_s": 0.001, "rate": 5, "target_ms": 60},
    }
    config = config_of(tmp_path, models)
    told = told_of(config)
    large = told["models"][0]
    assert (large["replicas"], large["work"]) == (2, pytest.approx(0.65, rel=0.1))
    assert sum("large" in gpu["models"] for gpu in told["gpus"]) == len(told["gpus"]) == 2
    assert told["separate_gpus"] == 3
    half = world_of(config, (2, 1)).look([frozenset({0})]).utilisation[0]
    assert half == pytest.approx(0.65, rel=0.1)


def test_nothing_is_packed_if_a_model_fails_on_gpus_of_its_own(tmp_path: Path):
    models = {"a": {"batch_s": 0.01, "rate": 5, "target_ms": 6}, "b": {"batch_s": 0.01, "rate": 5, "target_ms": 60}}
    told = told_of(config_of(tmp_path, models, max_replicas=2))
    assert (told["gpus"], told["holds"], told["pairs"]) == ([], False, [])
    assert told["models"][0]["searched"]["latency_ms"]["middle"] == pytest.approx(10)
    assert [model["searched"]["holds"] for model in told["models"]] == [False, True]
    assert told["models"][0]["replicas"] == 2


@dataclass(frozen=True)
class Fickle(World):
    """Any two models hold in the search; the first pair that is to be confirmed does not."""

    refused_pairs: list[Group]

    def look(self, packing: Sequence[Group], seed: int = 0) -> Look:
        looked = super().look(packing, seed)
        pairs = [group for group in packing if len(group) == 2]
        if seed == CONFIRMED and pairs:
            self.refused_pairs[:] = self.refused_pairs or pairs[:1]
        late = {m for pair in pairs if seed == CONFIRMED and pair in self.refused_pairs for m in pair}
        held = {m: one._replace(holds=m not in late) for m, one in looked.held.items()}
        return looked._replace(held=held, reason="contention" if late else None)


def test_a_group_that_is_not_confirmed_is_given_up(tmp_path: Path):
    models = {f"m{k}": {"batch_s": 0.001, "rate": 5, "target_ms": 100} for k in range(3)}
    world = world_of(config_of(tmp_path, models, gpu={"shares": 2}), (1, 1, 1))
    fickle = Fickle(world.config, world.subjects, world.law, world.replicas, [])
    search = Search(fickle, [fickle.look([frozenset({m})]) for m in range(3)], RecordingReporter())
    search.run()
    told = search.told()
    (refused,) = fickle.refused_pairs
    assert len(search.packing) == 2
    assert refused not in search.packing
    assert told["holds"]
    given_up = [pair["models"] for pair in told["pairs"] if not pair["confirmed"]]
    assert given_up == [[f"m{m}" for m in sorted(refused)]]
    (pair,) = (pair for pair in told["pairs"] if not pair["confirmed"])
    assert why_not(told, pair).endswith("ms, its target is 100, in runs that the search has not seen")


def test_seven_models_are_placed_by_first_fit(tmp_path: Path):
    models = {f"m{k}": {"batch_s": 0.001, "rate": 5, "target_ms": 100} for k in range(7)}
    told = told_of(config_of(tmp_path, models, duration_s=5))
    assert told["search"] == "first-fit decreasing"
    assert [len(gpu["models"]) for gpu in told["gpus"]] == [4, 3]
    assert len(told["pairs"]) == 21
    assert told["holds"]


def test_the_law_is_the_given_one_else_the_measured_one_of_all_models_else_that_of_the_mode():
    plain, measured = gpu_profile(0.01), gpu_profile(0.01, interference=(1.0, 1.2, 1.9))
    other = gpu_profile(0.01, interference=(1.0, 1.4))
    assert law_of(SharedGpu(interference=(1, 1.5)), [plain]) == Law((1, 1.5), "given", 2)
    assert law_of(SharedGpu(), [measured, other]) == Law((1.0, 1.4), "measured", 2)
    assert law_of(SharedGpu(), [measured, plain]) == Law((1.0, 2.0, 3.0, 4.0), "assumed", 4)
    assert law_of(SharedGpu(sharing="mig", shares=3), [measured, other]) == Law((1.0,), "assumed", 3)
    with pytest.raises(KisError, match="mps need `interference`"):
        law_of(SharedGpu(sharing="mps"), [plain])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gpu": {"sharing": "exclusive"}}, "name how it is shared"),
        ({"gpu": {"interference": [1.0]}}, "give one for two busy ones too"),
        ({"models": [{"name": "a", "profile": "p", "target_ms": 5}] * 2}, "two models have the same name"),
        ({"models": [{"name": "A b", "profile": "p", "target_ms": 5}] * 2}, "name"),
        ({"gpu": {"memory": 80}}, "did you mean 'memory_gib'"),
    ],
)
def test_a_wrong_configuration_is_refused_in_a_line(tmp_path: Path, changed: dict[str, Any], words: str):
    quiet = {"batch_s": 0.001, "rate": 5, "target_ms": 100}
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, {"a": quiet, "b": quiet}, **changed) if "models" not in changed else build(
            PackConfig, changed, "test"
        )


def test_what_cannot_be_simulated_is_refused_in_a_line(tmp_path: Path):
    quiet = {"batch_s": 0.001, "rate": 5, "target_ms": 100}
    config = config_of(tmp_path, {"a": quiet, "b": quiet})
    other = gpu_profile(0.001)
    other.model_copy(update={"device": Device(kind="gpu", name="other")}).write(tmp_path / "b.json")
    with pytest.raises(ConfigError, match=r"different devices \(a's is of flat, b's is of other\)"):
        told_of(config)
    other.model_copy(update={"device": Device(kind="cpu", name="flat")}).write(tmp_path / "b.json")
    with pytest.raises(ConfigError, match="'b': its profile is of a CPU"):
        told_of(config)
    heavy = config_of(tmp_path, {"a": {**quiet, "rate": 5500}, "b": quiet}, max_replicas=2)
    with pytest.raises(ConfigError, match="need 6 replicas or more: raise max_replicas"):
        told_of(heavy)


QUIET = {"batch_s": 0.002, "rate": 20, "target_ms": 100, "memory_gib": 3}


def typed(folder: Path, models: dict[str, dict[str, Any]], *arguments: str, **more: Any) -> tuple[Any, Path]:
    """The result of the command, and its folder."""
    config = config_of(folder, models, **more)
    (folder / "pack.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    out = folder / "out"
    told = ["pack", str(folder / "pack.yaml"), "--out", str(out), *arguments]
    return CliRunner().invoke(application(["pack"]), told), out


def test_the_command_leaves_a_table_a_page_and_what_can_be_applied(tmp_path: Path):
    models = {"a": QUIET, "b": {**QUIET, "deployment": "my-b"}, "large": {**QUIET, "memory_gib": 70, "replicas": 2}}
    result, out = typed(tmp_path, models, "--memory-gib", "75")
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "2 GPUs in place of 4 with a model on each: gpu-1 has a and large; gpu-2 has b and large." in printed
    told = json.loads((out / "packing.json").read_text())
    assert (told["simulated"], told["holds"]) == (True, True)
    assert all(gpu["memory_gib"] <= 75 for gpu in told["gpus"])
    component = yaml.safe_load((out / "placement/kustomization.yaml").read_text())
    assert component["kind"] == "Component"
    patches = {patch["target"]["name"]: yaml.safe_load(patch["patch"]) for patch in component["patches"]}
    assert [*patches] == ["triton-a", "my-b", "triton-large"]
    for model, patch in zip(told["models"], patches.values(), strict=True):
        there = [gpu["name"] for gpu in told["gpus"] if model["name"] in gpu["models"]]
        pod = patch["spec"]["template"]
        wanted = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert wanted["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == there
        (apart,) = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert apart["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
        assert patch["spec"]["replicas"] == len(there) == model["replicas"]
    most = max(len(gpu["models"]) for gpu in told["gpus"])
    plugin = yaml.safe_load((out / "placement/device-plugin.yaml").read_text())
    assert plugin["sharing"] == {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": most}]}}
    group = text_format.Parse(
        (out / "placement/large.pbtxt").read_text(), model_config_pb2.ModelConfig()
    ).instance_group
    numbers = [k for k, gpu in enumerate(told["gpus"]) if "large" in gpu["models"]]
    assert (group[0].count, list(group[0].gpus)) == (1, numbers)
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert write_report(out) == out / "report.html"
    assert (out / "report.html").read_text() == page
    again, _ = typed(tmp_path, models, "--memory-gib", "80")
    assert again.exit_code != 0
    assert "gpu.memory_gib differs" in str(again.exception)


def test_a_pair_that_may_not_share_is_said_with_its_reason(tmp_path: Path):
    models = {"a": {**QUIET, "memory_gib": 50}, "b": {**QUIET, "memory_gib": 40}}
    models["tight"] = {**QUIET, "batch_s": 0.01, "rate": 3, "target_ms": 14}
    models["busy"] = {**QUIET, "batch_s": 0.01, "rate": 50, "target_ms": 300}
    result, _ = typed(tmp_path, models, gpu={"memory_gib": 80})
    printed = " ".join(result.output.split())
    assert "Not together: a and b (memory: 90.0 GiB together, a GPU has 80)" in printed
    assert "Not together: tight and busy (contention: tight has P95 2" in printed
    assert "That was not measured: it is the rule of time_slicing." in printed


def test_what_fails_is_said_with_how_much_and_what_is_not_known_is_said(tmp_path: Path):
    unknown = {key: value for key, value in QUIET.items() if key != "memory_gib"}
    models = {"a": {**unknown, "target_ms": 1.5}, "b": unknown}
    result, out = typed(tmp_path, models, max_replicas=1, gpu={"memory_gib": 8})
    assert result.exit_code == 1
    printed = " ".join(result.output.split())
    assert "Nothing was packed. a does not hold P95 <= 1.5 ms on 1 GPU of its own: 2.0 (2.0 to 2." in printed
    assert "Not known is the GPU memory of a and b: it was not counted." in printed
    assert not (out / "placement").exists()
    assert "Nothing was packed" in (out / "report.html").read_text()


def test_a_trace_is_cut_at_the_end_of_the_run_and_that_is_said(tmp_path: Path):
    trace = {"trace": str(regular(tmp_path, "steady", 0.05, 60))}
    config = config_of(tmp_path, {"a": QUIET, "b": QUIET}, duration_s=10)
    models = [model.model_dump(mode="json", exclude_unset=True) for model in config.models]
    models[0]["traffic"] = trace
    (tmp_path / "pack.json").write_text(json.dumps({"duration_s": 10, "models": models}))
    typed_words = ["pack", str(tmp_path / "pack.json"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(application(["pack"]), typed_words)
    assert "the trace of a lasts 60 s, the run 10 s: it is cut" in result.output
    told = json.loads((tmp_path / "out/packing.json").read_text())
    assert told["models"][0]["rate_rps"] == pytest.approx(20)
    assert "Memory was not looked at: give gpu.memory_gib." in result.output
