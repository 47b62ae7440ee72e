"""The sentence over a search for an autoscaler."""

from __future__ import annotations

from typing import Any

from testbed.reporting.tuning import policy_text, sentence

HPA = {"kind": "hpa", "metric": "queue_time_ms", "target": 5.0, "min_replicas": 2, "max_replicas": 8}


def result(gpu_seconds: float, missed: float = 0.01, **changes: Any) -> dict[str, Any]:
    """The tuned HPA takes so many GPU-seconds; five replicas all the time take 1000, the policy of today 1200."""
    outcomes = {
        "given": {"slo_violation_rate": 0.004, "gpu_seconds": 1200.0},
        "fixed": {"slo_violation_rate": 0.0, "gpu_seconds": 1000.0},
        "hpa": {"slo_violation_rate": missed, "gpu_seconds": gpu_seconds},
    }
    return {
        "allowed_slo_violation_rate": 0.02,
        "policies": {"given": HPA, "hpa": HPA, "fixed": {"kind": "fixed", "replicas": 5}},
        "outcomes": outcomes,
        "chosen": "hpa",
        "holds": missed <= 0.02,
        "fixed": {"replicas": 5, **outcomes["fixed"]},
        **changes,
    }


def said(**changes: Any) -> str:
    return sentence(result(**changes), 30.0).replace("\u202f", ",")


def test_what_it_saves_is_told() -> None:
    assert said(gpu_seconds=750.0) == (
        "Use hpa, an HPA of queue_time_ms at 5 a pod, 2 to 8 replicas: 1.00 % of the requests miss 30 ms (2.00 % "
        "allowed) with 750 GPU-seconds a run, 25 % fewer than 5 replicas all the time; given takes 1,200."
    )


def test_where_a_fixed_number_is_chosen_it_is_the_answer() -> None:
    text = said(gpu_seconds=995.0, chosen="fixed")
    assert text.startswith("A fixed number is as good on this traffic: with 5 replicas all the time 0.00 %")
    assert text.endswith("; hpa takes 995.")


def test_where_nothing_holds_it_is_said_with_what_would() -> None:
    text = said(gpu_seconds=750.0, missed=0.5)
    assert text.startswith("Nothing that was tried holds the target: under the best of it, hpa, 50.00 %")
    assert "but 5 replicas all the time hold that share with 1,000 GPU-seconds a run" in text
    assert "neither does the largest fixed number" in said(gpu_seconds=750.0, missed=0.5, fixed=None)


def test_where_the_given_one_is_better_it_stays() -> None:
    assert said(gpu_seconds=900.0, chosen="given", fixed=None).startswith("Stay with today's policy, an HPA of queue")


def test_a_policy_is_told_by_what_was_chosen_of_it() -> None:
    rule = {"kind": "rule", "margin": 0.12345678, "quantile": None, "replica_capacity_rps": 70.0, "forecast": "season"}
    assert policy_text(rule) == "rule (margin 0.1235, forecast season)"
    result_of_rule = result(gpu_seconds=750.0, policies={"rule": rule, "fixed": {"kind": "fixed", "replicas": 5}})
    result_of_rule["outcomes"] = {"rule": result_of_rule["outcomes"]["hpa"], "fixed": result_of_rule["fixed"]}
    assert sentence({**result_of_rule, "chosen": "rule"}, 30.0).startswith(
        "Use rule (margin 0.1235, forecast season): "
    )
