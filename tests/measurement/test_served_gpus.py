"""Which GPU served, and what NVML read of it: two GPUs, of which the idle one is NVML's first."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.measurement.gpu_metrics import GpuSource, served_gpus
from testbed.measurement.gpu_readings import mean_power_w, mean_reading, readings
from testbed.measurement.metric_log import MetricLog

IDLE, BUSY = "GPU-a", "GPU-b"
SECOND = 1_000_000_000


class Processes(GpuSource):
    """NVML that names the GPUs of processes."""

    def __init__(self, of: dict[int, str]) -> None:
        super().__init__()
        self._of = of

    def used_by(self, pids):
        return tuple({self._of[pid] for pid in pids if pid in self._of})


def nvml(uuids: bool = True) -> list[tuple]:
    rows = []
    for gpu, uuid, watts, busy in (("0", IDLE, 30.0, 0.05), ("1", BUSY, 250.0, 0.8)):
        labels = {"gpu": gpu, "gpu_uuid": uuid} if uuids else {"gpu": gpu}
        for second in range(3):
            rows.append((second * SECOND, "nvml", "power", labels, watts, "watt"))
            rows.append((second * SECOND, "nvml", "utilisation", labels, busy, "ratio"))
    return rows


def page(*uuids: str) -> list[tuple]:
    return [
        (0, "triton", "nv_gpu_memory_used_bytes", {"gpu_uuid": uuid, "endpoint": "r"}, 1.0, "bytes") for uuid in uuids
    ]


def test_the_backends_word_comes_first(tmp_path: Path) -> None:
    (tmp_path / "replica-0").mkdir()
    (tmp_path / "replica-0" / "bert_0_0.gpu").write_text(BUSY)
    log = MetricLog.from_rows(page(IDLE))
    assert served_gpus(tmp_path, log, Processes({7: IDLE}), [7]) == (BUSY,)


def test_a_page_with_one_gpu_tells_and_one_with_two_leaves_it_to_the_processes(tmp_path: Path) -> None:
    assert served_gpus(None, MetricLog.from_rows(page(BUSY)), None, []) == (BUSY,)
    both = MetricLog.from_rows(page(IDLE, BUSY))
    assert served_gpus(None, both, None, []) == ()
    assert served_gpus(tmp_path, both, Processes({7: BUSY}), [7]) == (BUSY,)
    assert served_gpus(tmp_path, both, Processes({}), [7]) == ()


def test_readings_are_of_the_gpu_that_served_and_not_of_nvmls_first() -> None:
    log = MetricLog.from_rows(nvml())
    assert mean_power_w(log, (BUSY,), 0, 2) == 250
    assert mean_reading(log, "utilisation", (BUSY,), 0, 2) == pytest.approx(0.8)
    assert mean_power_w(log, (IDLE, BUSY), 0, 2) == 280
    assert mean_reading(log, "utilisation", (IDLE, BUSY), 0, 2) == pytest.approx(0.425)


def test_of_several_gpus_and_no_word_nothing_is_measured() -> None:
    for rows in (nvml(), nvml(uuids=False)):
        assert readings(MetricLog.from_rows(rows), "power", ()).empty
        assert mean_power_w(MetricLog.from_rows(rows), (), 0, 2) is None


def test_the_only_gpu_is_the_one() -> None:
    only = [row for row in nvml(uuids=False) if row[3]["gpu"] == "1"]
    assert mean_power_w(MetricLog.from_rows(only), (), 0, 2) == 250
    assert mean_power_w(MetricLog.from_rows([]), (), 0, 2) is None
    assert mean_power_w(MetricLog.from_rows(only), (), 5, 9) is None


def test_power_is_what_the_energy_counter_says_where_there_is_one() -> None:
    labels = {"gpu": "0", "gpu_uuid": BUSY}
    energy = [(second * SECOND, "nvml", "energy", labels, 1000 + 300.0 * second, "joule") for second in range(4)]
    log = MetricLog.from_rows(
        [*energy, *[(second * SECOND, "nvml", "power", labels, 100.0, "watt") for second in range(4)]]
    )
    assert mean_power_w(log, (BUSY,), 0, 3) == 300
    assert mean_power_w(log, (BUSY,), 2.5, 3.5) is None  # one reading of energy says nothing
    assert mean_power_w(log, (BUSY,), -5, 3) is None  # and these leave out most of the span


def test_a_mig_instance_is_found_under_cudas_name_for_it() -> None:
    rows = [(0, "nvml", "memory_used", {"gpu": "0:0", "gpu_uuid": "MIG-77"}, 5.0, "bytes"), *nvml()]
    assert list(readings(MetricLog.from_rows(rows), "memory_used", ("GPU-77",))["value"]) == [5.0]
