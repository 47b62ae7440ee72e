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
"""

# Reads twice, and prints everything that the source tells.
READ = """
import json
from testbed.measurement.gpu_metrics import GpuSource
from testbed.measurement.source import MissedSample

source, readings = GpuSource(), []
for _ in range(2):
    try:
        readings.append({"rows": source.sample(), "missed": None})
    except MissedSample as miss:
        readings.append({"rows": miss.rows, "missed": str(miss)})
unsupported = {f"{gpu} {metric}": why for (gpu, metric), why in source.unsupported.items()}
told = {"readings": readings, "absent_because": source.absent_because, "names": source.device_names,
        "unsupported": unsupported}
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


def test_one_gpu_is_read_in_ratio_bytes_watt_joule_and_hertz(told):
    answer = told(ONE_GPU)
    assert answer["absent_because"] is None
    assert answer["names"] == ["Stand-in GPU 0"]
    assert [reading["missed"] for reading in answer["readings"]] == [None, None]
    assert values(answer["readings"][0]) == {
        ("0", "utilisation"): (0.37, "ratio"),
        ("0", "memory_used"): (1073741824, "bytes"),
        ("0", "power"): (250.5, "watt"),
        ("0", "energy"): (1234.567, "joule"),
        ("0", "sm_clock"): (1.98e9, "hertz"),
    }


def test_a_gpu_that_counts_no_energy_has_all_other_rows_and_no_misses(told):
    answer = told(ONE_GPU.replace("energy 0 0 1234567", "energy 0 3 0"))
    for reading in answer["readings"]:
        assert reading["missed"] is None
        names = {name for _, name in values(reading)}
        assert names == {"utilisation", "memory_used", "power", "sm_clock"}
    assert list(answer["unsupported"]) == ["0 energy"]


def test_a_call_that_fails_this_time_is_a_miss_and_loses_its_metric_only(told):
    two = ONE_GPU.replace("count - 0 1", "count - 0 2") + ONE_GPU.replace(" 0 0 ", " 1 0 ")
    answer = told(two.replace("power 1 0 250500", "power 1 15 0"))  # 15: the GPU is lost
    for reading in answer["readings"]:
        assert "gpu 1 power" in reading["missed"]
        assert ("1", "power") not in values(reading)
        assert len(reading["rows"]) == 9
    assert answer["unsupported"] == {}


def test_nvml_without_a_gpu_gives_no_rows_and_says_so(told):
    answer = told("init - 0 0\ncount - 0 0\n")
    assert answer["absent_because"] == "NVML shows no GPU"
    assert [reading["rows"] for reading in answer["readings"]] == [[], []]
    assert [reading["missed"] for reading in answer["readings"]] == [None, None]


def test_a_driver_that_is_not_loaded_gives_no_rows_and_says_so(told):
    answer = told("init - 9 0\n")
    assert answer["absent_because"].startswith("NVML: ")
    assert answer["readings"][0] == {"rows": [], "missed": None}
