from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures, ValidityLimits, judge, only_late, samples_full_margin, samples_needed

MS = 1_000_000


def run(n: int = 1000, lag_ms: float = 0.1, latency_ms: float = 20.0, **statuses: int):
    """A run of n requests, the last of which have the given statuses, and a client at half of its core."""
    scheduled = np.arange(n) * 10 * MS
    status = np.full(n, "ok", dtype=object)
    place = n
    for name, count in statuses.items():
        status[place - count : place] = name
        place -= count
    sent = pd.Series(scheduled + int(lag_ms * MS), dtype="Int64")
    completed = pd.Series(scheduled + int(latency_ms * MS), dtype="Int64")
    sent[np.isin(status, ["dropped", "unsent"])] = pd.NA
    completed[status != "ok"] = pd.NA
    frame = pd.DataFrame({"scheduled_ns": scheduled, "sent_ns": sent, "completed_ns": completed, "status": status})
    frame["detail"] = None
    return Schedule(scheduled, np.full(n, "toy", dtype=object), n / 100), RequestLog(frame)


def client(**changes) -> ClientFigures:
    figures = {"worker": 0, "workers": 1, "pid": 1, "start_unix_ns": 0, "start_monotonic_ns": 0}
    return ClientFigures(**figures | {"finished": True, "cpu_s": 5.0, "wall_s": 10.0} | changes)


def test_a_run_that_kept_everything_is_valid():
    verdict = judge(*run(), [client()])
    assert verdict.valid
    assert verdict.reasons == ()
    assert verdict.figures["lag_p99_ms"] == pytest.approx(0.1)
    assert verdict.figures["latency_ms"] == pytest.approx(20)
    assert verdict.figures["client_cpu_share"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "figures", "sentence"),
    [
        ({"lag_ms": 3.0}, {}, "lag P99 3.00 ms, limit 2.00 ms"),
        ({"lag_ms": 12.0}, {}, "100.00% of requests were sent more than 10 ms late, limit 0.50%"),
        ({"dropped": 20}, {}, "980 of 1000 scheduled requests were sent (98.00%, limit 99.90%): 20 dropped"),
        ({"unsent": 2}, {}, "2 unsent"),
        ({"error": 15, "timeout": 5}, {}, "2.00% of sent requests failed (15 errors, 5 timeouts), limit 1.00%"),
        ({"n": 100}, {}, "100 answered requests are too few for P95: at least 130 at 99% confidence"),
        ({}, {"cpu_s": 9.7}, "97% of a core, limit 90%: use more processes"),
        (
            {},
            {"stopped": "rows-0.arrows: No space left on device"},
            "client 0 stopped issuing early: rows-0.arrows: No",
        ),
        ({}, {"finished": False}, "client 0 was killed before its end"),
    ],
)
def test_each_broken_limit_is_a_sentence_with_its_figures(arguments, figures, sentence):
    verdict = judge(*run(**arguments), [client(**figures)])
    assert not verdict.valid
    assert any(sentence in reason for reason in verdict.reasons), verdict.reasons


def test_a_lag_that_is_small_beside_the_latency_is_forgiven():
    assert not judge(*run(lag_ms=3, latency_ms=100), [client()]).valid
    assert judge(*run(lag_ms=3, latency_ms=200), [client()]).valid


def test_a_run_that_was_only_late_is_told_apart_from_one_that_failed_too():
    assert only_late(judge(*run(lag_ms=12.0), [client()]))
    assert not only_late(judge(*run(), [client()]))
    assert not only_late(judge(*run(lag_ms=12.0, error=20), [client()]))


def test_the_busiest_client_counts():
    verdict = judge(*run(), [client(cpu_s=1), client(worker=1, cpu_s=9.5)])
    assert verdict.figures["client_cpu_share"] == 0.95
    assert not verdict.valid


def test_limits_can_be_set():
    assert judge(*run(lag_ms=3), [client()], limits=ValidityLimits(lag_p99_s=0.005)).valid
    assert not judge(*run(), [client()], percentile=99.9).valid  # 1000 requests do not tell P99.9


def test_a_run_of_which_nothing_was_sent_is_invalid_and_says_so():
    verdict = judge(*run(n=10, unsent=10), [])
    assert not verdict.valid
    assert "latency_ms" not in verdict.figures  # missing, not zero


@pytest.mark.parametrize(("percentile", "needed"), [(90, 64), (95, 130), (99, 662)])
def test_sample_counts_are_those_of_loadgens_early_stopping(percentile, needed):
    assert samples_needed(percentile) == needed
    above = 1 - percentile / 100
    assert stats.binom.cdf(1, needed, above) <= 0.01 < stats.binom.cdf(1, needed - 1, above)


def test_the_fixed_rule_is_that_of_the_mlperf_rules():
    assert samples_full_margin(90) == pytest.approx(23_886, abs=2)
    assert samples_full_margin(99) == pytest.approx(262_742, abs=2)


@pytest.mark.parametrize("words", ["[request id: 7] Exceeds maximum queue size", "HTTP 503: Request timeout expired"])
def test_what_the_models_own_queue_policy_refuses_is_no_failed_run(words):
    schedule, log = run(error=700)
    log.frame.loc[log.frame["status"] == "error", "detail"] = words
    verdict = judge(schedule, log, [client()])
    assert verdict.valid
    assert (verdict.figures["refused"], verdict.figures["failed_share"]) == (700, 0)
    log.frame.loc[log.frame.index[-20:], "detail"] = "out of memory"
    verdict = judge(schedule, log, [client()])
    assert verdict.reasons[0].startswith("2.00% of sent requests failed (20 errors, 0 timeouts)")
    assert judge(*run(error=700), [client()]).figures["failed_share"] == 0.7  # nobody says why


def test_a_run_that_failed_says_the_servers_commonest_words():
    schedule, log = run(error=30)
    log.frame.loc[970:, "detail"] = ["HTTP 500: out of\nrange"] * 20 + ["HTTP 503: full"] * 10
    assert judge(schedule, log, [client()]).reasons[-1] == "most often: 'HTTP 500: out of range'"
    few, log = run(error=2)
    assert judge(few, log, [client()]).valid
