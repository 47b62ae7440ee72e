"""CPU against GPU from synthetic runs: what is claimed, and what must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import CPU, arrivals, write_run

from loadgen.artifact import ArtifactError
from loadgen.validity import Verdict
from testbed.errors import ReportError
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.devices import read_devices, side_labels, summary_of
from testbed.reporting.reports import write_report
from testbed.reporting.reports.devices import ratio_text
from testbed.run_dir import Device

GPU = Device(kind="gpu", name="Example GPU <40 GB>")
SPAN_S = 40.0
FACTOR = 12.0
LATE = Verdict(valid=False, reasons=("requests were sent late: lag P99 9.00 ms, limit 2.00 ms",))
ARRIVALS_NS = arrivals("constant", 8, SPAN_S, 3)
SECOND_NS = 10**9
SERVED = "GPU-served"


def latencies_s(repeat: int) -> np.ndarray:
    """Of the GPU: about 10 ms."""
    return 0.01 * np.random.default_rng(repeat).lognormal(0, 0.3, len(ARRIVALS_NS))


def gpu_metrics() -> MetricLog:
    values = (("utilisation", 0.25, "ratio"), ("power", 120.0, "watt"))
    rows = [
        (second * SECOND_NS, "nvml", name, {"gpu": gpu, "gpu_uuid": uuid}, value if uuid == SERVED else 0.0, unit)
        for second in range(41)
        for gpu, uuid in (("0", "GPU-idle"), ("1", SERVED))
        for name, value, unit in values
    ]
    return MetricLog.from_rows(rows)


def folder_of(
    path: Path, repeats: int = 3, devices: tuple[str, str] = ("cpu", "gpu"), turns: bool = True, **odd: dict[str, Any]
) -> Path:
    """A folder as `kis devices` leaves it; the CPU is FACTOR times slower. odd: of single runs, by run id."""
    path.mkdir(exist_ok=True)
    config = {"devices": devices, "repeats": repeats, "studies": [{"model": "resnet50"}]}
    (path / "devices.json").write_text(json.dumps(config))
    for repeat in range(1, repeats + 1):
        for number, label in enumerate(side_labels(devices)):
            run_id = f"resnet50-{label}-{repeat}"
            factor = FACTOR if devices[0] != devices[1] and number == 0 else 1.0
            place = 2 * repeat + number if turns else repeat + 100 * number
            facts: dict[str, Any] = {
                "device": GPU if devices[number] == "gpu" else CPU,
                "completed_s": ARRIVALS_NS / 1e9
                + factor * latencies_s(repeat + 50 * (devices[0] == devices[1]) * number),
                "scheduled_ns": ARRIVALS_NS,
                "duration_s": SPAN_S,
                "start_unix_ns": place * 60 * SECOND_NS,
                "metrics": gpu_metrics() if devices[number] == "gpu" else None,
                "gpu_uuids": (SERVED,) if devices[number] == "gpu" else (),
                **odd.get(run_id.replace("-", "_"), {}),
            }
            if "missing" not in facts:
                write_run(path / "runs", run_id, **facts)
    return path


def told(folder: Path) -> dict[str, Any]:
    (study,) = read_devices(folder).studies
    return summary_of(study)


def both_pages(folder: Path) -> tuple[str, str]:
    write_report(folder)
    return (folder / "report.md").read_text(), (folder / "report.html").read_text()


def test_a_cpu_that_is_twelve_times_slower_is_said_to_be(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "all")
    text, page = both_pages(folder)
    assert "is 12.0 (12.0 to 12.0) times that on" in text
    assert "12.0 (12.0 to 12.0)" in page
    assert "Example GPU &lt;40 GB&gt;" in page
    assert "<40 GB>" not in page
    assert "INVALID" not in text
    assert "SATURATED**" not in text
    for side in ("cpu", "gpu"):
        assert f"runs/resnet50-{side}-3" in text  # every number names its run
    (study,) = json.loads((folder / "ratios.json").read_text())["studies"]
    assert study["ratios"]["p95"] == {"value": 12.0, "low": 12.0, "high": 12.0}
    assert study["ratios"]["throughput"]["value"] == 1.0
    assert (folder / "ecdf.png").stat().st_size > 2_000


def test_a_gpu_is_read_where_it_was_sampled_and_nowhere_else(tmp_path: Path) -> None:
    rows = {row["side"]: row for row in told(folder_of(tmp_path / "all"))["runs"]}
    assert (rows["gpu"]["gpu_utilisation"], rows["gpu"]["gpu_power_w"]) == (0.25, 120.0)  # of NVML's second GPU alone
    assert (rows["cpu"]["gpu_utilisation"], rows["cpu"]["gpu_power_w"]) == (None, None)


def test_an_invalid_run_leaves_no_ratio_and_a_red_alarm_above_everything(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "late", resnet50_gpu_2={"verdict": LATE})
    text, page = both_pages(folder)
    assert told(folder)["ratios"] is None
    assert "times that on" not in text
    assert text.index("INVALID") < text.index("resnet50")
    alarm = page.index('class="alarm"')
    assert alarm < page.index('class="claim"')
    assert "resnet50-gpu-2: requests were sent late" in page[alarm:]
    assert "a run is INVALID" in page


def test_a_run_that_nobody_judged_is_not_compared(tmp_path: Path) -> None:
    assert told(folder_of(tmp_path / "all", resnet50_cpu_1={"verdict": None}))["ratios"] is None


def test_a_cpu_that_cannot_hold_the_rate_is_called_saturated(tmp_path: Path) -> None:
    queue_s = 0.4 * ARRIVALS_NS / 1e9  # every second of the schedule 0.4 s more
    slow = {"completed_s": ARRIVALS_NS / 1e9 + 0.1 + queue_s}
    folder = folder_of(tmp_path / "slow", **{f"resnet50_cpu_{k}": slow for k in (1, 2, 3)})
    text, page = both_pages(folder)
    assert told(folder)["saturated"] == ["cpu"]
    assert "**cpu is SATURATED**" in text
    assert "cpu is SATURATED" in page
    assert told(folder)["ratios"]["throughput"]["value"] < 0.8


def test_a_device_against_itself_is_about_one(tmp_path: Path) -> None:
    study = told(folder_of(tmp_path / "same", repeats=5, devices=("cpu", "cpu")))
    assert list(study["devices"]) == ["cpu-a", "cpu-b"]
    for one in study["ratios"].values():
        assert one["low"] <= 1 <= one["high"]


def test_devices_that_did_not_take_turns_are_told_of(tmp_path: Path) -> None:
    assert "did not take turns" in both_pages(folder_of(tmp_path / "after", turns=False))[0]
    assert "did not take turns" not in both_pages(folder_of(tmp_path / "turns"))[0]


def test_one_or_two_pairs_have_an_interval_of_blocks_and_say_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "two", repeats=2)
    assert told(folder)["interval_of"] == "blocks"
    assert "blocks of time drawn again" in both_pages(folder)[0]
    assert "at most 75 %" in both_pages(folder_of(tmp_path / "three"))[0].replace("\u202f", " ")


def test_what_an_interrupt_left_is_reported_by_its_whole_pairs(tmp_path: Path) -> None:
    odd = {"resnet50_gpu_2": {"missing": True}, "resnet50_cpu_3": {"state": "interrupted"}}
    folder = folder_of(tmp_path / "some", **odd)
    assert told(folder)["pairs"] == 1
    assert "Not made yet: resnet50-gpu-2, resnet50-cpu-3" in both_pages(folder)[0]


def test_no_whole_pair_is_no_report(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "none", repeats=1, resnet50_gpu_1={"missing": True})
    with pytest.raises(ReportError, match="no run on both devices"):
        read_devices(folder)
    with pytest.raises(ArtifactError, match="kis devices"):
        read_devices(tmp_path)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"weights": "file.pt"}, "other weights"),
        ({"device": Device(kind="cpu", name="Other CPU")}, "a side is one device"),
        ({"model": "bert"}, "different models"),
        ({"scheduled_ns": ARRIVALS_NS + 1000}, "different schedules"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path, odd: dict[str, Any], said: str) -> None:
    folder = folder_of(tmp_path / "odd", resnet50_cpu_2=odd)
    with pytest.raises(ReportError, match=said):
        read_devices(folder)


def test_an_unknown_ratio_says_so() -> None:
    assert ratio_text(None) == "not measured"
    assert ratio_text({"value": 2.0, "low": None, "high": None}).startswith("2.00 (no interval")
