"""GpuSource against a C stand-in of NVML, loaded by a process of its own as the real library would be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parent / "nvml_stand_in" / "nvml_stand_in.c"

ONE_GPU = """
init - 0 0
count - 0 1
utilisation 0 0 37
memory 0 0 1073741824
power 0 0 250500
energy 0 0 1234567
clock 0 0 1980
memory_busy 0 0 12
memory_clock 0 0 3201
temperature 0 0 36
throttle 0 0 4
"""
METRICS = {
    "utilisation": (0.37, "ratio"),
    "memory_busy": (0.12, "ratio"),
    "memory_used": (1073741824, "bytes"),
    "power": (250.5, "watt"),
    "energy": (1234.567, "joule"),
    "sm_clock": (1.98e9, "hertz"),
    "memory_clock": (3.201e9, "hertz"),
    "temperature": (36, "celsius"),
    "throttle_reasons": (4, "bits"),
}


def gpus(count):
    """What NVML answers about so many GPUs."""
    lines = ONE_GPU.replace("count - 0 1", f"count - 0 {count}")
    return lines + "".join(ONE_GPU.replace(" 0 0 ", f" {k} 0 ") for k in range(1, count))


# Reads twice, and prints everything that the source tells.
READ = """
import json
import os
from testbed.measurement.gpu_metrics import GpuSource
from testbed.measurement.sampler import MissedSample

source, readings = GpuSource(), []
for _ in range(2):
    try:
        readings.append({"rows": source.sample(), "missed": None})
    except MissedSample as miss:
        readings.append({"rows": miss.rows, "missed": str(miss)})
unsupported = {f"{gpu} {metric}": why for (gpu, metric), why in source.unsupported.items()}
told = {"readings": readings, "absent_because": source.absent_because, "names": source.names,
        "unsupported": unsupported, "lost": source.lost, "used": source.used_by([os.getpid(), 4711])}
print(json.dumps(told))
"""


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, STAND_IN], check=True)
    return folder


@pytest.fixture
def told(library_folder, tmp_path):
    """told(script) -> what GpuSource tells when NVML answers as the script says."""

    def run(script):
        answers = tmp_path / "answers"
        answers.write_text(script)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library_folder), "NVML_STAND_IN": str(answers)}
        done = subprocess.run([sys.executable, "-c", READ], env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    return run


def values(reading):
    return {(labels["gpu"], name): (value, unit) for _, name, labels, value, unit in reading["rows"]}


def test_one_gpu_is_read_in_the_units_of_the_metric_log(told):
    answer = told(ONE_GPU)
    assert answer["absent_because"] is None
    assert answer["names"] == {"GPU-0": "Stand-in GPU 0"}
    assert [reading["missed"] for reading in answer["readings"]] == [None, None]
    assert values(answer["readings"][0]) == {("0", name): value for name, value in METRICS.items()}


@pytest.mark.parametrize(("call", "names"), [("energy", {"energy"}), ("utilisation", {"utilisation", "memory_busy"})])
def test_what_a_gpu_never_tells_has_no_rows_and_is_no_miss(told, call, names):
    line = next(line for line in ONE_GPU.splitlines() if line.startswith(call))
    answer = told(ONE_GPU.replace(line, f"{call} 0 3 0"))
    for reading in answer["readings"]:
        assert reading["missed"] is None
        assert {name for _, name in values(reading)} == METRICS.keys() - names
    assert answer["unsupported"].keys() == {f"0 {name}" for name in names}


def test_a_call_that_fails_this_time_is_a_miss_and_loses_its_metric_only(told):
    answer = told(gpus(2).replace("power 1 0 250500", "power 1 15 0"))  # 15: the GPU is lost
    for reading in answer["readings"]:
        assert "gpu 1 power" in reading["missed"]
        assert ("1", "power") not in values(reading)
        assert len(reading["rows"]) == 2 * len(METRICS) - 1
    assert answer["unsupported"] == {}


@pytest.mark.parametrize("status", [4, 15])  # no permission; the GPU is lost
def test_a_gpu_that_may_not_be_opened_is_lost_and_the_others_are_read(told, status):
    answer = told(gpus(8) + f"handle 5 {status} 0\n")
    assert answer["absent_because"] is None
    assert list(answer["lost"]) == ["5"]
    assert {gpu for gpu, _ in values(answer["readings"][0])} == set("0123467")
    assert [reading["missed"] for reading in answer["readings"]] == [None, None]


def test_rows_name_the_gpu_by_its_uuid_too(told):
    answer = told(gpus(2) + "uuid 0 0 17\nuuid 1 0 4\n")
    labels = {(row[2]["gpu"], row[2]["gpu_uuid"]) for row in answer["readings"][0]["rows"]}
    assert labels == {("0", "GPU-17"), ("1", "GPU-4")}


def test_mig_instances_are_gpus_of_their_own_beside_their_parent(told):
    of_instance = "memory 0:1 0 5000000\nutilisation 0:1 3 0\npower 0:1 3 0\nenergy 0:1 3 0\nclock 0:1 3 0\n"
    of_instance += "memory_clock 0:1 3 0\ntemperature 0:1 3 0\nthrottle 0:1 3 0\n"
    answer = told(ONE_GPU + "mig 0 0 1\ninstance 0:1 0 0\nuuid 0:1 0 9\n" + of_instance)
    rows = [row for row in answer["readings"][0]["rows"] if row[2]["gpu"] == "0:1"]
    assert [(row[1], row[2]["gpu_uuid"], row[3]) for row in rows] == [("memory_used", "MIG-9", 5000000)]
    assert answer["names"].keys() == {"GPU-0", "MIG-9"}


def test_the_gpus_of_processes_are_those_that_nvml_names(told):
    assert told(gpus(2) + "process 1 0 4711\n")["used"] == ["GPU-1"]
    assert told(gpus(2) + "process 1 0 4712\n")["used"] == []


def test_nvml_without_a_gpu_gives_no_rows_and_says_so(told):
    answer = told("init - 0 0\ncount - 0 0\n")
    assert answer["absent_because"] == "NVML shows no GPU"
    assert [reading["rows"] for reading in answer["readings"]] == [[], []]
    assert [reading["missed"] for reading in answer["readings"]] == [None, None]


def test_a_driver_that_is_not_loaded_gives_no_rows_and_says_so(told):
    answer = told("init - 9 0\n")
    assert answer["absent_because"].startswith("NVML: ")
    assert answer["readings"][0] == {"rows": [], "missed": None}
