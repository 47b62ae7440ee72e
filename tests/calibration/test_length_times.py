"""What shorter requests take: put into runs, and found in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadgen.artifact import ArtifactError
from loadgen.lengths import all_of
from loadgen.validity import Verdict
from testbed.calibration.evidence import LENGTH, Evidence
from testbed.calibration.fit import fit_profile
from testbed.calibration.profile import LengthTime, ServiceProfile
from testbed.errors import CalibrationError
from testbed.pipeline.counterpart import request_log_of
from testbed.pipeline.plan import burst_schedule
from tests.oracles.known_service import calibration_runs, evidence, known_profile
from workloads.catalog import ServiceConfig

SERVICE = ServiceConfig(length_buckets=(32, 64, 128))
KNOWN = (
    LengthTime(tokens=32, offset_s=0.002, factor=0.3, batches=1),
    LengthTime(tokens=64, offset_s=0.001, factor=0.55, batches=1),
    LengthTime(tokens=128, offset_s=0.0, factor=1.0, batches=0),
)


def profile() -> ServiceProfile:
    known = known_profile()
    return known.model_copy(update={"service_time": known.service_time.model_copy(update={"lengths": KNOWN})})


def runs() -> list[Evidence]:
    """As a campaign makes them: everything at the longest, and bursts of each shorter length."""
    made = calibration_runs(profile(), service=SERVICE, duration_s=30)
    for tokens in (32, 64):
        schedule = all_of(burst_schedule("emulated", SERVICE, 0.006, 40), tokens)
        one = evidence(profile(), schedule, SERVICE, seed=tokens)
        manifest = one.manifest.model_copy(update={"pattern": LENGTH, "pattern_parameters": {"tokens": tokens}})
        made.append(replace(one, manifest=manifest))
    return made


def test_the_time_of_shorter_requests_comes_back_and_that_of_the_longest_is_the_profiles() -> None:
    made = runs()
    fitted = fit_profile(made, request_log_of, leave_out=False)
    assert [length.tokens for length in fitted.service_time.lengths] == [32, 64, 128]
    found_s, known_s = (np.array(one.service_time.padded_mean_s((32, 64, 128))) for one in (fitted, profile()))
    assert found_s == pytest.approx(known_s, rel=0.02)
    assert fitted.service_time.mean_s == pytest.approx(known_profile().service_time.mean_s, rel=0.02)
    assert {"known-32", "known-64"} <= set(fitted.runs)


def test_a_run_with_hardly_a_batch_is_refused() -> None:
    made = runs()
    few = all_of(burst_schedule("emulated", SERVICE, 0.006, 40), 64)
    few = replace(few, scheduled_ns=few.scheduled_ns[:2], model=few.model[:2], tokens=few.tokens[:2])  # type: ignore[index]
    one = evidence(profile(), few, SERVICE, seed=1)
    manifest = one.manifest.model_copy(update={"pattern": LENGTH, "pattern_parameters": {"tokens": 64}})
    with pytest.raises(CalibrationError, match="measure longer"):
        fit_profile([*made[:-2], replace(one, manifest=manifest)], request_log_of, leave_out=False)


def test_a_run_that_others_spoilt_tells_nothing_of_a_length() -> None:
    *made, last = runs()
    spoilt = Verdict(valid=False, reasons=("something else used the model",))
    made.append(replace(last, manifest=last.manifest.model_copy(update={"verdict": spoilt})))
    with pytest.raises(ArtifactError, match="length bucket 64 is not in the profile"):
        fit_profile(made, request_log_of, leave_out=False)
