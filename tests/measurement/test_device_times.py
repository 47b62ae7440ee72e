"""Where a batch's time goes on a GPU: what the backend writes is what measurement reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.measurement.device_times import DeviceTimes, read_device_files
from workloads.backends.batch_log import BatchWriter, DeviceLog


def written(folder: Path) -> None:
    replica = folder / "replica-0"
    BatchWriter(str(replica), "bert_0_0")
    log = DeviceLog(str(replica), "bert_0_0")
    log.append(1_000, 5_000, 1, (100, 3_000, 50))
    log.append(10_000, 15_000, 2, (200, 4_000, 50))
    log.append(20_000, 26_000, 2, (200, 4_400, 50))
    log.append(30_000, 36_000, 2, None)


def test_a_batch_is_its_copies_its_network_and_the_rest(tmp_path: Path) -> None:
    written(tmp_path)
    found = read_device_files(tmp_path, 0, 100_000)
    assert found is not None
    one, two = found.sizes
    assert (one.batch_size, one.batches, two.batch_size, two.batches) == (1, 1, 2, 2)
    assert one.rest_s == pytest.approx(850e-9)
    assert two.network_s == pytest.approx(4.2e-6)
    assert two.network_std_s == pytest.approx(0.2e-6)
    for size in found.sizes:
        parts = size.copy_in_s + size.network_s + size.copy_out_s + size.rest_s
        assert parts == pytest.approx(size.backend_s)


def test_batches_of_another_time_and_half_records_are_left_out(tmp_path: Path) -> None:
    written(tmp_path)
    file = tmp_path / "replica-0" / "bert_0_0.device"
    file.write_bytes(file.read_bytes()[:-10])
    found = read_device_files(tmp_path, 10_000, 100_000)
    assert found is not None
    assert [(size.batch_size, size.batches) for size in found.sizes] == [(2, 1)]
    assert read_device_files(tmp_path, 50_000, 100_000) is None
    assert read_device_files(tmp_path / "nothing", 0, 1) is None


def test_a_run_without_them_has_none(tmp_path: Path) -> None:
    assert DeviceTimes.read(tmp_path) is None
    written(tmp_path)
    found = read_device_files(tmp_path, 0, 100_000)
    assert found is not None
    found.write(tmp_path)
    assert DeviceTimes.read(tmp_path) == found
