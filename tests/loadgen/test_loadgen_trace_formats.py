"""Traffic as people have it: each file below is written as its tool writes it, and needs no word of explanation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.schedule import TraceError
from loadgen.traces import FORMATS, Recorded, read_recorded
from loadgen.traces.source import ROWS

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-12 00:00:00.250000+00:00,1452,3\n"
    "2024-05-12 00:00:01+00:00,584,3\n2024-05-12 00:00:01.500000+00:00,862,38\n"
)
AZURE_2025 = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n" + "".join(
    f"2024-05-12 00:00:0{second}+00:00,0,5,3\n" for second in ("0.25", "1", "1.5")
)
OTHER_ZONE = AZURE.replace("00:00:00.250000+00:00", "02:00:00.25+02:00")
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + "".join(
    f"{time},{model},472,{tokens},490,Conversation log\n"
    for time, model, tokens in (
        (100, "ChatGPT", 18),
        (103, "GPT-4", 18),
        (103, "ChatGPT", 0),
        (103, "GPT-4", 7),
        (103, "ChatGPT", 7),
        (110, "GPT-4", 9),
    )
)
FUNCTIONS = "app,func,end_timestamp,duration\na,f,100.5,0.4\na,f,120.0,30.0\nb,g,101.0,0.2\n"
MINUTES = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,2,1,0\no,a,g,queue,0,1,0\n"
K6 = (
    "metric_name,timestamp,metric_value,check,method,url\nhttp_reqs,1700000000,1,,GET,http://h/?a=1#b\n"
    "http_req_duration,1700000000,221.8,,GET,http://h/\nhttp_reqs,1700000002,1,,GET,http://h/\n"
)
VEGETA = "".join(
    json.dumps({"attack": "", "seq": 0, "code": code, "timestamp": f"2024-01-01T00:00:0{at}Z", "latency": 12}) + "\n"
    for at, code in (("0.100", 200), ("0.500", 500), ("1.200", 0))
)
NGINX = (
    '10.0.0.1 - - [27/Oct/2024:02:59:59 +0200] "GET /a HTTP/1.1" 200 512 "-" "curl/8.5" 4.500\n'
    '10.0.0.1 - - [27/Oct/2024:02:00:01 +0100] "GET /b HTTP/1.1" 200 512 "-" "curl/8.5" 0.500\n'
)
APACHE = '::1 - bob [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326\n' * 2 + (
    '::1 - bob [10/Oct/2000:13:55:39 -0700] "GET /a HTTP/1.0" 200 2326\n'
)
ENVOY = "".join(
    f'[2016-04-15T20:17:0{second}Z] "POST /api HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "agent" "id" "host" "up:80"\n'
    for second in ("0.310", "1.560")
)
SPANS = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]},
            "scopeSpans": [{"spans": [{"kind": kind, "startTimeUnixNano": str(ns)} for kind, ns in spans]}],
        }
        for name, spans in {
            "api": [(2, 1_700_000_000_100_000_000), (3, 1_700_000_000_200_000_000)],
            "store": [("SPAN_KIND_SERVER", 1_700_000_000_600_000_000), (1, 1_700_000_000_500_000_000)],
        }.items()
    ]
}
RATES = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {"metric": {"pod": "a"}, "values": [[60, "0.05"], [120, "0.1"], [240, "0.05"]]},
            {"metric": {"pod": "b"}, "values": [[60, "0.05"], [120, "NaN"]]},
        ],
    },
}
SEMICOLONS = 'nr;Time;message\n1;1,5;"a; b"\n2;4,5;"c"\n'
QUOTED = 'nr,message,when\n1,"1,024 bytes",2024-01-01 00:00:00\n2,"two\nlines",2024-01-01 00:00:07.5Z\n'
JSON = '{"ts": 1700000000123, "a": {"id": "x"}}\n{"ts": 1700000001123, "a": {"id": "y"}}\n'
NGINX_JSON = (
    '{"msec": "1700000005.500", "request_time": "4.500", "uri": "/"}\n'
    '{"msec": "1700000003.000", "request_time": "0.500", "uri": "/"}\n'
)
NGINX_KEYS = (
    '1.1.1.1 - - [27/Oct/2024:02:00:05 +0000] "GET /a HTTP/1.1" 200 5 "-" "curl" rt=4.500 uct="0.000" urt="4.499"\n'
    '1.1.1.1 - - [27/Oct/2024:02:00:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "curl" rt=0.500 uct="0.000" urt="-"\n'
)
INGRESS = (
    '1.1.1.1 - - [27/Oct/2024:02:00:05 +0000] "GET / HTTP/1.1" 200 5 "-" "curl" 1234 4.500 [a-80] [] 1:8000 5 4.4 200\n'
    '1.1.1.1 - - [27/Oct/2024:02:00:03 +0000] "GET / HTTP/1.1" 200 5 "-" "curl" 1234 0.500 [a-80] [] 1:8000 5 0.4 200\n'
)
AGENT = "".join(
    f'1.1.1.1 - - [27/Oct/2024:02:00:0{second} +0000] "GET / HTTP/1.1" 200 5 "-" "Some Agent {version}"\n'
    for second, version in ((0, "4.5"), (3, "0.5"))
)
ALB = "".join(
    f'https {time} app/lb/50dc 192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 3 6 "GET https://h:80/ H" -\n'
    for time in ("2018-07-02T22:23:00.5Z", "2018-07-02T22:23:02Z")
)
IIS = (
    "#Software: IIS\n#Fields: date time cs-method time-taken\n2024-01-01 00:00:01 GET 15\n2024-01-01 00:00:04 GET 15\n"
)
LOGGING = "2024-01-01 00:00:00,250 INFO GET /\n2024-01-01 00:00:01,500 INFO GET /\n"
MOONCAKE = "".join(f'{{"timestamp": {at}, "input_length": 5, "hash_ids": [0]}}\n' for at in (0, 3052, 6000))
K6_JSON = '{"type":"Metric","data":{"name":"http_reqs"},"metric":"http_reqs"}\n' + "".join(
    json.dumps({"type": "Point", "metric": metric, "data": {"time": f"2024-01-01T00:00:0{second}.1+01:00", "value": 1}})
    + "\n"
    for second in (1, 3)
    for metric in ("http_reqs", "http_req_duration")
)
SAMPLES = "timestamp,Name,Requests/s\n" + "".join(f"17000000{k:02},Aggregated,{k}.5\n" for k in range(12))
DATES = "2024-01-01T00:00:00Z\n2024-01-01T01:00:01.5+01:00\n"


def answer(*values: Any) -> str:
    series = [{"metric": {"series": str(place)}, "values": one} for place, one in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


@pytest.fixture
def read(tmp_path: Path):
    def read(content: str | bytes, **reading: Any) -> Recorded:
        path = tmp_path / "traffic"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_recorded(path, **reading)

    return read


@pytest.mark.parametrize(
    ("content", "reading", "name", "times_s"),
    [
        (AZURE, {}, "azure", [0, 0.75, 1.25]),
        (AZURE_2025, {}, "azure", [0, 0.75, 1.25]),
        (OTHER_ZONE, {}, "azure", [0, 0.75, 1.25]),
        ("\ufeff" + AZURE.replace("TIMESTAMP", "Timestamp"), {}, "azure", [0, 0.75, 1.25]),
        (BURSTGPT, {}, "burstgpt", [0, 3, 3, 3, 3, 10]),
        (BURSTGPT, {"where": {"Model": "ChatGPT"}}, "burstgpt", [0, 3, 3]),
        (FUNCTIONS, {}, "azure_functions_2021", [0, 10.1, 10.8]),
        (MINUTES, {}, "azure_functions_2019", [15, 45, 75, 105]),
        (MINUTES, {"where": {"HashFunction": "f"}}, "azure_functions_2019", [15, 45, 90]),
        (K6, {}, "k6", [0, 2]),
        (VEGETA, {}, "vegeta", [0, 0.4, 1.1]),
        (NGINX, {}, "access_log", [0, 6]),
        (APACHE, {}, "access_log", [0, 0, 3]),
        (ENVOY, {}, "envoy", [0, 1.25]),
        (json.dumps(SPANS), {}, "otlp", [0, 0.5]),
        (json.dumps(SPANS, indent=1), {}, "otlp", [0, 0.5]),
        (f"{json.dumps(SPANS)}\n" * 2, {"where": {"service.name": "api"}}, "otlp", None),
        (json.dumps(RATES), {}, "prometheus", [10 * k + 5 for k in range(6)] + [10 * k + 5 for k in range(6, 12)]),
        (SEMICOLONS, {}, "csv", [0, 3]),
        (SEMICOLONS.replace(";", "\t").replace("1,5", "1.5").replace("4,5", "4.5"), {}, "csv", [0, 3]),
        (QUOTED, {}, "csv", [0, 7.5]),
        (QUOTED, {"column": "nr", "unit": "ms"}, "csv", [0, 0.001]),
        (JSON, {}, "json_lines", [0, 1]),
        (JSON, {"where": {"a.id": "y"}, "column": "ts"}, "json_lines", None),
        (DATES, {}, "timestamps", [0, 1.5]),
        (NGINX_JSON, {}, "nginx_json", [0, 1.5]),
        (NGINX_KEYS, {}, "access_log", [0, 2]),
        (INGRESS, {}, "access_log", [0, 2]),
        (AGENT, {}, "access_log", [0, 3]),
        (ALB, {}, "dated_log", [0, 1.5]),
        (IIS, {}, "dated_log", [0, 3]),
        (LOGGING, {}, "dated_log", [0, 1.25]),
        ("2024-01-01 00:00:00,105\n2024-01-01 00:00:07,210.5\n", {}, "dated_log", [0, 7]),
        (MOONCAKE, {}, "mooncake", [0, 3.052, 6]),
        (K6_JSON, {}, "k6", [0, 2]),
        (f"[{JSON.strip().replace(chr(10), ', ')}]", {}, "json_lines", [0, 1]),
        (json.dumps([{"timestamp": 1}, {"timestamp": 2.5}], indent=1), {}, "json_lines", [0, 1.5]),
        ("arrival_ms,x\n5,1\n7,1\n", {}, "csv", [0, 0.002]),
        ("arrival_ms,x\n5,1\n7,1\n", {"unit": "s"}, "csv", [0, 2]),
        ("a|time\n5|1\n7|3\n", {}, "csv", [0, 2]),
        ("timestamp,x\n2024-01-01 00:00:00 UTC,1\n2024-01-01 00:00:02.5 UTC,1\n", {}, "csv", [0, 2.5]),
        ("timestamp,x\n1,2\n4,3\n".encode("utf-16"), {}, "csv", [0, 3]),
        ("timestamp;x\n1;é\n4;é\n".encode("latin-1"), {}, "csv", [0, 3]),
        ("timestamp,rps\n0,0.1\n60,0.025\n120,0.025\n", {}, "rates", [5, 15, 25, 35, 45, 55, 75, 105, 150]),
        (SAMPLES, {"format": "rates", "column": "Requests/s"}, "rates", [1.25, 1.75]),
        (SAMPLES, {"column": "timestamp"}, "csv", list(range(12))),
        ("TIMESTAMP,COUNT\n0,2\n60,2\n", {}, "counts", [15, 45, 75, 105]),
        ("timestamp,count\n0,2\n60,2\n600,1\n660,1\n", {}, "counts", [15, 45, 75, 105, 630, 690]),
        ("1700000000123456\n1700000001123456\n", {}, "timestamps", [0, 1]),
        ("5\n7\n", {"unit": "ms"}, "timestamps", [0, 0.002]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_it_is(read, content, reading, name, times_s, packed) -> None:
    content = content if isinstance(content, bytes) else content.encode()
    if packed and content.startswith(b"\xff\xfe"):
        pytest.skip("UTF-16 is what a shell writes, unpacked")
    data = gzip.compress(content, mtime=0) if packed else content
    if times_s is None:  # one request, or one time: the right one, which is no traffic
        with pytest.raises(TraceError, match="spans no time"):
            read(data, **reading)
        return
    found = read(data, **reading)
    assert found.format == name
    assert (found.times_ns[: len(times_s)] / 1e9).tolist() == times_s


def test_every_format_has_a_file_above_or_must_be_named() -> None:
    told = {"azure", "burstgpt", "azure_functions_2021", "azure_functions_2019", "k6", "vegeta", "access_log", "envoy"}
    told |= {"otlp", "prometheus", "csv", "json_lines", "timestamps", "nginx_json", "mooncake", "dated_log", "rates"}
    assert set(FORMATS.known()) == told | {"perf_analyzer", "counts"}


def test_a_rate_of_prometheus_adds_its_series_up_and_a_missing_sample_is_no_traffic(read) -> None:
    found = read(json.dumps(RATES))
    counts, _ = np.histogram(found.times_ns / 1e9, bins=[0, 60, 120, 180, 240])
    assert counts.tolist() == [6, 6, 0, 3]
    assert found.duration_s == 240
    assert any("2 samples are missing" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "reading", "told"),
    [
        ("time,start\n1,2\n3,4\n", {}, "columns may each be the time: time, start: name one with column"),
        ("a,b\n1,2\n3,4\n", {}, "no column is known as the time: a, b: name one with column"),
        (QUOTED + '3,"x",yesterday\n', {}, "line 5: 'yesterday' is not a time"),
        (QUOTED + "\n3,x\n", {}, "line 6: '' is not a time"),
        (QUOTED, {"column": "whenever"}, "no column 'whenever' (found: nr, message, when)"),
        (BURSTGPT, {"where": {"Model": "chatgpt"}}, "no row has Model = chatgpt"),
        (JSON + "{oh\n", {}, "line 3: '{oh' is not JSON"),
        (JSON + '{"t": 3}\n', {}, "line 3: '{\"t\": 3}' has no field ts"),
        (NGINX + "a line\n", {}, "line 3: 'a line' has no time such as"),
        (NGINX.replace("27/Oct", "37/Oct"), {}, "line 1: '37/Oct/2024:02:59:59 +0200' is not a time"),
        (MINUTES.replace("2,1,0", "2,x,0"), {}, "line 2: 'x' is no count"),
        (MINUTES.replace("1,2,3", "1,2,4"), {}, "no columns 1, 2, 3"),
        (MINUTES.replace("2,1,0", "2,999999999,0"), {}, "counts 1,000,000,002 requests, more than"),
        (json.dumps({"resourceSpans": []}), {}, "no span of kind SERVER"),
        (json.dumps(RATES).replace('"values"', '"value"'), {}, "is no answer to a range query"),
        ("Dear all\n0\n", {}, "line 1: 'Dear all' is of no format that shows: give a CSV with headings"),
        ("1e30\n2e30\n", {}, "line 1: '1e30' is too far from 0"),
        ("0\n1\n", {"unit": "h"}, "unit: Input should be 's'"),
        ("0\n1\n", {"format": "azur"}, "did you mean 'azure'"),
        (b"PK\x03\x04", {}, "is a zip file or a workbook: unpack it, or save it as CSV"),
        (b"PAR1", {}, "is a Parquet file: write its times as CSV"),
        (b"0\n\x00\n", {}, "is not a text file"),
        (b"0\n\xff\xfe\n", {}, "line 2: '\ufffd\ufffd' is not a number"),
        ("1700000000123\n1700000000\n", {}, "line 2: '1700000000' is too small: times in milliseconds are expected"),
        (FUNCTIONS.replace("0.4", "-0.4"), {}, "line 2: '-0.4' is a duration below 0"),
        ("time,x\n1,2\n1,5,3\n", {}, "line 3: '1,5,3' has 3 fields below 2 headings"),
        ("timestamp,x\n", {}, "holds no times"),
        (SAMPLES, {}, "its rows are 1 s apart, as samples are, and not requests: rates are read with format: rates"),
        ("timestamp,count\n0,1.5\n60,2\n", {}, "line 2: '1.5' is no count: give a whole number of requests; format: r"),
        (
            answer([[60 * k, str(5000 + 60 * k)] for k in range(5)]),
            {},
            "5000 to 5240 look like a counter's",
        ),
        (
            answer([[0, "900"], [60, "20"]]).replace('"series"', '"__name__"').replace('"0"', '"x_total"'),
            {},
            "a counter's",
        ),
        (
            '{"status": "error", "errorType": "bad_data", "error": "no"}',
            {},
            "is an error of Prometheus (no): query again",
        ),
        ("2024-01-01 00:00:00,123 INFO a\n  File x\n", {}, "line 2: 'File x' has no date"),
        (gzip.compress(AZURE.encode(), mtime=0)[:-12], {}, "is a gzip file that is cut off"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_what_to_do(read, content, reading, told) -> None:
    with pytest.raises(TraceError) as refusal:
        read(content, **reading)
    assert told in str(refusal.value)
    assert "traffic" in str(refusal.value) or "unit" in reading or "format" in reading
    assert "\n" not in str(refusal.value)


def test_answers_of_prometheus_that_overlap_are_counted_once(read) -> None:
    both = answer([[0, "1"], [60, "1"]]) + "\n" + answer([[60, "1"], [120, "1"]])
    assert len(read(both).times_ns) == 180
    assert len(read(answer([[60 * k, str(60 * k)] for k in range(6)]), format="prometheus").times_ns) == 60 * 60 * 15


def test_spans_of_several_services_are_told(read) -> None:
    (note,) = read(json.dumps(SPANS)).notes
    assert "of 2 services (api: 1, store: 1), and a request may have one in each" in note


def test_few_rows_as_regular_as_a_clock_are_requests_and_that_is_told(read) -> None:
    _, note = read("timestamp,x\n0,1\n60,1\n120,1\n").notes
    assert "its rows are 60 s apart, as samples are, and not requests: rates are read with" in note
    assert len(read("timestamp,x\n0,1\n60,1\n120,1\n122,1\n").notes) == 1


def test_a_column_that_was_found_is_told_and_one_that_was_named_is_not(read) -> None:
    (note,) = read(QUOTED).notes
    assert note == "traffic: the times are of column when, in ISO 8601: 2 requests in 7.5 s"
    assert read(QUOTED, column="when", unit="iso").notes == ()
    (note,) = read(JSON).notes
    assert note == "traffic: the times are of field ts, in milliseconds: 2 requests in 1.0 s"


def test_lines_that_are_out_of_order_are_sorted_and_that_is_told(read) -> None:
    found = read("1\n0\n3\n2\n")
    assert (found.times_ns / 1e9).tolist() == [0, 1, 2, 3]
    assert found.notes == ("traffic: 2 of 4 requests stand after a later one: they are sorted by time",)
    assert read(FUNCTIONS).notes == ()  # such a file is in no order


def test_an_access_log_without_durations_says_that_it_has_ends(read) -> None:
    (note, _) = read(APACHE).notes
    assert note.startswith("traffic: 3 of 3 lines have no duration")


def test_requests_of_one_second_are_told_and_spread_only_if_that_is_asked_for(read) -> None:
    as_written = read(BURSTGPT)
    assert as_written.resolution_s == 1
    assert any(
        "steps of 1 s, and 60% of the requests share one with an earlier one" in note for note in as_written.notes
    )
    spread = read(BURSTGPT, spread=True, seed=3)
    second = spread.times_ns[1:5]
    assert np.diff(second) == pytest.approx(0.25e9, abs=1000)  # one each quarter of their second
    assert (second // 10**9 == 3).all()
    assert spread.spread_s == 1
    assert np.array_equal(spread.times_ns, read(BURSTGPT, spread=True, seed=3).times_ns)
    assert not np.array_equal(spread.times_ns, read(BURSTGPT, spread=True, seed=4).times_ns)


def test_ends_of_one_second_are_spread_before_their_durations_are_taken_off(read) -> None:
    line = '::1 - - [27/Oct/2024:02:00:0{} +0000] "GET / HTTP/1.1" 200 5 "-" "-" {}\n'
    log = "".join(line.format(*each) for each in ((1, "0.100"), (1, "0.100"), (1, "0.100"), (1, "0.100"), (9, "0.000")))
    as_written, spread = read(log), read(log, spread=True)
    assert as_written.resolution_s == spread.spread_s == 1
    assert np.diff(as_written.times_ns / 1e9).tolist() == [0, 0, 0, 8.1]
    assert np.diff(spread.times_ns[:4]) == pytest.approx(0.25e9, abs=1000)


def test_a_fine_clock_is_not_called_coarse(read) -> None:
    assert read("0.123456\n0.123456\n1.5\n").notes == ()
    assert read("0\n1\n2\n").notes == ()  # nobody shares a second


LONG_GAP = "0\n1\n2\n604802\n604803\n"


def test_a_gap_of_a_week_is_told_and_does_not_lengthen_the_end(read) -> None:
    found = read(LONG_GAP)
    assert found.duration_s == 604804
    (note,) = found.notes
    assert "spans 604,803 s (7.0 days), with a gap of 604,800 s" in note
    assert "max_gap_s" in note


def test_a_gap_of_half_an_hour_is_not_worth_a_word(read) -> None:
    assert read("0\n1\n2\n1802\n1803\n").notes == ()


def test_a_wrong_row_far_down_is_named_by_its_line(read) -> None:
    rows = [f'{k},"two\nlines"' for k in range(ROWS + 5)]
    with pytest.raises(TraceError, match=rf"line {2 * (ROWS + 5) + 2}: 'noon' is not a number"):
        read("\n".join(["time,what", *rows, "noon,x"]))


def test_gaps_can_be_cut(read) -> None:
    found = read(LONG_GAP, max_gap_s=10)
    assert (found.times_ns / 1e9).tolist() == [0, 1, 2, 12, 13]
    assert 14 <= found.duration_s <= 17
    assert found.notes == ("traffic: gaps are cut to 10 s (max_gap_s): 1, by 604,790 s together",)
    counted = read("timestamp,count\n0,0\n3600,2\n7200,0\n", max_gap_s=60)
    assert (counted.times_ns / 1e9).tolist() == [60, 120]
    assert counted.duration_s == 180


def test_long_nights_of_a_sparse_trace_are_its_own(read) -> None:
    assert read("\n".join(str(60 * k + 28800 * (k // 10)) for k in range(40))).notes == ()
