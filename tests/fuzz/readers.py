"""Everything of kis that reads what others wrote: a name, a function of a file, and right inputs to begin with."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.fuzz import tables
from tests.fuzz.mutate import Form

ROOT = Path(__file__).parents[2]
CONFIGS, RESULTS, EXAMPLES = ROOT / "testbed" / "configs", ROOT / "results", ROOT / "testbed" / "examples"
Read = Callable[[Path], Any]


class Reader(NamedTuple):
    """One reader. kind: for the table; form: how its inputs are changed; name: of the file that it is given."""

    kind: str
    name: str
    form: Form
    read: Read
    seeds: Callable[[], list[bytes]]
    file: str = "input"


def readers() -> dict[str, Reader]:
    """By `kind/name`."""
    made = [
        *traces(),
        *configs(),
        *profiles(),
        *policies(),
        *run_folders(),
        *archives(),
        *pages(),
        *servers(),
        *connections(),
        *manifests(),
        *journals(),
        *requests(),
        *typed(),
    ]
    return {f"{reader.kind}/{reader.name}": reader for reader in made}


# --- traces


def traces() -> Iterator[Reader]:
    """Each format by its name, and found by its signs; and what `kis traffic` computes of it."""
    from loadgen.traces import FORMATS

    found = {name: [text.encode() for text in texts] for name, texts in _trace_texts().items()}
    everything = [text for texts in found.values() for text in texts]
    yield Reader(
        "traces", "any", "text", functools.partial(_trace, None), lambda: [*everything, gzip.compress(everything[0])]
    )
    for name in sorted(FORMATS.known()):
        form: Form = "jsonl" if name in ("json_lines", "nginx_json", "vegeta", "mooncake") else "text"
        form = "json" if name in ("otlp", "prometheus") else form
        seeds = functools.partial(list[bytes], found.get(name) or everything)
        yield Reader("traces", name, form, functools.partial(_trace, name), seeds)


def _trace(name: str | None, file: Path) -> Any:
    from loadgen.traces import read_recorded, read_trace, reading
    from testbed.config import TraceConfig
    from testbed.pipeline.described import described

    reading._read.cache_clear()
    columns: list[dict[str, Any]] = [
        {},
        {"spread": True},
        {"max_gap_s": 5.0},
        {"unit": "ms"},
        {"column": "a.id"},
        {"where": {"Model": "GPT-4"}},
    ]
    settings = columns[max(0, file.stat().st_size % 12 - 6)] | ({} if name is None else {"format": name})
    recorded = read_recorded(file, **settings)
    described(recorded, TraceConfig(trace=file, **settings))
    return recorded, read_trace(file, "m", speed_up=2.0, keep=0.5, **settings)


def _trace_texts() -> dict[str, list[str]]:
    tests = importlib.import_module("tests.loadgen.test_loadgen_trace_formats")
    return {
        "azure": [tests.AZURE, tests.AZURE_2025, tests.OTHER_ZONE],
        "burstgpt": [tests.BURSTGPT],
        "azure_functions_2021": [tests.FUNCTIONS],
        "azure_functions_2019": [tests.MINUTES],
        "k6": [tests.K6, tests.K6_JSON],
        "vegeta": [tests.VEGETA],
        "access_log": [tests.NGINX, tests.APACHE, tests.NGINX_KEYS, tests.INGRESS],
        "envoy": [tests.ENVOY],
        "otlp": [json.dumps(tests.SPANS)],
        "prometheus": [json.dumps(tests.RATES)],
        "csv": [tests.SEMICOLONS, tests.QUOTED, tests.SAMPLES],
        "json_lines": [tests.JSON],
        "nginx_json": [tests.NGINX_JSON],
        "dated_log": [tests.ALB, tests.IIS, tests.LOGGING],
        "mooncake": [tests.MOONCAKE],
        "timestamps": [tests.DATES, "0\n0.5\n1\n1.5\n", "1700000000123\n1700000000223\n"],
        "perf_analyzer": ["1000\n2000\n500\n"],
        "counts": ["timestamp,count\n0,5\n60,3\n120,0\n180,9\n"],
        "rates": ["timestamp,rps\n0,5.5\n60,3\n120,0\n180,9.25\n"],
    }


# --- configurations


def configs() -> Iterator[Reader]:
    """A reader for each kind that ships; its seeds are all shipped files of that kind."""
    for (module, name), files in _SHIPPED.items():
        kind = getattr(importlib.import_module(module), name)
        yield Reader(
            "configs",
            name,
            "yaml",
            functools.partial(_config, kind),
            functools.partial(_config_seeds, kind, files),
            "input.yaml",
        )
    yield Reader("configs", "flags", "text", _flags, lambda: [text.encode() for text in _FLAGS])


_SHIPPED = {
    ("testbed.config", "CalibrateConfig"): ("default", "quick", "golden-emulated", "bert-lengths", "golden-sharing"),
    ("testbed.config", "ServeConfig"): ("serve-emulated",),
    ("testbed.config", "ReplayConfig"): (),
    ("testbed.config", "MeasureConfig"): (),
    ("testbed.config", "SimulateConfig"): (),
    ("testbed.pipeline.cluster_config", "ClusterRunConfig"): ("cluster", "cluster-nodes"),
    ("testbed.simulation.cluster.config", "ClusterConfig"): ("clusters/emulated", "clusters/node-groups"),
    ("testbed.pipeline.evaluate_config", "EvaluateConfig"): ("evaluate", "evaluate-azure"),
    ("testbed.pipeline.experiment_config", "ExperimentConfig"): ("experiment", "drift"),
    ("testbed.pipeline.tune_config", "TuneConfig"): ("tune", "tune-azure"),
    ("testbed.pipeline.benchmark_config", "BenchmarkConfig"): ("benchmark",),
    ("testbed.pipeline.adaptation_config", "AdaptRunConfig"): ("adaptation",),
    ("testbed.adaptation.settings", "AdaptConfig"): ("adapt-controller",),
    ("testbed.pipeline.devices_config", "DevicesConfig"): ("devices",),
    ("testbed.pipeline.capacity_config", "PlanConfig"): (),
    ("testbed.pipeline.service_tuning_config", "TuneServiceConfig"): (),
    ("testbed.kiscaler.train_config", "TrainConfig"): ("train", "train-corrected"),
    ("testbed.controller.config", "ControllerConfig"): ("controller",),
    ("testbed.controller.config", "BudgetControllerConfig"): ("controller-budget",),
    ("testbed.adapter.config", "AdapterConfig"): ("adapter",),
    ("testbed.activator.config", "ActivatorConfig"): ("activator",),
    ("testbed.pipeline.studies.rate_sweep", "RateSweep"): ("rate-sweep",),
}
_BARE = {
    "ReplayConfig": {
        "traffic": {"pattern": "ramp", "parameters": {"low": 1}},
        "shapes": {"x": [1, 2]},
        "inputs": {"x": "0..1"},
    },
    "MeasureConfig": {
        "serve": {"model": "resnet50"},
        "traffic": {"trace": "a.csv", "rate_interval_s": 1, "rate_factor": 2},
    },
    "SimulateConfig": {"profile": "testbed/examples/emulated.json", "service": {"replicas": 2}},
    "PlanConfig": {"profile": "testbed/examples/emulated.json", "target_ms": 100},
    "TuneServiceConfig": {"models": ["m"], "target_ms": 100},
}
_FLAGS = ("[1, 2]", "{a: 1}", "1,2", "spike=200", "1e3", "true", "null", "x", "[1, {a: [2]}]", "a=b=c")


def _config(kind: Any, file: Path) -> Any:
    """Read, and written as it is kept beside results."""
    from testbed.config_file import load_config

    read = load_config(file, kind)
    read.model_dump_json()
    return read


def _config_seeds(kind: Any, files: tuple[str, ...]) -> list[bytes]:
    from testbed.config_file import _read

    whole = [CONFIGS / f"{name}.yaml" for name in files]
    texts = [json.dumps(_read(file, (), kind)).encode() for file in whole]  # with what they extend
    raw = [file.read_bytes() for file in whole if b"extends" not in file.read_bytes()]
    return [*texts, *raw] or [json.dumps(_BARE[kind.__name__]).encode()]


def _flags(file: Path) -> Any:
    from testbed.cli.flags import _list_of, _mapping_of, plain
    from testbed.cli.study import _changed
    from testbed.config import TrafficConfig
    from testbed.config_file import FLAGS, build

    text = as_typed(file)
    if "=" in text:
        return build(TrafficConfig, {"parameters": _mapping_of("--set", [text])}, FLAGS)
    _changed(f"rates={text}")
    return build(TrafficConfig, {"duration_s": plain(text), "where": {"a": _list_of([text])}}, FLAGS)


def as_typed(file: Path) -> str:
    """As a shell gives it to a program: no zeros, and what is no text as surrogates."""
    return file.read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape")


# --- profiles and policies


def profiles() -> Iterator[Reader]:
    """Calibration profiles."""
    from testbed.calibration.profile import ServiceProfile

    def seeds() -> list[bytes]:
        return [_short_profile(EXAMPLES / name) for name in ("emulated.json", "resnet50-h200-fp16.json")]

    def read(file: Path) -> Any:
        profile = ServiceProfile.read(file)
        _ = (profile.misfit, profile.largest_batch)
        return profile

    yield Reader("profiles", "profile", "json", read, seeds, "profile-m.json")


def _short_profile(file: Path) -> bytes:
    """With few quantiles: what is small is changed and read a hundred times as fast."""
    profile = json.loads(file.read_bytes())
    for level in profile["overhead"]["levels"]:
        for name in [name for name in level if name.endswith("quantiles_s") and level[name]]:
            level[name] = level[name][::100] + level[name][-1:]
    profile["overhead"]["levels"] = profile["overhead"]["levels"][:3]
    noise = profile["service_time"]["noise_quantiles"]
    profile["service_time"]["noise_quantiles"] = [*noise[::100], 2.0]
    return json.dumps(profile).encode()


def policies() -> Iterator[Reader]:
    """The two files of a learned policy."""
    folder = EXAMPLES / "kiscaler"
    network, described = (folder / "policy.onnx").read_bytes(), (folder / "policy.json").read_bytes()

    def of_json(file: Path) -> Any:
        from testbed.autoscaling.policies.learned import read_policy

        (file.parent / "policy.onnx").write_bytes(network)
        return read_policy(file.parent / "policy.onnx")

    def of_network(file: Path) -> Any:
        """policy.json is made to fit, as whoever made the network would."""
        import numpy as np

        from testbed.autoscaling.policies.learned import Learned, _loaded

        _loaded.cache_clear()
        told = json.loads(described) | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        file.with_suffix(".json").write_text(json.dumps(told))
        policy = Learned(file, replica_capacity_rps=100, latency_target_s=0.1, provisioning_delay_s=5, max_replicas=8)
        return policy.change(np.ones(len(told["features"]), np.float32))

    yield Reader("policies", "json", "json", of_json, lambda: [described], "policy.json")
    yield Reader("policies", "onnx", "onnx", of_network, lambda: [network], "policy.onnx")


# --- run folders


def run_folders() -> Iterator[Reader]:
    """Each file of a run's folder in turn, the others as they should be: read by a report, and by `kis watch`."""
    for name in ("run.json", "requests.parquet", "schedule.parquet", "metrics.parquet", "batches.parquet"):
        form: Form = "json" if name.endswith("json") else "parquet"
        yield Reader("run folders", name, form, _run, functools.partial(_of_run, name), name)
    watched = {
        **{"run.json": "json", "verdict.json": "json", "raw/job.json": "json", "raw/client-0.json": "json"},
        **{"raw/metrics.jsonl": "jsonl", "controller.jsonl": "jsonl", "raw/rows-0.arrows": "bytes"},
        **{"progress.json": "json", "experiment.json": "json", "config.json": "json", "requests.parquet": "parquet"},
    }
    for name, its in watched.items():
        read = functools.partial(_watched, name)
        yield Reader(
            "run folders", f"watched-{name.replace('/', '-')}", its, read, functools.partial(_of_watched, name)
        )
    yield Reader("run folders", "samples", "jsonl", _samples, functools.partial(_of_watched, "raw/metrics.jsonl"))
    yield Reader("run folders", "device_times", "json", _device_times, lambda: [_device_json()], "device_times.json")
    yield Reader("run folders", "batch-files", "bytes", functools.partial(_backend, "bin"), lambda: [bytes(range(256))])
    yield Reader(
        "run folders", "device-files", "bytes", functools.partial(_backend, "device"), lambda: [bytes(range(240)) * 2]
    )
    yield Reader("run folders", "scaling-log", "parquet", _scaling_log, lambda: [_scaling_bytes()], "hpa.parquet")
    yield Reader(
        "run folders", "endpoints", "json", _endpoints, lambda: [b'{"endpoints": ["127.0.0.1:8000", "[::1]:80"]}']
    )


@functools.cache
def _run_files() -> dict[str, bytes]:
    """A run of some twenty requests."""
    from testbed.measurement.metric_log import MetricLog
    from tests.reporting.synthetic_runs import RESNET, arrivals, serve, write_run
    from workloads.catalog import ServiceConfig

    sent_ns = arrivals("constant", 5, 4, 3)
    completed_s, batches = serve(sent_ns / 1e9, RESNET, ServiceConfig(), 3, 1.0)
    labels = {"model": "resnet50", "endpoint": "a:1", "batch_size": "2"}
    rows = [
        (time_s * 10**9, "triton", name, labels, float(time_s), "count")
        for time_s in range(3)
        for name in ("batch_executions", "batch_compute_seconds", "nv_inference_count")
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_run(
            Path(folder),
            "run-1",
            sent_ns,
            completed_s,
            batches=batches,
            metrics=MetricLog.from_rows(rows),
            duration_s=4.0,
        )
        return {file.name: file.read_bytes() for file in Path(folder, "run-1").iterdir() if file.is_file()}


def _of_run(name: str) -> list[bytes]:
    return [_run_files()[name]]


def _run(file: Path) -> Any:
    from testbed.reporting.loading import batch_counts, load_run, utilisation

    put(file.parent, _run_files(), but=file.name)
    run = load_run(file.parent)
    return run, utilisation(run), batch_counts(run), run.requests.counts()


def put(folder: Path, files: dict[str, bytes], but: str) -> None:
    """The files that are there beside the input."""
    for name, content in files.items():
        if name != but:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


@functools.cache
def _watched_files() -> dict[str, bytes]:
    from loadgen.job import ReplayJob
    from loadgen.row_stream import ROWS, Row, _encode
    from loadgen.validity import ClientFigures

    files = dict(_run_files())
    told = json.loads(files["run.json"])
    manifest = {**told, "kind": "real", "state": "running", "verdict": None}
    job = {
        "schedule": "schedule.parquet",
        "run_dir": ".",
        "endpoints": ["127.0.0.1:8000"],
        "requests": {},
        "timeout_s": 5.0,
    }
    client = {"worker": 0, "workers": 1, "pid": 1, "start_unix_ns": 1_700_000_000 * 10**9, "start_monotonic_ns": 10**12}
    samples = [["deployment", f"{name}_replicas", {"a": "b"}, 2.0, "count"] for name in ("spec", "ready")]
    samples += [["triton", "nv_inference_pending_request_count", {"model": "m"}, 3.0, "count"]]
    lines = [json.dumps([10**12 + place * 10**9, samples]) for place in range(3)]
    turn = {"time_s": 1_700_000_001.5, "spec_replicas": 2, "wanted": 3, "replicas": 3, "acted": True, "reason": "busy"}
    rows = [Row(0, "a:1", 5, 9_000_000, 0, None), Row(1, "a:1", 6, None, 1, "no"), Row(-1, None, 10**9, None, 0, None)]
    progress = {"phase": "run", "share": 0.5, "begun_unix_s": 1.0, "phase_unix_s": 2.0, "pid": 1, "host": "elsewhere"}
    experiment = {
        "traffic": {"a": {"duration_s": 5}},
        "policies": {"hpa": {}},
        "repeats": 2,
        "cluster": {"models": [{}]},
    }
    ReplayJob.model_validate(job)
    ClientFigures.model_validate(client)
    return {
        **{name: files[name] for name in ("schedule.parquet", "requests.parquet")},
        "run.json": json.dumps(manifest).encode(),
        "verdict.json": b'{"valid": true, "reasons": [], "figures": {"lag_p99_ms": 0.5}}',
        "raw/job.json": json.dumps(job).encode(),
        "raw/client-0.json": json.dumps(client).encode(),
        "raw/metrics.jsonl": ("\n".join(lines) + "\n").encode(),
        "controller.jsonl": (json.dumps(turn) + "\n").encode() * 2,
        "raw/rows-0.arrows": ROWS.serialize().to_pybytes() + _encode(rows),
        "progress.json": json.dumps(progress).encode(),
        "experiment.json": json.dumps(experiment).encode(),
        "config.json": (RESULTS / "golden-emulated" / "config.json").read_bytes(),
    }


def _of_watched(name: str) -> list[bytes]:
    return [_watched_files()[name]]


def _watched(name: str, file: Path) -> Any:
    """A folder that others write into, in the terminal of `kis watch`."""
    from rich.console import Console

    from testbed.cli.watched_frame import drawn
    from testbed.pipeline.watched import FolderSource, source_of

    folder = file.parent / "watched"
    put(folder, _watched_files(), but=name)
    shutil.copy(file, folder / name)
    source = source_of(str(folder), None, "default", None)
    assert isinstance(source, FolderSource)
    frame = source.frame()
    Console(file=io.StringIO(), width=80).print(drawn(frame))
    return frame


def _samples(file: Path) -> Any:
    from testbed.measurement.metric_log import MetricLog
    from testbed.measurement.sample_stream import read_samples

    log = MetricLog.from_rows(read_samples(file, 10**12))
    return log, log.executed("m")


def _device_json() -> bytes:
    names = ("backend_s", "copy_in_s", "network_s", "copy_out_s", "rest_s", "network_std_s", "rest_std_s")
    return json.dumps({"sizes": [{"batch_size": 1, "batches": 3, **dict.fromkeys(names, 0.25)}]}).encode()


def _device_times(file: Path) -> Any:
    from testbed.measurement.device_times import DeviceTimes

    return DeviceTimes.read(file.parent)


def _backend(ending: str, file: Path) -> Any:
    from testbed.measurement.batch_files import read_batch_files
    from testbed.measurement.device_times import read_device_files

    folder = file.parent / "logs" / "replica-0"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder / f"m_0.{ending}")
    read = read_batch_files(folder.parent, 5) if ending == "bin" else read_device_files(folder.parent, -(2**62), 2**62)
    (folder / f"m_0.{ending}").unlink()
    return read


@functools.cache
def _scaling_bytes() -> bytes:
    from testbed.archive.folder import unpack_logs

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(RESULTS / "golden-evaluation-azure" / "archive", Path(folder, "archive"))
        unpack_logs(Path(folder))
        return min(
            (file for file in Path(folder).glob("logs/*/*.parquet")), key=lambda it: it.stat().st_size
        ).read_bytes()


def _scaling_log(file: Path) -> Any:
    from testbed.measurement.scaling_log import ScalingLog, histogram_of

    log = ScalingLog.read(file)
    return log, [histogram_of(log.run(seed)) for seed in log.seeds]


def _endpoints(file: Path) -> Any:
    from loadgen.endpoints import endpoint_of, read_endpoints

    return [endpoint_of(each) for each in read_endpoints(file)]


# --- archives


def archives() -> Iterator[Reader]:
    """Each file of an archive in turn, the others as they should be, unpacked."""
    for name in ("schedules", "requests", "batches", "metrics", "files"):
        read = functools.partial(_unpacked, name)
        yield Reader("archives", name, "parquet", read, lambda name=name: [_archive()[f"{name}.parquet"]])
    yield Reader("archives", "logs", "parquet", _unpacked_logs, lambda: [_logs_archive()])


@functools.cache
def _archive() -> dict[str, bytes]:
    from testbed.archive.folder import write_archive

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "runs", "run-1")
        put(run, _run_files(), but="")
        told = json.loads((run / "run.json").read_text()) | {"kind": "real", "state": "complete"}
        (run / "run.json").write_text(json.dumps(told))
        return {file.name: file.read_bytes() for file in write_archive(Path(folder)).iterdir()}


@functools.cache
def _logs_archive() -> bytes:
    from testbed.archive.folder import write_archive

    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), {"logs/azure/hpa.parquet": _scaling_bytes()}, but="")
        return (write_archive(Path(folder)) / "logs.parquet").read_bytes()


def _unpacked(name: str, file: Path) -> Any:
    from testbed.archive.folder import unpack

    return _in_results(file, f"{name}.parquet", _archive(), unpack)


def _unpacked_logs(file: Path) -> Any:
    from testbed.archive.folder import unpack_logs

    return _in_results(file, "logs.parquet", {}, unpack_logs)


def _in_results(file: Path, name: str, others: dict[str, bytes], unpack: Read) -> None:
    """Nothing may be written beside the folder."""
    outside = file.parent / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    folder = outside / "results"
    put(folder / "archive", others | {name: file.read_bytes()}, but="")
    try:
        unpack(folder)
    finally:
        beside = [path.name for path in outside.iterdir() if path != folder]
        links = [path.name for path in folder.rglob("*") if path.is_symlink()]
    assert not beside, f"written beside the results folder: {beside}"
    assert not links, f"links in the results folder: {links}"


# --- pages and answers of servers


def pages() -> Iterator[Reader]:
    """Metrics pages of Triton, of a controller and of an activator."""
    triton = importlib.import_module("tests.measurement.test_triton_metrics").PAGE.encode()
    controller = b"".join(
        b'# TYPE kis_controller_%s gauge\nkis_controller_%s{deployment="a",policy="hpa"} 3.0\n' % (name, name)
        for name in (
            b"wanted_replicas",
            b"spec_replicas",
            b"ready_replicas",
            b"pending_pods",
            b"silent_pods",
            b"acting",
        )
    )
    activator = b"".join(
        b'# TYPE %s %s\n%s{deployment="a"} 5\n' % (name, kind, name)
        for name, kind in ((b"kis_activator_requests_total", b"counter"), (b"kis_activator_held_connections", b"gauge"))
    )
    yield Reader("metrics pages", "triton", "text", _triton_page, lambda: [triton])
    yield Reader("metrics pages", "controller", "text", _controller_page, lambda: [controller])
    yield Reader("metrics pages", "activator", "text", _activator_page, lambda: [activator])


def served(file: Path) -> str:
    """As a client reads a page."""
    from testbed.errors import ServingError

    try:
        return file.read_bytes().decode()
    except ValueError as error:
        raise ServingError(str(error)) from None  # as triton_metrics._get does


def _triton_page(file: Path) -> Any:
    from testbed.measurement import triton_metrics

    text = served(file)
    rows = triton_metrics.parse_metrics(text, "resnet50", "a:1")
    with replaced(triton_metrics, "_get", lambda *_: text):
        gauges = triton_metrics.read_gauges("http://a:1/metrics", "resnet50")
    return rows, gauges.waiting


def _controller_page(file: Path) -> Any:
    from testbed.pipeline import watched

    def get(_: object, url: str) -> str:
        if not url.endswith("/metrics"):
            raise OSError("not there")
        return file.read_bytes().decode()

    with replaced(watched.PageSource, "_get", get):
        return watched.PageSource("http://a:1").frame()


def _activator_page(file: Path) -> Any:
    from testbed.autoscaling.live import activator

    text = served(file)
    with replaced(activator, "read_page", lambda url, timeout_s: text):
        return activator.ActivatorReader("http://a:1", "a").read()


class replaced:  # noqa: N801 - as contextlib's
    """An attribute of a module for the length of a block."""

    def __init__(self, module: Any, name: str, value: Any) -> None:
        self._place, self._value = (module, name), value

    def __enter__(self) -> None:
        self._before = getattr(*self._place)
        setattr(*self._place, self._value)

    def __exit__(self, *_: object) -> None:
        setattr(*self._place, self._before)


def servers() -> Iterator[Reader]:
    """What Triton answers of a model (statistics, configuration, metadata); the decision beside a controller's page."""
    tests = importlib.import_module("tests.measurement.test_triton_metrics")
    yield Reader("server answers", "statistics", "json", _statistics, lambda: [json.dumps(tests.STATISTICS).encode()])
    yield Reader("server answers", "model", "json", _model, lambda: [json.dumps(one).encode() for one in _MODELS])
    yield Reader(
        "server answers", "decision", "json", _decision, lambda: [b'{"time_s": 1.5, "spec_replicas": 2, "acted": true}']
    )
    yield Reader("server answers", "selector", "text", _selector, lambda: [b"app=web,tier in (a, b),!old", b"a!=b"])


_MODELS = (
    {
        "metadata": {
            "name": "toy",
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "t", "datatype": "BYTES", "shape": [-1, 1]},
            ],
            "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1, 2]}],
        },
        "config": {
            "name": "toy",
            "max_batch_size": 8,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}, {"name": "t", "optional": True}],
            "instance_group": [{"kind": "KIND_GPU", "count": 2, "gpus": [0, 1]}],
            "dynamic_batching": {
                "preferred_batch_size": [4, 8],
                "max_queue_delay_microseconds": "500",
                "default_queue_policy": {
                    "timeout_action": "DELAY",
                    "default_timeout_microseconds": "5",
                    "max_queue_size": 4,
                },
                "priority_levels": "2",
            },
            "parameters": {"length_buckets": {"string_value": "32,64"}},
            "model_transaction_policy": {"decoupled": False},
        },
        "index": [{"name": "toy", "state": "READY"}],
    },
)


def _statistics(file: Path) -> Any:
    from testbed.measurement.triton_statistics import parse_statistics

    return parse_statistics(served(file), "resnet50")


class _Server:
    """Answers as Triton's client does."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers

    def get_model_metadata(self, model: str) -> Any:
        return self._answers["metadata"]

    def get_model_config(self, model: str) -> Any:
        return self._answers["config"]

    def get_model_repository_index(self) -> Any:
        return self._answers["index"]

    def close(self) -> None:
        pass


def _model(file: Path) -> Any:
    from loadgen import discovery
    from loadgen.discovery import DiscoveryError
    from testbed.serving.model_control import as_pbtxt, configured_as

    try:
        answers = json.loads(file.read_bytes())
        _ = answers["metadata"], answers["config"], answers["index"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DiscoveryError("no answers of a server") from None  # of this test, not of Triton
    with replaced(discovery.triton, "InferenceServerClient", lambda *_, **__: _Server(answers)):
        discovery.list_models("a:1")
        found = discovery.model_tensors("a:1", "toy", {"t": (1,)}, {"x": "0..1"})
    as_pbtxt(configured_as(answers["config"], found.service))
    return found


def _decision(file: Path) -> Any:
    from testbed.pipeline import watched

    with replaced(watched.PageSource, "_get", lambda *_: file.read_bytes().decode()):
        return watched.PageSource("http://a:1")._decision()


def _selector(file: Path) -> Any:
    from testbed.adapter.selectors import parse_selector

    return parse_selector(as_typed(file))


# --- connections through the activator


def connections() -> Iterator[Reader]:
    """What a client and a pod say, in pieces; a zero ends the client's part."""
    asked = b"POST /v2/models/m/infer HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"
    answered = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    headers = b"\0\0\x01\x01\x05\0\0\0\x01x"
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + headers
    texts = [asked + b"|" + answered, asked * 2 + b"|" + answered * 2, http2 + b"|" + headers * 2]
    yield Reader("connections", "activator", "bytes", _exchange, lambda: texts)


def _exchange(file: Path) -> Any:
    from testbed.activator.exchange import Exchange

    asked, _, answered = file.read_bytes().partition(b"|")
    exchange = Exchange()
    for size in (1, 7, 4096):
        begun = [exchange.from_client(asked[at : at + size]) for at in range(0, min(len(asked), 300 * size), size)]
        for at in range(0, min(len(answered), 300 * size), size):
            exchange.from_server(answered[at : at + size])
    return begun, exchange.at_rest, exchange.unanswered, exchange.may_be_told


# --- objects of Kubernetes


def manifests() -> Iterator[Reader]:
    """An autoscaler as it is in Git, and the policy that is built of it."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "triton"}
    pods = {"metric": {"name": "queue_time_ms"}, "target": {"type": "AverageValue", "averageValue": "500m"}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    rules = {
        "stabilizationWindowSeconds": 30,
        "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}],
        "tolerance": "50m",
    }
    hpa = {
        **{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}},
        "spec": {
            **{
                "scaleTargetRef": target,
                "minReplicas": 1,
                "maxReplicas": 8,
                "behavior": {"scaleUp": rules, "scaleDown": rules},
            },
            "metrics": [{"type": "Pods", "pods": pods}, {"type": "Resource", "resource": cpu}],
        },
    }
    v1 = {
        **hpa,
        "apiVersion": "autoscaling/v1",
        "spec": {"scaleTargetRef": target, "maxReplicas": 8, "targetCPUUtilizationPercentage": 60},
    }
    query = 'sum(rate(nv_inference_request_success{model="bert"}[30s]))'
    keda = {
        **{
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "a", "annotations": {"a": "b"}},
        },
        "spec": {
            **{"scaleTargetRef": target, "minReplicaCount": 1, "pollingInterval": 10},
            "triggers": [
                {"type": "prometheus", "metadata": {"query": query, "threshold": "10", "activationThreshold": "3"}},
                {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}},
            ],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": rules}}},
        },
    }
    prefix = "autoscaling.knative.dev/"
    notes = {
        "target": "5",
        "window": "60s",
        "panic-window-percentage": "10",
        "min-scale": "1",
        "scale-down-delay": "1m30s",
    }
    template = {
        "metadata": {"annotations": {prefix + name: value for name, value in notes.items()}},
        "spec": {"containerConcurrency": 5},
    }
    knative = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"template": template},
    }
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service"}, v1]}
    for name, bodies in {"hpa": [hpa, v1, listed], "keda": [keda], "knative": [knative]}.items():
        yield Reader(
            "manifests",
            name,
            "yaml",
            _manifest,
            lambda bodies=bodies: [json.dumps(body).encode() for body in bodies],
            "my.yaml",
        )


def _manifest(file: Path) -> Any:
    from testbed.autoscaling.build import build_policy

    return build_policy({"manifest": str(file)}, 8, None)


# --- journals, and what a study keeps to go on


def journals() -> Iterator[Reader]:
    """What a controller and an adaptation leave, line by line; rows of studies, trials, curves; JSON beside results."""
    golden = RESULTS / "golden-adaptation"
    lines = (golden / "adaptation.jsonl").read_bytes().splitlines(keepends=True)
    turn = {"time_s": 1.5, "spec_replicas": 2, "wanted": 3, "replicas": 3, "acted": True, "reason": "busy"}
    row = {"cell": {"rate_rps": 5.0}, "result": {"p95_ms": 3.5}}
    yield Reader("journals", "adaptation", "jsonl", _journal, lambda: [b"".join(lines[:6])])
    yield Reader("journals", "adaptation-folder", "jsonl", _adaptation, lambda: [b"".join(lines)])
    yield Reader(
        "journals",
        "intervals",
        "text",
        _intervals,
        lambda: [b"\n".join((golden / "plain.csv").read_bytes().splitlines()[:9])],
    )
    yield Reader("journals", "controller", "jsonl", _turns, lambda: [(json.dumps(turn) + "\n").encode() * 3])
    yield Reader("journals", "study-rows", "jsonl", _study_rows, lambda: [(json.dumps(row) + "\n").encode() * 3])
    yield Reader(
        "journals",
        "trials",
        "text",
        _trials,
        lambda: [b"target,slo_violation_rate,gpu_seconds\n5,0.01,300\n6,0.02,250\n"],
    )
    yield Reader("journals", "curve", "text", _curve, lambda: [_curve_seed()])
    yield Reader(
        "journals",
        "tuned",
        "json",
        _tuned,
        lambda: [b'{"chosen": "a", "policies": {"a": {"kind": "fixed", "replicas": 2}}}'],
    )
    yield Reader("journals", "kept-settings", "json", _kept, lambda: [_kept_seed()], "adapt.json")


def _journal(file: Path) -> Any:
    from testbed.adaptation.journal import read_journal

    return read_journal(file)


def _adaptation(file: Path) -> Any:
    """What `kis report` makes of a folder of `kis adapt` with that journal."""
    from testbed.pipeline.adaptation import summarise

    folder = file.parent / "adaptation"
    golden = RESULTS / "golden-adaptation"
    put(
        folder,
        {name: (golden / name).read_bytes() for name in ("adapt.json", "quiet.jsonl", "adapted.csv", "plain.csv")},
        but="",
    )
    shutil.copy(file, folder / "adaptation.jsonl")
    return summarise(folder)


def _intervals(file: Path) -> Any:
    from testbed.pipeline.adaptation import read_rows

    return read_rows(file)


def _turns(file: Path) -> Any:
    from testbed.pipeline.scalers import change_reasons

    folder = file.parent / "turns"
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / "controller.jsonl")
    return change_reasons(None, None, folder)  # type: ignore[arg-type]


def _study_rows(file: Path) -> Any:
    from testbed.grid_study import read_rows
    from testbed.pipeline.studies.rate_sweep import RateSweep

    folder = file.parent / "study"
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / "rows.jsonl")
    study = RateSweep(kind="rate-sweep", profile=EXAMPLES / "emulated.json", rates=(5.0, 6.0))
    return read_rows(study, folder)


def _trials(file: Path) -> Any:
    from testbed.pipeline.setting_search import Trials

    trials = Trials(file)
    return [trials.kept(number, {}) for number in range(len(trials.rows))]


def _curve_seed() -> bytes:
    file = next((RESULTS / "golden-learners").rglob("curve.csv"))
    return b"\n".join(file.read_bytes().splitlines()[:5]) + b"\n"


def _curve(file: Path) -> Any:
    from testbed.kiscaler.evaluation import read_curve

    return read_curve(file)


def _tuned(file: Path) -> Any:
    from testbed.autoscaling.build import build_policy

    return build_policy({"kind": "fixed", "tuned": str(file)}, 8, None)


def _kept_seed() -> bytes:
    return (RESULTS / "golden-adaptation" / "adapt.json").read_bytes()


def _kept(file: Path) -> Any:
    """A study goes on in a folder: its configuration is compared with what is kept there."""
    from testbed.config_file import load_config
    from testbed.pipeline.adaptation_config import AdaptRunConfig
    from testbed.study import remember

    settings = load_config(RESULTS / "golden-adaptation" / "adapt.json", AdaptRunConfig)
    remember(settings, file)
    return settings


# --- requests of a user's


def requests() -> Iterator[Reader]:
    """`--requests FILE`, `--input NAME=@FILE`."""
    whole = {
        "data": [
            {"x": [1, 2, 3, 4], "t": {"content": ["a"], "shape": [1]}},
            {"x": {"b64": "AQIDBAUGBwgJCgsMDQ4PEA=="}, "t": ["b"]},
        ]
    }
    yield Reader(
        "requests files",
        "requests",
        "json",
        _requests,
        lambda: [json.dumps(whole).encode(), json.dumps({"data": [whole["data"]]}).encode()],
    )
    yield Reader(
        "requests files",
        "json-values",
        "json",
        functools.partial(_values, ".json"),
        lambda: [b"[1, 2, 3, 4]", b'[["a"], ["b"]]'],
    )
    yield Reader("requests files", "npy-values", "bytes", functools.partial(_values, ".npy"), lambda: [tables.npy()])
    yield Reader("requests files", "bytes-values", "bytes", functools.partial(_values, ".bin"), lambda: [bytes(16)])


def _specs() -> tuple[Any, ...]:
    from workloads.catalog import TensorSpec

    return TensorSpec(name="x", datatype="FP32", shape=(4,)), TensorSpec(name="t", datatype="BYTES", shape=(1,))


def _requests(file: Path) -> Any:
    from loadgen.request_file import names_in, read_requests

    names_in(file)
    return read_requests(file, _specs())


_DATATYPES = ("FP32", "FP16", "BF16", "INT8", "UINT64", "BOOL", "BYTES", "INT64")


def _values(suffix: str, file: Path) -> Any:
    from workloads.catalog import TensorSpec
    from workloads.payloads import fitted, read_values

    renamed = file.with_suffix(suffix)
    shutil.copy(file, renamed)
    datatype = _DATATYPES[file.stat().st_size % len(_DATATYPES)]
    data = fitted(TensorSpec(name="x", datatype=datatype, shape=(-1,)), read_values(renamed, datatype))
    return data if suffix == ".json" else data.shape  # bytes and .npy are sent as they are: a NaN there is meant


# --- what is typed


def typed() -> Iterator[Reader]:
    """`--input`, `--shape` and `--policy`."""
    inputs = ("x=0..1", "x=5", "x=@file.npy", "x=true", "x=-3..7", "x=1.5..2.5")
    kinds = (
        "fixed:replicas=4",
        "hpa:metric=queue_time_ms,target=5",
        "keda:metric=requests_per_second,threshold=5",
        "knative:container_concurrency=5",
    )
    more = (
        "predictive:replica_capacity_rps=400,provisioning_delay_s=10",
        "ray_serve:target_ongoing_requests=2",
        "rule:replica_capacity_rps=5,latency_target_s=0.1,provisioning_delay_s=5",
    )
    metric = "{type: Pods, name: queue_time_ms, target_average_value_m: 5000}"
    whole = f"{{kind: hpa, spec: {{max_replicas: 8, metrics: [{metric}]}}}}"
    others = (
        "dynamo:replica_capacity_rps=5,latency_target_s=1",
        "llm_d:latency_target_s=1",
        "mpc:replica_capacity_rps=5,provisioning_delay_s=3",
        "a.yaml",
        "b.onnx:slo_penalty=5",
    )
    yield Reader("typed", "input", "text", _input, lambda: [text.encode() for text in inputs])
    yield Reader("typed", "shape", "text", _shape, lambda: [b"x:1,2", b"input_ids:128", b"a:b:-1"])
    yield Reader(
        "typed", "policy", "text", _policy, lambda: [text.encode() for text in (*kinds, *more, *others, whole)]
    )
    addresses = (b"127.0.0.1:8000", b"http://h:1", b"https://h/triton", b"[::1]:5", b"::1")
    yield Reader("typed", "address", "text", _address, lambda: list(addresses))
    formulas = (b"a + b / 2", b"a > 5 ? max(a, b) : median([a, b, 3])", b"count([a, b], # > 1.5) ?? 0")
    yield Reader("typed", "formula", "text", _formula, lambda: list(formulas))
    yield Reader("typed", "headers", "text", _headers, lambda: [b"# ours\nAuthorization: Bearer abc\nX-Id: 5\n"])


def _input(file: Path) -> Any:
    import numpy as np

    from loadgen.discovery import parse_values
    from workloads.catalog import TensorSpec
    from workloads.payloads import given_values

    text = as_typed(file)
    values = parse_values([text])
    datatype = _DATATYPES[len(text) % len(_DATATYPES)]
    return [
        given_values(TensorSpec(name=name[:9], datatype=datatype, shape=(-1, 2)), value, np.random.default_rng(0))
        for name, value in values.items()
    ]


def _shape(file: Path) -> Any:
    from loadgen.discovery import parse_shapes

    return parse_shapes([as_typed(file)])


def _policy(file: Path) -> Any:
    from testbed.autoscaling.build import build_policy
    from testbed.cli.options import policy_of

    text = as_typed(file)
    return build_policy(policy_of(text), 8, lambda time_s: 5.0)


def _formula(file: Path) -> Any:
    from testbed.autoscaling.formula import NilError, formula_of
    from testbed.errors import ConfigError

    try:
        return formula_of(as_typed(file), ("a", "b")).value({"a": 1.5, "b": 2.5})
    except (ValueError, NilError) as error:  # scaled_object makes one line of the first; the second is "no result"
        raise ConfigError(str(error)) from None


def _headers(file: Path) -> Any:
    from loadgen.access import Access

    return Access(header_files=(file,)).header_values()


def _address(file: Path) -> Any:
    from loadgen.endpoints import address, endpoint_of

    return endpoint_of(address(as_typed(file)))
