"""The next run of a service: a profile is an average over runs, and each run differs from it.

They differ as the runs of the calibration differed from each other (run effects), times what it takes for runs to lie
as far from what a profile without them predicts as such draws say (inflation). The means of the batch sizes
are drawn too, as well as they are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.evidence import Evidence
from testbed.calibration.profile import OverheadLevel, RunEffect, ServiceProfile
from testbed.calibration.service_curve import drawn_means
from workloads.catalog import ServiceConfig

Simulate = Callable[
    [Schedule, ServiceProfile, ServiceConfig, int], RequestLog
]  # handed in: simulation builds on calibration

DRAWS = 24  # simulated runs that show how a run varies with its seed
PAIRS = 6  # simulated runs for each direction of a run effect
LEAST, LARGEST, USUALLY = 0.4, 4.0, 0.3  # factors, and the deviation of the logarithm of what they are likely to be
FACTORS = 20  # equally likely ones
EFFECTS = ("service", "ingress_delay_s", "egress_delay_s", "inter_batch_gap_s")


def another_run(profile: ServiceProfile, rng: np.random.Generator) -> ServiceProfile:
    """The profile as one run might have it: Student's t for how few runs tell of the differences between runs."""
    shifts, inflation = {}, float(rng.choice(profile.run_effects.inflation))
    for name in EFFECTS:
        effect: RunEffect | None = getattr(profile.run_effects, name)
        if effect is not None:
            shifts[name] = float(inflation * effect.std * rng.standard_t(effect.degrees_of_freedom))
    return shifted(with_means(profile, drawn_means(profile.service_time, rng, 1)[0].tolist()), shifts)


def with_means(profile: ServiceProfile, mean_s: Sequence[float]) -> ServiceProfile:
    """The profile with other means of the batch sizes."""
    times = profile.service_time.model_copy(update={"mean_s": tuple(mean_s)})
    return profile.model_copy(update={"service_time": times})


def shifted(profile: ServiceProfile, shifts: Mapping[str, float]) -> ServiceProfile:
    """The profile with other means; shifts: by the names of EFFECTS, as RunEffects has them."""
    times = profile.service_time
    factor = float(np.exp(np.clip(shifts.get("service", 0.0), -1.0, 1.0)))
    ingress_s, egress_s, gap_s = (shifts.get(name, 0.0) for name in EFFECTS[1:])
    levels = tuple(_shifted(level, ingress_s, egress_s, gap_s) for level in profile.overhead.levels)
    return profile.model_copy(
        update={
            "service_time": times.model_copy(
                update={
                    "mean_s": tuple(mean_s * factor for mean_s in times.mean_s),
                    "lengths": tuple(
                        length.model_copy(update={"offset_s": length.offset_s * factor}) for length in times.lengths
                    ),
                }
            ),
            "overhead": profile.overhead.model_copy(update={"levels": levels}),
            "inter_batch_gap_s": max(0.0, profile.inter_batch_gap_s + gap_s),
        }
    )


def _shifted(level: OverheadLevel, ingress_s: float, egress_s: float, gap_s: float) -> OverheadLevel:
    def by(table: tuple[float, ...], by_s: float, least: float) -> tuple[float, ...]:
        return tuple(max(least, value + by_s) for value in table)

    pauses = level.inter_batch_gap_quantiles_s
    return level.model_copy(
        update={
            "ingress_delay_quantiles_s": by(level.ingress_delay_quantiles_s, ingress_s, 0.0),
            "egress_delay_quantiles_s": by(level.egress_delay_quantiles_s, egress_s, -np.inf),
            "inter_batch_gap_quantiles_s": None if pauses is None else by(pauses, gap_s, 0.0),
        }
    )


def fit_inflation(
    left_out: Sequence[tuple[ServiceProfile, Evidence]], simulate: Simulate, seed: int
) -> tuple[float, ...]:
    """Factors on the run effects, equally likely after what the runs' P95 say; before, 1 within a third either way is.

    left_out: runs, each with a profile that was fitted without it; none: 1. A run's P95 differs from the profile's by
    the randomness of its draws, by how little the profile knows of its service times, and by its run effects; the
    variances of its logarithm are read off simulated runs.
    """
    off, chance, effect = [], [], []
    for number, (profile, run) in enumerate(left_out):
        rng = np.random.default_rng(np.random.SeedSequence((seed, number)))
        seeds = rng.integers(2**31, size=DRAWS).tolist()
        same = [_log_p95(run, profile, simulate, other_seed) for other_seed in seeds]
        off.append(float(np.log(np.quantile(run.requests.latency_s[run.requests.ok], 0.95)) - np.mean(same)))
        chance.append(float(np.var(same, ddof=1)) * (1 + 1 / DRAWS) + _variance_by_means(run, profile, simulate, seeds))
        effect.append(_variance_by_effects(run, profile, simulate, seeds[:PAIRS]))
    if not off or not any(effect):
        return (1.0,)
    factors = np.geomspace(LEAST, LARGEST, 400)
    variance = np.array(chance) + 1e-12 + np.square(factors)[:, None] * np.array(effect)
    log_likely = -0.5 * np.sum(np.log(variance) + np.square(off) / variance, axis=1)
    log_likely -= 0.5 * np.square(np.log(factors) / USUALLY)
    likely = np.cumsum(np.exp(log_likely - log_likely.max()))
    places = np.searchsorted(likely / likely[-1], (np.arange(FACTORS) + 0.5) / FACTORS)
    return tuple(factors[places].tolist())


def _variance_by_effects(run: Evidence, profile: ServiceProfile, simulate: Simulate, seeds: Sequence[int]) -> float:
    """Of the logarithm of the run's P95: each effect moved by its deviation, up and down, under the same draws."""
    total = 0.0
    for name in EFFECTS:
        effect: RunEffect | None = getattr(profile.run_effects, name)
        if effect is None:
            continue
        up, down = (shifted(profile, {name: sign * effect.std}) for sign in (1, -1))
        pairs = [_log_p95(run, up, simulate, seed) - _log_p95(run, down, simulate, seed) for seed in seeds]
        heavy = (
            effect.degrees_of_freedom / (effect.degrees_of_freedom - 2) if effect.degrees_of_freedom > 2 else 3.0
        )  # variance of Student's t
        total += float(np.mean(pairs) / 2) ** 2 * heavy
    return total


def _variance_by_means(run: Evidence, profile: ServiceProfile, simulate: Simulate, seeds: Sequence[int]) -> float:
    """Of the logarithm of the run's P95: each component of the means moved by one deviation, up and down."""
    known = profile.service_time.uncertainty
    if known is None:
        return 0.0
    mean_s, total = np.array(profile.service_time.mean_s), 0.0
    for component_s in (*known.components_s, known.own_std_s):
        up, down = (
            with_means(profile, np.maximum.accumulate(np.maximum(mean_s + sign * np.array(component_s), 1e-9)).tolist())
            for sign in (1, -1)
        )
        pairs = [_log_p95(run, up, simulate, seed) - _log_p95(run, down, simulate, seed) for seed in seeds[:PAIRS]]
        total += float(np.mean(pairs) / 2) ** 2
    return total


def _log_p95(run: Evidence, profile: ServiceProfile, simulate: Simulate, seed: int) -> float:
    log = simulate(run.schedule, profile, run.manifest.service, seed)
    return float(np.log(np.quantile(log.latency_s[log.ok], 0.95)))
