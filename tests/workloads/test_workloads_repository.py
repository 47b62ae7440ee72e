"""A model repository says to Triton exactly what the service's configuration says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from workloads.catalog import CATALOG, CatalogError, DynamicBatching, ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions, model_config, weights_label, write_repository

EMULATED = BackendOptions(emulated=EmulatedProfile.linear(0.004, 0.001, 8))


def read_config(folder: Path, model: str) -> Any:
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def write_and_read(folder: Path, model: str, service: ServiceConfig, options: BackendOptions = EMULATED) -> Any:
    return read_config(write_repository(folder, find_model(model), service, options), model)


@pytest.mark.parametrize("model", sorted(CATALOG))
def test_every_model_of_the_catalog_gets_its_tensors_and_its_backend(tmp_path: Path, model: str) -> None:
    config = write_and_read(tmp_path, model, ServiceConfig(instances=2, max_batch_size=4))
    spec = find_model(model)
    assert (config.name, config.backend, config.max_batch_size) == (model, "python", 4)
    for written, expected in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert [(t.name, tuple(t.dims)) for t in written] == [(t.name, t.shape) for t in expected]
        names = [model_config_pb2.DataType.Name(t.data_type) for t in written]
        assert names == [f"TYPE_{t.datatype}" for t in expected]
    assert [(g.count, g.Kind.Name(g.kind)) for g in config.instance_group] == [(2, "KIND_CPU")]
    backend = (tmp_path / model / "1" / "model.py").read_text()
    assert "class TritonPythonModel" in backend


def test_batching_rules_reach_triton(tmp_path: Path) -> None:
    rules = DynamicBatching(preferred_batch_sizes=(2, 4), max_queue_delay_s=0.0025)
    batching = write_and_read(tmp_path, "emulated", ServiceConfig(dynamic_batching=rules)).dynamic_batching
    assert list(batching.preferred_batch_size) == [2, 4]
    assert batching.max_queue_delay_microseconds == 2500


def test_without_batching_there_is_no_block(tmp_path: Path) -> None:
    config = write_and_read(tmp_path, "emulated", ServiceConfig(dynamic_batching=None))
    assert not config.HasField("dynamic_batching")
    assert config.max_batch_size == 8


def test_a_queue_policy_is_written_only_with_a_limit(tmp_path: Path) -> None:
    # Any queue policy with a limit turns Triton's prefetching off, so an empty one must not appear.
    plain = write_and_read(tmp_path / "plain", "emulated", ServiceConfig())
    assert plain.HasField("dynamic_batching")
    assert not plain.dynamic_batching.HasField("default_queue_policy")
    rules = DynamicBatching(default_timeout_s=0.05, timeout_action="DELAY", max_queue_size=7)
    limited = write_and_read(tmp_path / "limited", "emulated", ServiceConfig(dynamic_batching=rules))
    policy = limited.dynamic_batching.default_queue_policy
    assert policy.default_timeout_microseconds == 50_000
    assert policy.TimeoutAction.Name(policy.timeout_action) == "DELAY"
    assert policy.max_queue_size == 7


def test_a_gpu_model_stays_on_one_gpu_and_the_emulated_one_on_the_cpu(tmp_path: Path) -> None:
    options = EMULATED.model_copy(update={"device": "gpu"})
    group = write_and_read(tmp_path, "resnet50", ServiceConfig(instances=3), options).instance_group[0]
    assert (group.Kind.Name(group.kind), list(group.gpus), group.count) == ("KIND_GPU", [0], 3)
    two = options.model_copy(update={"gpus": (1, 3)})
    group = write_and_read(tmp_path, "resnet50", ServiceConfig(instances=4), two).instance_group[0]
    assert (list(group.gpus), group.count) == ([1, 3], 2)  # Triton makes so many on each
    with pytest.raises(CatalogError, match="3 instances cannot be spread evenly over 2 GPUs"):
        write_repository(tmp_path, find_model("resnet50"), ServiceConfig(instances=3), two)
    group = write_and_read(tmp_path, "emulated", ServiceConfig(), options).instance_group[0]
    assert group.Kind.Name(group.kind) == "KIND_CPU"


def test_parameters_survive_quoting(tmp_path: Path) -> None:
    logs = tmp_path / 'a "quoted" folder'
    options = EMULATED.model_copy(update={"batch_log_dir": logs, "threads": 3, "replica": 2})
    parameters = write_and_read(tmp_path, "emulated", ServiceConfig(), options).parameters
    assert parameters["batch_log_dir"].string_value == str(logs)
    assert (parameters["threads"].string_value, parameters["replica"].string_value) == ("3", "2")
    assert EmulatedProfile(**json.loads(parameters["emulated_profile"].string_value)) == options.emulated


def test_a_backend_imports_nothing_of_ours_that_is_not_copied_beside_it(tmp_path: Path) -> None:
    write_repository(tmp_path, find_model("resnet50"), ServiceConfig(), BackendOptions())
    version = tmp_path / "resnet50" / "1"
    files = list(version.rglob("*.py"))
    assert len(files) > 5
    for file in files:
        modules = [
            node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        for module in modules:
            if module.startswith(("workloads", "loadgen", "testbed")):
                assert (version / module.replace(".", "/")).with_suffix(".py").exists(), (file, module)


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path) -> None:
    emulated = find_model("emulated")
    with pytest.raises(CatalogError, match="needs the profile to emulate"):
        write_repository(tmp_path, emulated, ServiceConfig(), BackendOptions())
    with pytest.raises(CatalogError, match="times for batches up to 8, max_batch_size is 16"):
        write_repository(tmp_path, emulated, ServiceConfig(max_batch_size=16), EMULATED)
    with pytest.raises(CatalogError, match="runs no network"):
        write_repository(tmp_path, emulated, ServiceConfig(), EMULATED.model_copy(update={"backend": "onnxruntime"}))
    with pytest.raises(CatalogError, match=r"no weights file .*absent\.pt"):
        write_repository(
            tmp_path, find_model("bert"), ServiceConfig(), BackendOptions(weights_file=tmp_path / "absent.pt")
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "fp16"}, "fp16 on a GPU only"),
        ({"precision": "bf16", "device": "gpu"}, "fp32 or tf32 or fp16 here, not for bf16"),
        ({"precision": "fp32", "device": "gpu", "tensorrt": True}, "TensorRT is asked for tf32 or fp16"),
        ({"precision": "fp16", "tensorrt": True}, "use the onnxruntime backend and device gpu"),
    ],
)
def test_a_precision_that_an_exported_network_cannot_have_is_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(CatalogError, match=said):
        write_repository(
            tmp_path, find_model("resnet50"), ServiceConfig(), BackendOptions(backend="onnxruntime", **options)
        )
    assert list(tmp_path.iterdir()) == []


def accelerator_of(model: str, **options: Any) -> tuple[str, dict[str, str]]:
    """What Triton reads of the block: the accelerator's name and its parameters."""
    chosen = BackendOptions(backend="onnxruntime", device="gpu", **options)
    text = model_config(find_model(model), ServiceConfig(max_batch_size=16), chosen)
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    (one,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    return one.name, dict(one.parameters)


@pytest.mark.parametrize(("precision", "use_tf32"), [("fp32", "0"), ("tf32", "1"), ("fp16", "1")])
def test_onnx_runtime_rounds_to_tf32_only_where_it_may(precision: str, use_tf32: str) -> None:
    assert accelerator_of("bert", precision=precision) == ("cuda", {"use_tf32": use_tf32})


def test_tensorrt_builds_one_engine_for_all_batch_sizes() -> None:
    name, parameters = accelerator_of("bert", precision="fp16", tensorrt=True)
    assert name == "tensorrt"
    assert parameters == {
        "precision_mode": "FP16",
        "trt_profile_min_shapes": "input_ids:1x128,attention_mask:1x128",
        "trt_profile_opt_shapes": "input_ids:16x128,attention_mask:16x128",
        "trt_profile_max_shapes": "input_ids:16x128,attention_mask:16x128",
    }
    assert accelerator_of("resnet50", precision="tf32", tensorrt=True)[1]["precision_mode"] == "FP32"


def test_the_weights_label_says_what_answers_are_worth(tmp_path: Path) -> None:
    file = tmp_path / "resnet.pt"
    file.write_bytes(b"weights")
    resnet = find_model("resnet50")
    assert weights_label(resnet, BackendOptions(seed=3)) == "random, seed 3: timing only"
    assert weights_label(resnet, BackendOptions(weights_file=file)) == "resnet.pt, sha256 9a129038d9a0"
    assert "emulated" in weights_label(find_model("emulated"), EMULATED)


def test_the_slowness_file_is_named_as_it_was_given_and_not_where_a_link_leads_today(tmp_path: Path) -> None:
    (tmp_path / "today").write_text("1.4")
    link = tmp_path / "factor"  # as a kubelet has a ConfigMap's: it leads elsewhere after each change
    link.symlink_to(tmp_path / "today")
    options = BackendOptions(emulated=EmulatedProfile(mean_s=(0.01,) * 8, slowness_file=link))
    parameters = write_and_read(tmp_path / "models", "emulated", ServiceConfig(), options).parameters
    assert json.loads(parameters["emulated_profile"].string_value)["slowness_file"] == str(link)


def test_requests_of_any_length_may_share_a_batch_where_there_are_buckets(tmp_path: Path) -> None:
    service = ServiceConfig(length_buckets=(32, 128))
    config = write_and_read(tmp_path, "bert", service, BackendOptions())
    assert [(tuple(one.dims), one.allow_ragged_batch) for one in config.input] == [((-1,), True)] * 2
    assert config.parameters["length_buckets"].string_value == "32,128"
    plain = write_and_read(tmp_path / "plain", "bert", ServiceConfig(), BackendOptions())
    assert [(tuple(one.dims), one.allow_ragged_batch) for one in plain.input] == [((128,), False)] * 2
    assert "length_buckets" not in plain.parameters


@pytest.mark.parametrize(
    ("model", "buckets", "options", "said"),
    [
        ("resnet50", (32,), {}, "have no length"),
        ("bert", (1024,), {}, "beyond what 'bert' takes: 512"),
        ("bert", (64, 128), {"backend": "onnxruntime"}, "only the python backend pads"),
    ],
)
def test_buckets_that_cannot_be_served_are_refused(
    tmp_path: Path, model: str, buckets: tuple[int, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(CatalogError, match=said):
        write_repository(tmp_path, find_model(model), ServiceConfig(length_buckets=buckets), BackendOptions(**options))
