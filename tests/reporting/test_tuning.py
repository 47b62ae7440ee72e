"""The sentence over a search for an HPA."""

from __future__ import annotations

from typing import Any

from testbed.reporting.tuning import sentence


def result(gpu_seconds: float, missed: float = 0.01, **changes: Any) -> dict[str, Any]:
    """The tuned HPA takes so many GPU-seconds; five replicas all the time take 1000."""
    policy = {"kind": "hpa", "metric": "queue_time_ms", "target": 5.0, "min_replicas": 2, "max_replicas": 8}
    outcomes = {
        "untuned": {"slo_violation_rate": 0.004, "gpu_seconds": 1200.0},
        "tuned": {"slo_violation_rate": missed, "gpu_seconds": gpu_seconds},
    }
    fixed = {"replicas": 5, "slo_violation_rate": 0.0, "gpu_seconds": 1000.0}
    return {
        "allowed_slo_violation_rate": 0.02,
        "policies": {"untuned": policy, "tuned": policy},
        "outcomes": outcomes,
        "chosen": "tuned",
        "holds": missed <= 0.02,
        "fixed": fixed,
        **changes,
    }


def said(**changes: Any) -> str:
    return sentence(result(**changes), 30.0).replace("\u202f", ",")


def test_what_it_saves_is_told() -> None:
    assert said(gpu_seconds=750.0) == (
        "Use the tuned HPA, queue_time_ms at 5 a pod, 2 to 8 replicas: 1.00 % of the requests miss 30 ms (2.00 % "
        "allowed) with 750 GPU-seconds a run, 25 % fewer than 5 replicas all the time; the untuned one takes 1,200 and "
        "misses 0.40 %."
    )


def test_one_that_saves_nothing_is_not_recommended() -> None:
    assert said(gpu_seconds=995.0).startswith("A fixed number is as good: 5 replicas all the time")
    assert said(gpu_seconds=1500.0).startswith("A fixed number is as good: 5 replicas all the time")


def test_where_nothing_holds_it_is_said_with_what_would() -> None:
    text = said(gpu_seconds=750.0, missed=0.5)
    assert text.startswith("No HPA that was tried holds the target: under the best of them 50.00 %")
    assert "but 5 replicas all the time hold that share with 1,000 GPU-seconds a run" in text
    assert "neither does the largest fixed number" in said(gpu_seconds=750.0, missed=0.5, fixed=None)


def test_where_the_given_one_is_better_it_is_the_one_to_use() -> None:
    assert said(gpu_seconds=900.0, chosen="untuned", fixed=None).startswith("Use the untuned HPA")
