"""What Locust's users see of a run: on the terminal, on its page, in its files, and in the run's own folder."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import flask
import pytest
from fake_http_server import FakeServer, Reply
from typed import LOADGEN, LONG_S, ask, free_port, locust, until_stopped

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import EXIT_INVALID
from loadgen.verdict_tab import VerdictTab
from testbed.reporting.loading import load_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEADLESS = ("--headless", "--only-summary", "--run-dir", "run")


@pytest.fixture
def server():
    with FakeServer() as running:
        yield running


@pytest.fixture
def typed(tmp_path, server):
    """Run Locust without a page to its end; its exit code and all that it printed."""

    def run(name: str, *arguments: str, **more: str) -> tuple[int, str]:
        process = locust(name, tmp_path, *HEADLESS, "--host", f"http://{server.address}", *arguments, **more)
        output, _ = process.communicate(timeout=LONG_S)
        return process.returncode, output

    return run


@pytest.fixture
def page(tmp_path, server):
    """Locust's page, until the end of the test; where it is."""
    port = free_port()
    process = locust(
        "bursty", tmp_path, "--host", f"http://{server.address}", "--web-host", "127.0.0.1", "--web-port", port,
        LOCUST_NO_PAGE="false",
    )  # fmt: skip
    yield port
    process.terminate()
    process.communicate(timeout=LONG_S)


def test_a_run_leaves_a_folder_that_every_command_reads_and_a_page(typed, tmp_path, server):
    _, output = typed("bursty", "-t", "2s", "--base", "40", "--seed", "3", LOCUST_NO_PAGE="false")
    run = load_run(tmp_path / "run")
    manifest = run.manifest
    assert (manifest.kind, manifest.state, manifest.pattern, manifest.seed) == ("real", "complete", "bursty", 3)
    assert manifest.pattern_parameters["base"] == 40
    assert (manifest.service.instances, manifest.service.max_batch_size) == (2, 8)  # as the server says
    assert manifest.device.name == f"server at {server.address}"
    assert manifest.verdict is not None
    assert run.metrics is None  # nobody sampled the server
    assert f"page: {tmp_path / 'run/report.html'}" in output
    assert len(run.schedule) == len(run.requests)
    assert f"{len(run.requests)} requests in 2 s" in (tmp_path / "run/report.html").read_text()


def test_locusts_words_on_users_are_replaced_by_one_line_on_the_arrivals(typed, tmp_path):
    _, output = typed("bursty", "-t", "2s", "-u", "50")
    count = len(Schedule.read(tmp_path / "run/schedule.parquet"))
    assert f"bursty, 2 s, {count} requests, open loop; users and ramp-up are not used" in output
    for misleading in ("Ramping to", "All users spawned", "No run time limit"):
        assert misleading not in output
    assert "a run of 2 s reaches 10 requests/s of the pattern's peak of 100: a longer one (-t) shows more" in output


def test_a_burst_that_begins_as_the_run_ends_is_missed(typed):
    _, output = typed("bursty", "-t", "2s", "--every-s", "3", "--spike-s", "1")
    assert "a run of 2 s reaches 10 requests/s of the pattern's peak of 100" in output


def test_the_exit_code_is_that_of_the_verdict_unless_invalid_is_allowed(typed, tmp_path):
    few = ("-t", "1s")  # too few requests for a P95
    assert typed("bursty", *few)[0] == EXIT_INVALID
    shutil.rmtree(tmp_path / "run")
    code, output = typed("bursty", *few, "--allow-invalid")
    assert code == 0
    assert "INVALID" in output


def test_a_request_that_failed_has_an_exit_code_of_its_own_where_invalid_is_allowed(typed, server):
    server.behave = lambda i: Reply(status=500)
    assert typed("bursty", "-t", "1s", "--allow-invalid")[0] == 1


def test_a_saturated_server_is_named(typed, server, tmp_path):
    server.behave = lambda i: Reply(delay_s=20.0)
    _, output = typed("bursty", "-t", "2s", "--base", "50", "--timeout-s", "0.5", "--max-in-flight", "10")
    counts = RequestLog.read(tmp_path / "run/requests.parquet").counts()
    assert counts["timeout"] + counts["dropped"] > 50
    assert "SATURATED: the server fell behind: 100.0% of requests timed out or were dropped" in output


def test_environment_variables_set_the_patterns_parameters(typed, tmp_path):
    typed("bursty", "-t", "1s", LOCUST_BASE="40", LOCUST_SPIKE="80", LOCUST_SEED="5")
    told = Schedule.read(tmp_path / "run/schedule.parquet").provenance
    assert (told["parameters"]["base"], told["parameters"]["spike"], told["seed"]) == (40, 80, 5)


def test_tags_are_harmless(typed, tmp_path):
    _, output = typed("bursty", "-t", "1s", "--tags", "x")
    assert "--tags and --exclude-tags have no effect" in output
    assert "Traceback" not in output
    assert RequestLog.read(tmp_path / "run/requests.parquet").ok.all()


def test_the_folder_of_all_patterns_is_refused_in_one_line(tmp_path):
    command = [sys.executable, "-m", "locust", "-f", str(LOADGEN), "--headless"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LONG_S)
    assert run.returncode == 1
    assert re.fullmatch(r"kis: \w+ and \w+ were both given with -f, a run has one pattern: .*\n", run.stderr)


def test_the_options_of_a_file_are_listed(tmp_path):
    run = locust("bursty", tmp_path, "--options")
    output, _ = run.communicate(timeout=LONG_S)
    assert run.returncode == 0
    assert {"--spike", "--burst-seed", "--shape", "--seed", "--run-dir"} <= set(re.findall(r"--[\w-]+", output))


def test_json_on_stdout_has_nothing_else_beside_it(tmp_path, server):
    command = [sys.executable, "-m", "locust", "-f", str(LOADGEN / "bursty.py"), *HEADLESS, "--no-page", "--json"]
    command += ["--host", f"http://{server.address}", "-t", "1s"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LONG_S)
    (statistics,) = json.loads(run.stdout)
    assert statistics["num_requests"] == len(server.seen)
    assert "INVALID" in run.stderr


def test_the_csv_has_the_last_second_too(typed, tmp_path, server):
    typed("bursty", "-t", "2s", "--base", "100", "--csv", "told")
    rows = list(csv.DictReader((tmp_path / "told_stats.csv").open()))
    assert int(rows[-1]["Request Count"]) == len(server.seen)


def test_a_trace_is_replayed_instead_of_the_pattern_and_cut_at_the_run_time(typed, tmp_path, server):
    (tmp_path / "azure.csv").write_text("TIMESTAMP,Tokens\n" + "".join(f"2024-01-01 00:00:0{k},1\n" for k in range(9)))
    _, output = typed("bursty", "--trace", "azure.csv", "--speed-up", "4", "-t", "1s")
    assert Schedule.read(tmp_path / "run/schedule.parquet").scheduled_s.tolist() == [0, 0.25, 0.5, 0.75]
    assert load_run(tmp_path / "run").manifest.pattern == "trace"
    assert "trace, 1 s, 4 requests, open loop" in output
    assert len(server.seen) == 4


def test_a_trace_has_a_file_of_its_own_that_reads_any_format(typed, tmp_path, server):
    (tmp_path / "burst.csv").write_text(
        "Timestamp,Model,Request tokens\n" + "".join(f"{k // 2},{'ab'[k % 2]},3\n" for k in range(8)) + "3,a,1\n"
    )
    _, output = typed("replay_trace", "--trace", "burst.csv", "--where", "model=a", "--spread", "--max-gap-s", "5")
    run = load_run(tmp_path / "run")
    assert len(server.seen) == 5
    assert run.manifest.pattern == "trace"
    assert run.manifest.pattern_parameters["where"] == {"model": "a"}
    assert run.manifest.pattern_parameters["spread_s"] == 1
    assert any("its clock counts in steps of 1 s" in note for note in run.manifest.notes), output


def test_the_form_has_a_field_for_each_parameter_and_none_for_what_scripts_need(page):
    ask(page, "stats/requests")  # it is up
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/") as answer:
        (told,) = re.findall(r"templateArgs = (.*)", answer.read().decode())
    fields = json.loads(told)["extra_options"]
    assert {"base", "spike", "spike_s", "every_s", "burst_seed", "model", "seed", "run_dir", "trace"} <= set(fields)
    assert fields["spike"]["default_value"] == 100
    assert not {"allow_invalid", "no_page", "options"} & set(fields)
    assert list(fields)[:7] == ["base", "spike", "spike_s", "every_s", "mode", "burst_seed", "model"]


def test_the_page_has_a_tab_with_each_verdict_and_says_if_arrivals_are_sent_again(page, tmp_path):
    form = {"user_count": 1, "spawn_rate": 1, "run_time": "1s", "base": "30", "burst_seed": "2"}
    assert ask(page, "swarm", form)["success"]
    verdict, *why = rows(until_stopped(page))  # a busy machine adds that requests were late
    count = len(RequestLog.read(next((tmp_path / "results").glob("*/requests.parquet"))))
    assert (verdict["verdict"], verdict["why"]) == ("INVALID", f"{count} ok")
    in_locusts_own_report = [one["msg"] for one in ask(page, "exceptions")["exceptions"]]
    for told in ([one["why"] for one in why], in_locusts_own_report):
        assert any("too few for P95" in reason for reason in told)

    assert ask(page, "swarm", form)["success"]
    while len(rows(ask(page, "stats/requests"))) < 1 + len(why) + 2:
        time.sleep(0.1)
    logs = ask(page, "logs")["master"]
    assert any("the same arrivals as in the run before are sent again (seed 0)" in line for line in logs)
    told = [Schedule.read(file).provenance["parameters"] for file in (tmp_path / "results").glob("*/schedule.parquet")]
    assert [(one["base"], one["burst_seed"]) for one in told] == [(30, 2), (30, 2)]


@pytest.mark.parametrize(
    ("field", "value", "said"), [("model", "toi", "toi"), ("host", "http://127.0.0.1:1", "refused")]
)
def test_why_a_run_did_not_start_is_on_the_page(page, field, value, said):
    ask(page, "swarm", {"user_count": 1, "spawn_rate": 1, field: value})
    first = rows(until_stopped(page))[0]
    assert first["verdict"] == "NOT STARTED"
    assert said in first["why"]
    assert any("ERROR/kis: " in line and said in line for line in ask(page, "logs")["master"])


def rows(statistics: dict) -> list[dict[str, str]]:
    """Of the tab."""
    (tab,) = statistics["extended_stats"]
    return tab["data"]


def test_each_run_has_a_page_of_its_own_that_opens_before_it_is_drawn():
    class Web:
        app, template_args = flask.Flask("test"), {}
        auth_required_if_enabled = staticmethod(lambda view: view)

    def said(path: str) -> str:
        return Web.app.test_client().get(path).get_data(as_text=True)

    tab = VerdictTab(Web, "/base")
    assert "no run has a page yet" in said("/base/run")
    first = tab.add("results/one", "VALID", ["9 ok"], page=True)
    tab.add("", "NOT STARTED", ["refused"], page=False)
    second = tab.add("results/two", "VALID", ["8 ok"], page=True)
    assert "is being drawn" in said("/base/run/1")
    assert 'http-equiv="refresh"' in said("/base/run/1")
    tab.set_page(first, Path(__file__))
    tab.set_page(second, "no <space> left")
    assert said("/base/run/1") == Path(__file__).read_text()
    assert "no &lt;space&gt; left" in said("/base/run/2")
    assert said("/base/run") == said("/base/run/2")
    assert "refresh" not in said("/base/run/2")
    assert "there is no run 3" in said("/base/run/3")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_the_pattern_is_set_in_the_form_and_the_verdict_stands_on_its_tab(page, tmp_path):
    from playwright.sync_api import sync_playwright

    ask(page, "stats/requests")  # it is up
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        tab = browser.new_page()
        tab.goto(f"http://127.0.0.1:{page}/")
        for part in ("Advanced options", "Custom parameters"):
            tab.get_by_text(part).click()
        for name in ("userCount", "spawnRate"):
            field = tab.locator(f".MuiFormControl-root:has(input[name={name}])").last
            assert "not used" in field.evaluate("one => getComputedStyle(one, '::after').content")
            assert "not used" in tab.locator(f"input[name={name}]").get_attribute("aria-description")
            assert tab.locator(f"input[name={name}]").input_value() == "1"
        tab.locator("input[name=runTime]").fill("1s")
        tab.locator("input[name=base]").fill("30")
        tab.get_by_role("button", name="Start").click()
        tab.get_by_role("tab", name="Verdict").click()
        tab.get_by_text("are too few for P95").wait_for(timeout=1000 * LONG_S)
        assert tab.get_by_text("INVALID").count() == 1
        link = tab.get_by_role("link", name="open")
        with tab.context.expect_page() as opened:
            link.click()
        opened.value.get_by_text("requests in 1 s").wait_for(timeout=1000 * LONG_S)
        assert opened.value.url == f"http://127.0.0.1:{page}/run/1"
    (schedule,) = (tmp_path / "results").glob("*/schedule.parquet")
    assert Schedule.read(schedule).provenance["parameters"]["base"] == 30
