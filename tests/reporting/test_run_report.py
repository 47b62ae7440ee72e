"""The report of one run: what it says, and what its figures count."""

from __future__ import annotations

import json

import numpy as np
import pytest
from synthetic_runs import write_run

from loadgen.validity import Verdict
from testbed.errors import ReportError
from testbed.reporting.compare import compare_runs
from testbed.reporting.figures.run import by_second
from testbed.reporting.loading import load_run, open_folder
from testbed.reporting.reports import report_of, write_report
from tests.pages import figures_of, texts_of

ARRIVALS_NS = np.arange(400) * 25_000_000  # 40 a second, for 10 s
AFTER_S = ARRIVALS_NS / 1e9 + 0.125


def write(folder, run_id="mine", completed_s=AFTER_S, **more):
    write_run(folder, run_id, ARRIVALS_NS, completed_s, **more)
    return folder / run_id


def test_a_run_folder_has_a_page_with_its_figures_and_its_verdict(tmp_path):
    run = write(tmp_path)
    page = write_report(run).read_text()
    assert report_of(run).name == "run"
    assert "400 requests in 10 s (40.0 a second, at most 40 in one second): 400 answered, latency P50 125.0 ms" in page
    assert '<b class="tag">VALID</b>' in page
    assert 'role="alert"' not in page
    rates, latencies = figures_of(page)[:2]
    assert {"offered", "answered", "P95"} <= set(texts_of(rates))
    assert "P95 125 ms" in texts_of(latencies)
    assert "400 answered" in (run / "report.md").read_text()


def test_what_is_not_known_is_said_to_be_so(tmp_path):
    text = (write_report(write(tmp_path)).parent / "report.md").read_text()
    assert "| utilisation | not measured |" in text
    assert "| mean batch | not measured |" in text


def test_an_invalid_run_says_so_at_the_top_in_red_with_its_reasons(tmp_path):
    verdict = Verdict(valid=False, reasons=("34 % <unsent>",))
    page = write_report(write(tmp_path, verdict=verdict)).read_text()
    top = page[: page.index("<main")]
    assert 'class="alarm"' in top
    assert "34 % &lt;unsent&gt;" in top
    assert '<b class="tag">VALID</b>' not in page


def test_a_server_that_fell_behind_is_called_saturated_and_a_simulated_one_simulated(tmp_path):
    growing = ARRIVALS_NS / 1e9 * 1.5 + 0.01
    page = write_report(write(tmp_path, completed_s=growing, kind="simulated")).read_text()
    assert "SATURATED" in page
    assert '<b class="tag">SIMULATED</b>' in page


def test_every_request_is_counted_in_one_second(tmp_path):
    late = np.where(ARRIVALS_NS < 2e9, np.nan, AFTER_S)
    counted = by_second(load_run(write(tmp_path, completed_s=late, status=["timeout"] * 80 + ["ok"] * 320)))
    assert counted["offered"][:10].tolist() == [40] * 10
    assert counted["not answered"][:2].tolist() == [40, 40]
    assert counted["answered"].sum() == 320
    assert len(counted["offered"]) == 11  # the last answers come after the last second of the schedule


def test_a_real_run_and_its_simulation_are_compared_wherever_they_lie(tmp_path):
    real = write(tmp_path / "here", completed_s=AFTER_S)
    simulated = write(tmp_path / "there", "simulated", AFTER_S + 0.0125, kind="simulated")
    (row,) = compare_runs(real, simulated).runs
    assert row.p95_error_pct == pytest.approx(10)
    with pytest.raises(ReportError, match="give the real run, then its simulation"):
        compare_runs(simulated, real)


def test_one_run_alone_is_no_results_folder_to_compare(tmp_path):
    with pytest.raises(ReportError, match="is one run: `kis simulate --run"):
        open_folder(write(tmp_path))


def test_keys_that_only_a_testbed_knows_may_be_missing(tmp_path):
    """As Locust writes it."""
    run = write(tmp_path)
    manifest = json.loads((run / "run.json").read_text())
    for key in (
        "threads",
        "precision",
        "execution",
        "gpu_uuids",
        "repeat",
        "held_out",
        "machine",
        "simulates",
        "profile",
    ):
        del manifest[key]
    (run / "run.json").write_text(json.dumps(manifest))
    assert load_run(run).manifest.held_out is False
