from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from loadgen.schedule import TraceError
from loadgen.traces import FORMATS, read_trace, trace_pattern

AZURE = Path(__file__).parents[3] / "shared/traces/azure_llm_2023_code.csv"


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "trace.txt"
        path.write_text(text)
        return path

    return write


CSV = "TIMESTAMP,ContextTokens\n2023-11-16 18:17:03.9799600,4808\n2023-11-16 18:17:04.0319600,3180\n"


def test_an_azure_trace_is_recognised_and_begins_at_zero(write):
    schedule = read_trace(write(CSV), "m")
    np.testing.assert_array_equal(schedule.scheduled_ns, [0, 52_000_000])
    assert schedule.duration_s == pytest.approx(0.104)  # one mean gap beyond the last arrival
    assert set(schedule.model) == {"m"}


COUNTS = "timestamp,value\n2014-04-10 00:00:00,2\n2014-04-10 00:00:10,0\n2014-04-10 00:00:20,4.0\n"


def test_counts_are_recognised_and_spread_over_their_intervals(write):
    schedule = read_trace(write(COUNTS), "m")
    np.testing.assert_allclose(schedule.scheduled_s, [2.5, 7.5, 21.25, 23.75, 26.25, 28.75])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (COUNTS.replace("4.0", "4.5"), "line 4: '4.5' is no count"),
        (COUNTS.replace("4.0", "-1"), "line 4: '-1' is no count"),
        (COUNTS.replace(",0", ""), "line 3: '' is no count"),
        (COUNTS.replace("00:00:20", "00:00:10"), "line 4: the second interval that begins then"),
        ("timestamp,value,more\n2014-04-10 00:00:00,2,3\n", "line 1: counts have two columns"),
        ("timestamp,value\n2014-04-10 00:00:00,2\n", "has 1 intervals: at least two are needed"),
    ],
)
def test_counts_that_are_none_are_named(write, text, told):
    with pytest.raises(TraceError, match=told):
        read_trace(write(text), "m", format="counts")


def test_plain_timestamps_may_have_any_origin(write):
    schedule = read_trace(write("# seconds\n1000.5\n1001\n\n1002.25\n"), "m")
    np.testing.assert_array_equal(schedule.scheduled_ns, [0, 500_000_000, 1_750_000_000])


def test_perf_analyzer_intervals_are_microseconds_and_the_first_delays_the_first_request(write):
    schedule = read_trace(write("100000\n200000\n500000\n"), "m", format="perf_analyzer")
    np.testing.assert_array_equal(schedule.scheduled_ns, [100_000_000, 300_000_000, 800_000_000])


def test_speed_up_squeezes_time(write):
    schedule = read_trace(write("0\n1\n4\n"), "m", speed_up=2)
    np.testing.assert_array_equal(schedule.scheduled_ns, [0, 500_000_000, 2_000_000_000])
    assert schedule.duration_s == pytest.approx(3.0)


def test_thinning_keeps_a_seeded_share_at_its_times(write):
    path = write("\n".join(str(i) for i in range(10_000)))
    thin = read_trace(path, "m", keep=0.3, seed=5)
    assert len(thin) == pytest.approx(3000, abs=200)
    assert (thin.scheduled_ns % 1_000_000_000 == 0).all()
    np.testing.assert_array_equal(thin.scheduled_ns, read_trace(path, "m", keep=0.3, seed=5).scheduled_ns)
    assert len(read_trace(path, "m", keep=0.3, seed=6)) != len(thin)
    assert thin.duration_s == read_trace(path, "m").duration_s


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0\n1\ntwo\n", {}, "line 3: 'two' is not a number"),
        ("0\n1\nnan\n", {}, "line 3: 'nan' is not a number"),
        ("", {}, "holds no times"),
        ("5\n5\n", {}, "spans no time"),
        (CSV + "yesterday,1\n", {}, "line 4: 'yesterday' is not a time"),
        ("Time,Tokens\n1,2\n", {"format": "azure"}, "no TIMESTAMP column"),
        ("10\n-3\n", {"format": "perf_analyzer"}, "line 2: '-3' is an interval below 0"),
        ("0\n1\n", {"keep": 0}, "keep is 0"),
        ("0\n1\n", {"speed_up": -1}, "speed_up is -1"),
    ],
)
def test_a_bad_trace_is_one_line_that_names_the_place(write, text, options, message):
    with pytest.raises(TraceError) as refusal:
        read_trace(write(text), "m", **options)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_trace_that_is_not_there(tmp_path):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.csv", "m")


def test_a_trace_can_be_turned_into_a_rate(write):
    schedule = read_trace(write("0\n0.5\n1\n1.5\n2\n12\n"), "m")
    pattern = trace_pattern(schedule, interval_s=10)
    np.testing.assert_allclose(pattern.rates, [0.5, 0.1])


@pytest.mark.skipif(not AZURE.exists(), reason="the Azure trace is not part of the project")
def test_the_azure_code_trace_is_as_bursty_as_its_readme_says():
    schedule = read_trace(AZURE, "m")
    assert len(schedule) == 8819
    assert schedule.duration_s == pytest.approx(57 * 60, rel=0.02)
    counts, _ = np.histogram(schedule.scheduled_s, bins=np.arange(0, schedule.duration_s))
    assert counts.var() / counts.mean() == pytest.approx(13, abs=1.5)
    fast = read_trace(AZURE, "m", speed_up=60)
    assert fast.rate_rps == pytest.approx(60 * schedule.rate_rps)


def test_a_format_of_ones_own_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORMATS, "_by_name", dict(FORMATS._by_name))
    (tmp_path / "minutes.py").write_text(
        "import numpy as np\nfrom loadgen.traces import Arrivals, TraceFormat\n"
        "class Minutes(TraceFormat):\n"
        "    name = 'minutes'\n"
        "    @classmethod\n"
        "    def arrivals(cls, source, reading):\n"
        "        return Arrivals(np.array([60 * 10**9 * int(line) for _, line in source.lines()]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trace.txt").write_text("0\n1\n3\n")
    schedule = read_trace(tmp_path / "trace.txt", "m", format="minutes:Minutes")
    assert schedule.scheduled_s.tolist() == [0, 60, 180]
    assert read_trace(tmp_path / "trace.txt", "m", format="minutes").scheduled_s.tolist() == [0, 60, 180]
    with pytest.raises(TraceError, match="unknown trace format 'azur': did you mean 'azure'"):
        read_trace(tmp_path / "trace.txt", "m", format="azur")
    sys.modules.pop("minutes", None)
