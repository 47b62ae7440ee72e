"""Evidence -> ServiceProfile. What cannot be read off directly is fitted through a `simulate` that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from scipy.optimize import minimize
from scipy.stats import ks_2samp

from loadgen.validity import only_late
from testbed.calibration.another_run import Simulate, fit_inflation
from testbed.calibration.device_use import fit_device_memory, fit_device_use
from testbed.calibration.evidence import CAPACITY, LENGTH, Evidence
from testbed.calibration.lengths import fit_lengths
from testbed.calibration.load import cold_starts, fit_contention, fit_server_cpu, load_points
from testbed.calibration.overhead import fit_overhead
from testbed.calibration.profile import FitResidual, LengthTime, ServiceProfile
from testbed.calibration.service_curve import capacity_of
from testbed.calibration.service_time import QUANTILES, fit_service_time, idleness, quantile_table
from testbed.calibration.sharing import fit_interference, interferes, shares_a_device
from testbed.errors import CalibrationError

SEED = 20250707  # of the simulated runs that the fit compares with; any number does
FIT_QUANTILES = (0.5, 0.9, 0.95, 0.99)


def fit_profile(runs: Sequence[Evidence], simulate: Simulate, *, leave_out: bool = True) -> ServiceProfile:
    """Fit one model's profile on its calibration runs, and say how well it repeats each of them.

    With a log of batches everything is read off; without one (a server of the user's) inter-batch gap and the spread of
    batches are what makes simulated latency quantiles meet the real ones.

    leave_out: also fit without single runs, to see how far they are then: what intervals are made of, and most of the
    time that a fit takes.
    """
    if not runs:
        raise CalibrationError("no calibration run to fit on: make some with `kis calibrate`")
    models = {run.manifest.model for run in runs}
    if len(models) > 1:
        raise CalibrationError(f"runs of different models ({', '.join(sorted(models))}) cannot make one profile")
    head = runs[0].manifest
    for run in runs:
        if not run.requests.ok.any():
            raise CalibrationError(
                f"run {run.manifest.run_id} has no answered request: see its folder, and make it again"
            )
        if run.manifest.threads != head.threads:
            raise CalibrationError(
                f"runs {head.run_id} and {run.manifest.run_id} gave their instances {head.threads} and "
                f"{run.manifest.threads} threads: one profile needs the same in all"
            )
        if (run.manifest.precision, run.manifest.execution) != (head.precision, head.execution):
            raise CalibrationError(
                f"runs {head.run_id} and {run.manifest.run_id} ran the network as {head.network} and "
                f"{run.manifest.network}: one profile needs the same in all"
            )
    of_lengths = [run for run in runs if run.manifest.pattern == LENGTH and _tells_service_time(run)]
    runs = [run for run in runs if run.manifest.pattern != LENGTH]
    sound, loads = usable(runs)
    profile = _fit(sound, loads, of_lengths, simulate)
    left_out = left_out_of(sound, loads, of_lengths, simulate) if leave_out else []
    inflation = fit_inflation(left_out, simulate, SEED)
    effects = profile.run_effects.model_copy(update={"inflation": inflation})
    profile = profile.model_copy(update={"run_effects": effects})
    # What `simulate` repeats: replicas that do nothing to each other.
    repeated = [run for run in loads if not shares_a_device(profile, run.manifest.service.replicas)]
    fitted = {run.manifest.run_id for run in loads} | {
        other.manifest.run_id for other in sound if not _has_traffic(other)
    }
    return profile.model_copy(
        update={
            "residuals": tuple(_residual(profile, run, simulate) for run in repeated),
            "invalid_runs": tuple(run.manifest.run_id for run in loads if not _valid(run)),
            "left_out_runs": tuple(name for run in runs if (name := run.manifest.run_id) not in fitted),
        }
    )


def usable(runs: Sequence[Evidence]) -> tuple[list[Evidence], list[Evidence]]:
    """The runs that tell of the service time, and those that everything else is fitted on.

    What was INVALID for anything but late requests is left out: it is not this service alone that was measured. When
    requests come does not matter to the time that their batches take, so late runs tell of the service time; to what is
    fitted on latencies it does. They are left out there, unless less than half of a service's runs would be left: then
    all of them are used, and the profile says so. CalibrationError if nothing is left.
    """
    sound = [run for run in runs if _tells_service_time(run)]
    loads = [run for run in sound if _has_traffic(run)]
    if not loads:
        first = runs[0].manifest
        reasons = "; ".join(first.verdict.reasons) if first.verdict else ""
        raise CalibrationError(
            f"every run to fit on is INVALID ({first.run_id}: {reasons}): mend that, and make them again"
        )
    for service in {run.manifest.service.label for run in loads}:
        valid = [_valid(run) for run in loads if run.manifest.service.label == service]
        if 2 * sum(valid) < len(valid):
            return sound, loads
    return sound, [run for run in loads if _valid(run)]


def _has_traffic(run: Evidence) -> bool:
    """A run that tells of the service time alone has none."""
    return run.manifest.pattern != CAPACITY


def _tells_service_time(run: Evidence) -> bool:
    """It is valid, or was late and nothing else."""
    return _valid(run) or (run.manifest.verdict is not None and only_late(run.manifest.verdict))


def _valid(run: Evidence) -> bool:
    """A run without a verdict was simulated."""
    return run.manifest.verdict is None or run.manifest.verdict.valid


def _fit(
    runs: Sequence[Evidence], loads: Sequence[Evidence], of_lengths: Sequence[Evidence], simulate: Simulate
) -> ServiceProfile:
    """Without residuals, and with run effects as they stand. runs: for the service time; loads: for everything else.

    of_lengths: for what shorter requests take; what the profile says else is of the longest.
    """
    head = runs[0].manifest
    largest = max(run.manifest.service.max_batch_size for run in runs)
    idle = idleness(runs, largest)
    service_time, slow_phase, steadiness = fit_service_time(runs, largest, idle)
    interference = fit_interference(runs, np.array(service_time.mean_s))
    every, alone = runs, [run for run in runs if run.manifest.service.replicas == 1]
    if interferes(interference) and alone:  # then what a replica does is what it does alone; the rest is the factor
        idle = idleness(alone, largest)
        service_time, slow_phase, steadiness = fit_service_time(alone, largest, idle)
        interference = fit_interference(every, np.array(service_time.mean_s))
        runs, loads = alone, [run for run in loads if run.manifest.service.replicas == 1]
    if not loads:
        raise CalibrationError("no run with traffic to fit on: make some with `kis calibrate`")
    mean_s = np.array(service_time.mean_s)
    if buckets := head.service.length_buckets:
        longest = LengthTime(tokens=buckets[-1], offset_s=0.0, factor=1.0, batches=0)
        shorter = fit_lengths(of_lengths, runs, mean_s, idle)
        service_time = service_time.model_copy(update={"lengths": (*shorter, longest)})
    fitted = fit_overhead(loads, mean_s, idle)
    profile = ServiceProfile(
        model=head.model,
        weights=head.weights,
        device=head.device,
        service_time=service_time,
        capacity=capacity_of(service_time),
        slow_phase=slow_phase,
        steadiness=steadiness,
        inter_batch_gap_s=fitted.inter_batch_gap_s or 0.0,
        overhead=fitted.overhead,
        timer_slack_s=fitted.timer_slack_s,
        contention=fit_contention(loads, mean_s),
        run_effects=fitted.run_effects,
        interference=interference,
        cold_start_s=cold_starts(runs),
        load=load_points(loads),
        device_memory=fit_device_memory(runs),
        device_use=fit_device_use(loads, largest),
        server_cpu=fit_server_cpu(loads),
        ranges=_ranges(loads, service_time.batches),
        runs=tuple(run.manifest.run_id for run in (*every, *of_lengths)),
    )
    if all(run.batches is None for run in runs):
        profile = _fit_residual_parameters(profile, loads, simulate)
    elif fitted.inter_batch_gap_s is None:
        raise CalibrationError(
            f"no batch of {head.model} had another waiting behind it, so the inter-batch gap is not known: calibrate "
            "at higher loads as well"
        )
    return profile


def left_out_of(
    runs: Sequence[Evidence], loads: Sequence[Evidence], of_lengths: Sequence[Evidence], simulate: Simulate
) -> list[tuple[ServiceProfile, Evidence]]:
    """Profiles, each with a run that it was fitted without: valid runs at rates between others of the same service.

    At the lowest and the highest rate a profile without the run would have to guess beyond what it knows.
    """
    if any(run.batches is None for run in runs):
        return []  # what is fitted through simulated runs would take too long to fit so often
    pairs = []
    constant = [run for run in loads if run.manifest.pattern == "constant"]
    for run in constant:
        rates = [other.schedule.rate_rps for other in constant if other.manifest.service == run.manifest.service]
        if not min(rates) < run.schedule.rate_rps < max(rates) or not _valid(run):
            continue
        with suppress(CalibrationError):  # the others alone may be too few
            without = _fit(_without(runs, run), _without(loads, run), of_lengths, simulate)
            if without.largest_batch >= run.manifest.service.max_batch_size:
                pairs.append((without, run))
    return pairs


def _without(runs: Sequence[Evidence], run: Evidence) -> list[Evidence]:
    return [other for other in runs if other is not run]


def _ranges(runs: Sequence[Evidence], batches: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    rates = [run.schedule.rate_rps for run in runs]
    measured = [size for size, count in enumerate(batches, start=1) if count]
    replicas = [run.manifest.service.replicas for run in runs]
    return {
        "rate_rps": (min(rates), max(rates)),
        "batch_size": (float(min(measured)), float(max(measured))),
        "replicas": (float(min(replicas)), float(max(replicas))),
    }


def _fit_residual_parameters(profile: ServiceProfile, runs: Sequence[Evidence], simulate: Simulate) -> ServiceProfile:
    """Inter-batch gap and lognormal spread of a batch, so that the latency quantiles of the runs are met."""
    draws = np.random.default_rng(SEED).standard_normal(20_000)
    real = [np.quantile(run.requests.latency_s[run.requests.ok], FIT_QUANTILES) for run in runs]

    def with_parameters(values: np.ndarray) -> ServiceProfile:
        inter_batch_gap_s, sigma = np.exp(values)
        noise = quantile_table(np.exp(sigma * draws - sigma**2 / 2))
        noise /= np.trapezoid(noise, dx=1 / (QUANTILES - 1))
        service_time = profile.service_time.model_copy(update={"noise_quantiles": tuple(noise.tolist())})
        return profile.model_copy(update={"service_time": service_time, "inter_batch_gap_s": float(inter_batch_gap_s)})

    def loss(values: np.ndarray) -> float:
        candidate = with_parameters(values)
        errors = []
        for run, wanted in zip(runs, real, strict=True):
            log = simulate(run.schedule, candidate, run.manifest.service, SEED)
            errors.append(np.log(np.quantile(log.latency_s[log.ok], FIT_QUANTILES) / wanted))
        return float(np.mean(np.square(errors)))

    start = np.log([0.02 * profile.service_time.mean_s[0], 0.05])
    best = minimize(loss, start, method="Nelder-Mead", options={"maxfev": 120, "xatol": 0.02, "fatol": 1e-7})
    return with_parameters(best.x)


def _residual(profile: ServiceProfile, run: Evidence, simulate: Simulate) -> FitResidual:
    log = simulate(run.schedule, profile, run.manifest.service, SEED)
    real, simulated = run.requests.latency_s[run.requests.ok], log.latency_s[log.ok]
    p50, p95 = (100 * (np.quantile(simulated, q) / np.quantile(real, q) - 1) for q in (0.5, 0.95))
    ks = float(ks_2samp(real, simulated, method="asymp").statistic)  # the distance alone is used
    valid = run.manifest.verdict.valid if run.manifest.verdict else None
    return FitResidual(
        run_id=run.manifest.run_id, valid=valid, p50_error_pct=float(p50), p95_error_pct=float(p95), ks=ks
    )
