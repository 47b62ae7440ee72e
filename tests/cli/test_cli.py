"""`kis` as a user types it: help that teaches, and one line for each mistake."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from importlib import metadata, resources
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from rich.console import Console

from loadgen.client_limits import ClientLimits
from loadgen.request_log import RequestLog
from loadgen.validity import EXIT_INVALID, Verdict
from testbed.calibration.profile import ServiceProfile
from testbed.cli import main
from testbed.cli.console import console
from testbed.cli.main import COMMANDS
from testbed.cli.replay import show_run
from testbed.config import WHOLE_HPA
from testbed.run_dir import RunDir


class Done(NamedTuple):
    """What a command left: its exit status and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def kis(*arguments: str, cwd: Path | None = None) -> Done:
    """`kis ARGUMENTS` in this process: importing everything anew for each of them would take most of the time."""
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(chdir(cwd or Path.cwd()))
        stack.enter_context(patch.object(sys, "argv", ["kis", *arguments]))
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("kis")), "--help"], capture_output=True, text=True, check=True
    )
    assert "calibrate" in done.stdout


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    quantiles = [0.0004, 0.0005, 0.0008]
    level = {
        "replicas": 1,
        "instances": 1,
        "rate_rps": 10,
        "ingress_delay_quantiles_s": quantiles,
        "egress_delay_quantiles_s": quantiles,
        "requests": 10,
    }
    file = tmp_path / "profile-emulated.json"
    file.write_text(
        json.dumps(
            {
                "model": "emulated",
                "weights": "none",
                "device": {"kind": "emulated", "name": "by hand"},
                "service_time": {
                    "batch_size": [1, 2],
                    "mean_s": [0.005, 0.006],
                    "spread_s": [None, None],
                    "batches": [10, 10],
                    "noise_quantiles": [0.9, 1.0, 1.1],
                },
                "slow_phase": {"sigma": 0.0, "timescale_s": 1.0},
                "inter_batch_gap_s": 0.0,
                "overhead": {"window_s": 0.25, "levels": [level]},
            }
        )
    )
    return file


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_teaches_with_an_example(command: str) -> None:
    done = kis(command, "--help")
    assert done.returncode == 0
    assert f"kis {command}" in done.stdout.replace("\n", " ")


def test_a_simulated_run_is_left_with_the_files_of_a_real_one(tmp_path: Path, profile: Path) -> None:
    flags = ["--profile", str(profile), "--replicas", "2", "--duration", "5", "--out", "run"]
    done = kis("simulate", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    left = {file.name for file in (tmp_path / "run").iterdir()}
    logs = {"run.json", "schedule.parquet", "requests.parquet", "metrics.parquet", "batches.parquet"}
    assert left == logs | {"report.html", "report.md", "figures"}


def test_requests_of_several_rows_are_simulated_and_repeated(tmp_path: Path, profile: Path) -> None:
    flags = ["--profile", str(profile), "--duration", "5", "--batch", "1:0.5,2:0.5", "--out", "a"]
    done = kis("simulate", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = pq.read_table(tmp_path / "a/schedule.parquet")["rows"].to_pylist()
    assert set(sizes) == {1, 2}
    kis("simulate", "--profile", str(profile), "--run", "a", "--out", "b", cwd=tmp_path)
    ran = pq.read_table(tmp_path / "b/batches.parquet").to_pandas()
    assert (ran["batch_size"] >= np.array(sizes)[ran["request_id"]]).all()
    refused = kis("simulate", "--profile", str(profile), "--batch", "99", "--out", "c", cwd=tmp_path)
    assert "requests of 99 rows, and model 'emulated' takes at most" in refused.stderr
    cluster = Path(__file__).parents[2] / "testbed/configs/cluster.yaml"
    refused = kis("simulate", "--cluster", str(cluster), "--batch", "4", "--out", "d", cwd=tmp_path)
    assert refused.returncode == 2
    assert "batch" in refused.stderr


def test_a_run_can_be_repeated_on_its_own_schedule(tmp_path: Path, profile: Path) -> None:
    kis(
        "simulate",
        "--profile",
        str(profile),
        "--pattern",
        "fluctuating",
        "--set",
        "rate_seed=3",
        "--out",
        "a",
        cwd=tmp_path,
    )
    done = kis("simulate", "--profile", str(profile), "--run", "a", "--out", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a/schedule.parquet").read_bytes() == (tmp_path / "b/schedule.parquet").read_bytes()
    assert json.loads((tmp_path / "b/run.json").read_text())["simulates"] == "a"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, profile: Path) -> None:
    for name in ("a", "b"):
        kis("simulate", "--profile", str(profile), "--max-batch-size", "2", "--seed", "3", "--out", name, cwd=tmp_path)
    for file in ("requests.parquet", "metrics.parquet", "batches.parquet", "schedule.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_seed_is_of_arrivals_and_service_times_unless_the_traffic_has_its_own(tmp_path: Path, profile: Path) -> None:
    def logs(out: str, *flags: str) -> tuple[bytes, bytes]:
        kis("simulate", "--profile", str(profile), "--duration", "5", *flags, "--out", out, cwd=tmp_path)
        return (tmp_path / out / "schedule.parquet").read_bytes(), (tmp_path / out / "requests.parquet").read_bytes()

    arrivals, requests = logs("a", "--seed", "3")
    assert logs("b", "--seed", "4")[0] != arrivals
    same_arrivals, other_requests = logs("c", "--seed", "4", "--traffic.seed", "3")
    assert same_arrivals == arrivals
    assert other_requests != requests


@pytest.mark.parametrize("valid", [True, False])
def test_the_exit_code_says_when_a_run_is_not_to_be_relied_on(tmp_path: Path, profile: Path, valid: bool) -> None:
    """It was 0 for INVALID runs, with a third of the requests unsent."""
    kis("simulate", "--profile", str(profile), "--duration", "5", "--out", "run", cwd=tmp_path)
    run = RunDir(tmp_path / "run")
    verdict = Verdict(valid=valid, reasons=() if valid else ("34 % unsent",))
    run.write_manifest(run.manifest.model_copy(update={"verdict": verdict}))
    console = Console(file=io.StringIO(), width=200)
    if valid:
        show_run(console, run)
        return
    with pytest.raises(typer.Exit) as end:
        show_run(console, run)
    assert end.value.exit_code == EXIT_INVALID == 3


def test_a_simulated_client_gives_up_and_drops_as_the_replay_does(tmp_path: Path, profile: Path) -> None:
    """18 s of waiting were told as P95, "0 timeout, 0 dropped", where a real client had dropped 602."""
    spike = [
        "--pattern",
        "bursty",
        "--set",
        "base=50",
        "--set",
        "spike=3000",
        "--duration",
        "25",
        "--max-batch-size",
        "1",
    ]
    done = kis("simulate", "--profile", str(profile), *spike, "--out", "usual", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    usual = RequestLog.read(tmp_path / "usual" / "requests.parquet").counts()
    assert usual["dropped"] > 5000
    assert RunDir(tmp_path / "usual").manifest.client == ClientLimits(timeout_s=10.0, max_in_flight=1024)
    flags = ["--timeout-s", "1", "--max-in-flight", "100000"]
    kis("simulate", "--profile", str(profile), *spike, *flags, "--out", "patient", cwd=tmp_path)
    patient = RequestLog.read(tmp_path / "patient" / "requests.parquet").counts()
    assert patient["dropped"] == 0
    assert patient["timeout"] > 5000


def test_traffic_beyond_what_was_calibrated_is_told_of_by_mean_and_by_peak(tmp_path: Path, profile: Path) -> None:
    """A spike of 3,000/s gave no note, and a mean a little below the lowest calibrated rate gave one."""
    known = ServiceProfile.read(profile)
    known.model_copy(update={"ranges": {"rate_rps": (20.0, 200.0)}}).write(profile)

    def notes(*flags: str) -> str:
        done = kis("simulate", "--profile", str(profile), *flags, "--duration", "20", "--out", flags[-1], cwd=tmp_path)
        return " ".join(done.stdout.split())

    assert "note:" not in notes("--pattern", "constant", "--set", "rate=100")
    assert "the mean rate, 1" in notes("--pattern", "constant", "--set", "rate=10")
    assert "is below what was calibrated (20.0 to 200.0/s)" in notes("--pattern", "constant", "--set", "rate=9")
    told = notes("--pattern", "bursty", "--set", "base=30", "--set", "spike=400")
    assert "the peak, 4" in told or "the peak, 3" in told
    assert "/s in 1 s, is above what was calibrated (20.0 to 200.0/s): latencies may be off" in told


@pytest.mark.parametrize("command", ["simulate", "plan"])
@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ([], None),
        (["--duration", "20"], None),
        (["--duration", "15"], "note: the trace lasts 20 s, duration_s 15 s: it is cut"),
        (["--duration", "30"], "note: the trace lasts 20 s, duration_s 30 s: nothing comes after it"),
    ],
)
def test_a_trace_of_another_length_than_asked_for_is_said(
    tmp_path: Path, profile: Path, command: str, flags: list[str], note: str | None
) -> None:
    (tmp_path / "t.csv").write_text("\n".join(f"{0.5 * k:g}" for k in range(40)))
    own = ["--target-ms", "500", "--max-replicas", "1"] if command == "plan" else []
    done = kis(command, "--profile", str(profile), "--trace", "t.csv", *own, *flags, "--out", "o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [line[8:] for line in done.stdout.splitlines() if "note: the trace" in line]
    assert told == ([] if note is None else [note])


def test_a_repository_for_a_triton_of_ones_own(tmp_path: Path) -> None:
    flags = ["--model", "resnet50", "--instances", "2", "--queue-delay-ms", "3", "--device", "gpu"]
    done = kis("repository", "models", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "random" in done.stdout
    config = (tmp_path / "models/resnet50/config.pbtxt").read_text()
    assert "KIND_GPU" in config
    assert "max_queue_delay_microseconds: 3000" in config
    assert (tmp_path / "models/resnet50/1/model.py").exists()


CLUSTER = """
duration_s: 10
cluster:
  gpu_kinds: {gpu: {}}
  pools: [{gpus: 1, gpu_kind: gpu}]
  models: [{name: emulated, profiles: {gpu: profile-emulated.json}, latency_target_s: 0.1, max_batch_size: 2}]
traffic: {emulated: {pattern: constant}}
"""
MISTAKES = {
    "a folder of no kind": (["report", "."], "is no results folder"),
    "an archive of nothing": (["archive", "."], "has no runs that ended"),
    "an archive of no folder": (["archive", "none"], "none does not exist"),
    "a comparison of nothing": (["compare", "."], "has no runs"),
    "a restore of what was not archived": (["restore", "."], "has no archive/"),
    "a restore of no folder": (["restore", "none"], "none does not exist"),
    "a run that is none": (["simulate", "--profile", "profile-emulated.json", "--run", "."], "is not a run folder"),
    "two runs that are none": (["compare", ".", "."], "is not a run folder"),
    "a batch size that the profile does not know": (
        ["simulate", "--profile", "profile-emulated.json", "--max-batch-size", "9"],
        "beyond its profile",
    ),
    "a parameter without a value": (["replay", "--set", "spike"], "give NAME=VALUE"),
    "a parameter of the wrong kind": (
        ["simulate", "--profile", "profile-emulated.json", "--set", "spike=high"],
        "pattern 'bursty': spike is 'high': give a number",
    ),
    "a shape without sizes": (["replay", "--shape", "x"], "NAME:D1,D2"),
    "a server that is no address": (["replay", "--server", "http://h:abc"], "is not an address"),
    "a folder that cannot be written": (
        ["simulate", "--profile", "profile-emulated.json", "--out", "/proc/none"],
        "/proc/none",
    ),
    "flags that do not go together": (["calibrate", "--quick", "x.yaml"], "--quick is a campaign of its own"),
    "a parameter that the pattern does not have": (
        ["simulate", "--profile", "profile-emulated.json", "--max-batch-size", "2", "--set", "spiek=3"],
        "spike",
    ),
    "a pattern that does not exist": (["replay", "--pattern", "burst"], "traffic.pattern"),
    "a missing trace": (["measure", "--trace", "none.csv"], "none.csv"),
    "no server there": (["replay", "--server", "http://127.0.0.1:9"], "127.0.0.1:9"),
    "a model without a server": (["calibrate", "--model", "mine"], "--server"),
    "an emulated model with too few batch times": (
        ["measure", "--model", "emulated", "--max-batch-size", "9"],
        "emulated.mean_s has 8 batch times, max_batch_size is 9",
    ),
    "a simulation of nothing": (["simulate"], "give --profile"),
    "a profile that is none": (["simulate", "--profile", "config.yaml"], "config.yaml is no profile"),
    "a run as a profile": (
        ["simulate", "--profile", "a-run.json"],
        "run.json is no profile: give a profile-<model>.json",
    ),
    "a folder that is not there": (["compare", "none"], "none does not exist"),
    "an HPA without a target": (
        ["simulate", "--cluster", "cluster.yaml", "--policy", "hpa", "--out", "o"],
        "give metric and target (hpa:metric=queue_time_ms,target=5)",
    ),
    "an HPA's metric with a slip": (
        ["simulate", "--cluster", "cluster.yaml", "--policy", "hpa:metric=queue_tme_ms,target=3", "--out", "o"],
        "did you mean 'queue_time_ms'?",
    ),
    "an HPA's key with a slip": (
        ["simulate", "--cluster", "cluster.yaml", "--policy", "hpa:targte=3", "--out", "o"],
        "unknown key 'targte': did you mean 'target'?",
    ),
    "an oracle that does not know when pods are there": (
        ["simulate", "--cluster", "cluster.yaml", "--policy", "oracle", "--out", "o"],
        "provisioning_delay_s is missing",
    ),
    "a repository where something is": (["repository", ".", "--model", "resnet50"], "not empty"),
    "a backend that is none": (["repository", "m", "--model", "resnet50", "--backend", "tensorrt"], "--backend"),
    "a policy without a cluster": (
        ["simulate", "--profile", "profile-emulated.json", "--policy", "fixed:replicas=2"],
        "--cluster",
    ),
    "a missing config file": (["calibrate", "none.yaml"], "none.yaml"),
    "a model in the place of a file": (["serve", "emulated"], "did you mean --model emulated?"),
    "a flag with a slip": (["simulate", "--profle", "x"], "--profile"),
    "a command with a slip": (["simulat"], "Did you mean 'simulate'?"),
    "nothing to read": (["evaluate"], "Missing argument"),
    "a file of another command": (["simulate", "cluster.yaml"], "kis simulate --cluster cluster.yaml"),
    "a folder as a file": (["evaluate", "."], "is a folder"),
    "a report of nothing": (["report", "none"], "none does not exist"),
    "a key that is missing": (["plan", "--profile", "profile-emulated.json"], "kis: --target-ms is missing"),
    "another study than the file's": (["study", "study.yaml", "--set", "kind=x"], "says which study it is"),
    "what is not closed": (["simulate", "--cluster", "open.yaml"], "open.yaml, line 1, is not YAML"),
}


SAID_FIRST = [
    "a folder of no kind",
    "an archive of nothing",
    "an archive of no folder",
    "a restore of what was not archived",
    "a restore of no folder",
    "a run that is none",
    "two runs that are none",
    "a comparison of nothing",
    "a folder that is not there",
    "a report of nothing",
]


@pytest.mark.parametrize("mistake", SAID_FIRST)
def test_what_is_not_there_is_said_before_anything_else(tmp_path: Path, profile: Path, mistake: str) -> None:
    """`kis report result` began with "report of result", as if there were something to report."""
    assert kis(*MISTAKES[mistake][0], cwd=tmp_path).stdout == ""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(tmp_path: Path, profile: Path, mistake: str) -> None:
    arguments, told = MISTAKES[mistake]
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "a-run.json").write_text('{"run_id": "one", "model": "resnet50"}')
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "study.yaml").write_text("kind: rate-sweep\n")
    (tmp_path / "open.yaml").write_text("duration_s: [\nseed: 3\n")
    done = kis(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("kis: ")


LIGHT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):  # as if only the light core were installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "transformers", "onnx", "pytriton", "gymnasium",
                                      "stable_baselines3", "tensorboard"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from testbed.cli.main import main
sys.argv = ["kis", *sys.argv[1:]]
main()
"""


def test_a_cluster_s_figures_have_a_line_each_in_80_columns(tmp_path: Path, profile: Path) -> None:
    """A long policy was cut, and failed stood above waiting in one cell."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    whole = WHOLE_HPA.replace("kind: hpa", "kind: hpa, name: an-hpa-with-a-name-of-forty-characters-x")
    with patch.object(console, "_width", 80):
        done = kis(
            "simulate", "--cluster", "cluster.yaml", "--policy", whole, "--draws", "2", "--out", "o", cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "emulated, an-hpa-with-a-name-of-forty-characters-x" in lines
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())["models"]["emulated"]
    assert f"failed {summary['error'] + summary['timeout'] + summary['dropped']}" in lines
    assert f"waiting at the end {summary['waiting']}" in lines
    band = summary["intervals"]["p95_ms"]
    assert f"P95, ms {summary['p95_ms']:.1f} {band['low']:.1f} to {band['high']:.1f}" in lines


@pytest.mark.parametrize("command", ["simulate", "controller"])
def test_the_help_shows_a_whole_hpa(command: str) -> None:
    told = "".join(re.sub(r"[│\s]", "", line) for line in kis(command, "--help").stdout.splitlines())
    assert WHOLE_HPA.replace(" ", "") in told


def test_a_plan_is_a_sentence(tmp_path: Path, profile: Path) -> None:
    def last(target_ms: str, status: int) -> str:
        flags = ["--target-ms", target_ms, "--set", "spike=40", "--duration", "20", "--max-replicas", "2"]
        done = kis("plan", "--profile", str(profile), *flags, "--out", f"plan-{target_ms}", cwd=tmp_path)
        assert done.returncode == status, done.stderr
        return " ".join(done.stdout.split())

    told = last("500", 0)
    assert "Use 1 replica (1 instance, batches of at most" in told
    assert re.search(
        r"confirm 1 replica \(1 instance, batches of at most \d, no queue delay\) with other arrivals", told
    )
    assert not re.search(r"r\d-n\d", told)  # a setting has one name in all that is printed
    found = re.search(r"The table's P95 of it, ([\d.]+) ms, is of the search; the sentence's, ([\d.]+) ms, of", told)
    assert found is not None
    of_table, of_sentence = found.groups()
    plan = json.loads((tmp_path / "plan-500" / "plan.json").read_text())
    assert [of_table, of_sentence] == [f"{plan[name]['latency_ms']['middle']:.1f}" for name in ("best", "confirmed")]
    assert found[0] in (tmp_path / "plan-500" / "report.md").read_text()
    impossible = last("0.01", 1)
    assert "Nothing up to 2 replicas holds P95 <= 0.01 ms: the least is" in impossible
    assert "A request alone takes about 6.0 ms: no number of replicas holds it." in impossible


def test_the_version_and_the_next_thing_to_type() -> None:
    assert kis("--version").stdout == f"kis {metadata.version('kis-testbed')}\n"
    alone = kis()
    told = " ".join((alone.stdout + alone.stderr).split())
    assert "Type next" in told
    assert "kis simulate --profile testbed/examples/resnet50-h200-fp16.json --set base=300" in told


def test_the_doctor_says_what_is_there_and_what_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = kis("doctor", "--seconds", "0.1")
    assert done.returncode == 0, done.stdout
    for said in ("versions", "timed wake-ups", "tritonserver", "extra train", "KUBECONFIG is not set"):
        assert said in done.stdout
    done = kis("doctor", "--seconds", "0.1", "--kubeconfig", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "no Kubernetes configuration" in done.stdout


def test_compiling_is_told_once(tmp_path: Path) -> None:
    """A small function stands for the loops: those take half a minute."""
    script = (
        "import numba\n"
        "from testbed.cli.console import show_log\n"
        "show_log('testbed.simulation')\n"
        "import testbed.simulation.chains\n"
        "numba.njit(lambda x: x + 1)(1)\n"
        "numba.njit(lambda x: x + 2)(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("the simulator is compiled") == 1


def test_an_interrupt_is_told_in_one_line(tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("testbed.pipeline.counterpart.write_simulated", interrupted)
    done = kis("simulate", "--profile", str(profile), "--duration", "5", "--out", str(tmp_path / "run"))
    assert (done.returncode, done.stderr) == (130, "kis: interrupted; what was measured is kept\n")


def light(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIGHT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def test_the_light_core_plans_and_writes_reports(tmp_path: Path) -> None:
    """A report imported what only trainings need: `make demo` failed in its own environment."""
    example = str(resources.files("testbed") / "examples" / "resnet50-h200-fp16.json")
    plan = ("plan", "--profile", example, "--target-ms", "50", "--max-replicas", "1", "--duration", "5")
    done = light(*plan, "--out", str(tmp_path / "plan"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "plan" / "report.html").is_file()
    assert light("report", str(tmp_path / "plan")).returncode == 0


def test_the_light_core_has_help_and_says_what_a_command_lacks() -> None:
    helped = light("--help")
    assert helped.returncode == 0, helped.stderr
    assert "evaluate" in helped.stdout
    assert "An autoscaler learns in simulated clusters (needs make env)." in helped.stdout
    served = light("serve", "--out", "served")
    assert served.stderr.startswith("kis: resnet50 needs PyTorch, which is not installed: make env; or try"), served
    for command, missing in (("train", "stable_baselines3|gymnasium|torch"),):
        told = light(command, "some.yaml", "--out", "x")
        assert told.returncode == 2
        one = rf"^kis: kis {command} needs ({missing}), which is not installed: make env$"
        assert re.fullmatch(one, told.stderr.strip()), told.stderr
