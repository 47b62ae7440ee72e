"""Service time by batch size, S(b), from counts and sums of several runs: rising, and smooth but for steps.

A size that ran a dozen times has a mean that is a percent or two off, and the largest size decides the capacity. So
sizes lend each other strength, as much as the data allow:

    y[r, b] = S(b) (1 + u[r]) + e       the mean of n[r, b] batches of size b in run r
    u ~ N(0, run_std^2)                 a run's own level, the same for all sizes
    e ~ N(0, (cv S(b))^2 / n[r, b])     cv: coefficient of variation of single batches
    S(b) = line + curve + own deviation of each size + steps

The curve is an integrated Wiener process (the prior of a cubic smoothing spline) or saturates exponentially, or there
is none; steps are jumps upwards between two sizes, as GPU kernels make at 8, 16, 32. Which curve, how individual the
sizes, how different the runs and where steps are is averaged over: each combination by its marginal likelihood, steps
found one after the other. Given these everything is Gaussian, so that mean and covariance are formulas (Rasmussen and
Williams, Gaussian Processes for Machine Learning, ch. 2.7 and 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from testbed.calibration.profile import Capacity, ServiceTime

FloatArray = npt.NDArray[np.float64]

# What is averaged over. Shares of the mean service time, with their probabilities before the data.
NO_CURVE = 0.6
ROUGHNESS = {0.01: 0.05, 0.03: 0.05, 0.1: 0.05, 0.3: 0.05}  # std of a smooth curve at the largest size
# By batch size, as a share of the largest, at which 63 % of a saturating curve is done.
SATURATION = {0.1: 0.05, 0.2: 0.05, 0.4: 0.05, 0.8: 0.05}
SATURATION_STD = 0.5  # of its height
OWN_STD = {0.0: 0.8, 0.003: 0.1, 0.01: 0.1}
RUN_STD = (0.0, 0.003, 0.01, 0.03, 0.1)
CV = (0.003, 0.01, 0.03, 0.1, 0.3)  # where no log of batches tells it
DRAWS = 4000  # of what the means may be, for a capacity
SEED = 20250707  # of the draws; any number does
LINE_STD = 3.0  # of level and slope: as good as nothing known
BEST_MEAN = 1e-4  # no mean is trusted to better than this share, however many batches it has
LEAST_SHARE = 0.01  # of the mean service time, that a size takes at least
STEP_STD = 0.3
STEPS_EXPECTED = 0.3  # among all sizes
MOST_STEPS = 12
LEAST_WEIGHT = 1e-4  # of a combination, against the best one
MOST_COMPONENTS = 4  # what sizes have in common; the rest is each size's own


@dataclass(frozen=True)
class ServiceCurve:
    """S(b) for b = 1..B, and how well it is known: mean_s + z @ components_s + own_std_s * e, z and e standard normal.

    mean_s: float64[B], rising. components_s: float64[K, B], largest first. own_std_s: float64[B]. steps: sizes after
    which the most likely combination has a jump.
    """

    mean_s: FloatArray
    components_s: FloatArray
    own_std_s: FloatArray
    steps: tuple[int, ...]

    @property
    def std_s(self) -> FloatArray:
        """float64[B]: standard deviation of S(b)."""
        return np.asarray(np.sqrt(np.square(self.components_s).sum(axis=0) + np.square(self.own_std_s)))


def rising(service_s: FloatArray, weight: FloatArray | None = None) -> FloatArray:
    """The nearest values that never fall with the batch size (isotonic regression)."""
    return np.asarray(isotonic_regression(service_s, weights=weight).x)


def fit_curve(batches: npt.NDArray[np.int64], seconds: FloatArray, cv: float | None) -> ServiceCurve:
    """S(b) from int64[R, B] batches of size b in run r and float64[R, B] seconds that they took together.

    cv: of single batches of one size; None: not known, then it is averaged over too. Sizes that never ran follow from
    the others, with a wide deviation. ValueError if nothing ran at all.
    """
    total = batches.sum(axis=0)
    if not total.any():
        raise ValueError("no batch was executed")
    sizes = np.arange(1, batches.shape[1] + 1)
    known = total > 0
    raw_s = rising(seconds.sum(axis=0)[known] / total[known], total[known].astype(float))
    reference = np.interp(sizes, sizes[known], raw_s)
    mean_s = np.divide(seconds, batches, out=np.zeros_like(seconds), where=batches > 0)
    for _ in range(2):  # the deviations of means are shares of S(b) itself: first of the raw means, then of the fitted
        reference = np.maximum(reference, LEAST_SHARE * reference.mean())
        mean, covariance, steps = _average(batches, mean_s, CV if cv is None else (cv,), reference)
        reference = rising(np.maximum(mean, 0.1 * reference[0]), 1 / np.diag(covariance))
    return ServiceCurve(reference, *_split(covariance), steps)


@dataclass(frozen=True)
class _Candidates:
    """Combinations with one set of steps, and with one step more. S has the prior N(0, prior[k])."""

    log_weight: FloatArray  # [K]
    mean: FloatArray  # [K, B]
    covariance: FloatArray  # [K, B, B]
    gain: FloatArray  # [K, B - 1]: log weight that a step after size 1..B-1 adds
    step_mean: FloatArray  # [K, B - 1]: of its height
    step_variance: FloatArray  # [K, B - 1]
    step_shape: FloatArray  # [K, B - 1, B]: by which S changes with the height of the step, the rest adapting


def _average(
    batches: npt.NDArray[np.int64], mean_s: FloatArray, cvs: Sequence[float], reference: FloatArray
) -> tuple[FloatArray, FloatArray, tuple[int, ...]]:
    """Mean and covariance over all combinations, and the steps of the best one."""
    size = len(reference)
    unit = float(reference.mean())
    shape = reference / unit
    levels = list(product(cvs, RUN_STD if len(batches) > 1 else (0.0,)))
    precision, score, constant = _likelihoods(batches, mean_s / unit, shape, levels)
    curves = _curves(size)
    priors = np.stack([_prior(shape, curve, own) for (curve, _), own in product(curves, OWN_STD)])
    chance = np.log([curve_chance * own for (_, curve_chance), own in product(curves, OWN_STD.values())])
    which = np.array(list(product(range(len(levels)), range(len(priors)))))
    precision, score, constant = precision[which[:, 0]], score[which[:, 0]], constant[which[:, 0]]
    prior, constant = priors[which[:, 1]], constant + chance[which[:, 1]]
    jumps = np.tri(size)[:, 1:].T  # [B - 1, B]: 1 above the size of the step
    log_odds = np.log(STEPS_EXPECTED / max(1, size - 1))
    candidates: list[tuple[float, FloatArray, FloatArray]] = []
    steps: tuple[int, ...] = ()
    best, best_steps = -np.inf, steps
    while True:
        now = _condition(prior, precision, score, constant + len(steps) * log_odds, jumps)
        with_step = now.log_weight[:, None] + now.gain + log_odds
        with_step[:, [step - 1 for step in steps]] = -np.inf
        if now.log_weight.max() > best:
            best, best_steps = float(now.log_weight.max()), steps
        floor = max(best, with_step.max(initial=-np.inf)) + np.log(LEAST_WEIGHT)
        candidates += [
            (now.log_weight[k], now.mean[k], now.covariance[k]) for k in np.flatnonzero(now.log_weight > floor).tolist()
        ]
        for k, j in np.argwhere(with_step > floor).tolist():
            moved, spread = now.step_shape[k, j], now.step_variance[k, j]
            candidates.append(
                (
                    with_step[k, j],
                    now.mean[k] + moved * now.step_mean[k, j],
                    now.covariance[k] + spread * np.outer(moved, moved),
                )
            )
        if with_step.max(initial=-np.inf) < best - 1.0 or len(steps) == MOST_STEPS:
            break
        added = int(np.unravel_index(np.argmax(with_step), with_step.shape)[1])
        steps = (*steps, added + 1)
        prior = prior + STEP_STD**2 * np.outer(jumps[added], jumps[added])
    weight = np.exp(
        np.array([candidate[0] for candidate in candidates]) - max(candidate[0] for candidate in candidates)
    )
    weight /= weight.sum()
    means = np.stack([candidate[1] for candidate in candidates])
    mean = weight @ means
    apart = means - mean
    covariance = np.einsum("k,kij->ij", weight, np.stack([candidate[2] for candidate in candidates]))
    covariance += np.einsum("k,ki,kj->ij", weight, apart, apart)
    return mean * unit, covariance * unit**2, tuple(sorted(best_steps))


def _likelihoods(
    batches: npt.NDArray[np.int64], y: FloatArray, shape: FloatArray, levels: Sequence[tuple[float, float]]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of S, for each (cv, run_std): precision [L, B, B], precision times data [L, B], and the rest of the logarithm."""
    size = len(shape)
    precisions, scores, constants = [], [], []
    for cv, run_std in levels:
        certain = np.minimum(batches / cv**2, (batches > 0) / BEST_MEAN**2) / shape**2
        along = certain * shape
        level, data = (along * shape).sum(axis=1), (along * y).sum(axis=1)
        share = run_std**2 / (1 + run_std**2 * level)
        precisions.append(np.diag(certain.sum(axis=0)) - np.einsum("r,ri,rj->ij", share, along, along))
        scores.append((certain * y).sum(axis=0) - np.einsum("r,ri->i", share * data, along))
        normal = np.log(certain, out=np.zeros((len(batches), size)), where=batches > 0).sum()
        squares = (certain * y * y).sum() - (share * data**2).sum()
        constants.append(0.5 * (normal - np.log1p(run_std**2 * level).sum() - squares))
    return np.stack(precisions), np.stack(scores), np.array(constants)


def _curves(size: int) -> list[tuple[FloatArray, float]]:
    """Covariances of what S(b) may have beside a line, float64[B, B] each, and their probabilities."""
    place = np.arange(size) / max(1, size - 1)
    first, second = np.minimum(*np.meshgrid(place, place)), np.maximum(*np.meshgrid(place, place))
    wiener = first**2 * (3 * second - first) / 2  # variance 1 at the largest size
    candidates = [(np.zeros((size, size)), NO_CURVE)]
    candidates += [(std**2 * wiener, chance) for std, chance in ROUGHNESS.items()]
    for scale, chance in SATURATION.items():
        rise = SATURATION_STD * (1 - np.exp(-place / scale))
        candidates.append((np.outer(rise, rise), chance))
    return candidates


def _prior(shape: FloatArray, curve: FloatArray, own_std: float) -> FloatArray:
    """float64[B, B]: covariance of S without steps."""
    place = np.arange(len(shape)) / max(1, len(shape) - 1)
    line = LINE_STD**2 * (1 + np.outer(place, place))
    return np.asarray(line + curve + np.diag(np.square(own_std * shape)))


def _condition(
    prior: FloatArray, precision: FloatArray, score: FloatArray, constant: FloatArray, jumps: FloatArray
) -> _Candidates:
    """Posterior of S for each prior, and what one step more would change (a formula of rank one)."""
    mixed = np.eye(prior.shape[-1]) + prior @ precision
    covariance = np.linalg.solve(mixed, prior)
    covariance = (covariance + covariance.transpose(0, 2, 1)) / 2
    mean = np.einsum("kij,kj->ki", covariance, score)
    log_weight = constant - 0.5 * np.linalg.slogdet(mixed)[1] + 0.5 * (mean * score).sum(axis=1)
    # S = S0 + height * jump: what the data say of the height when S0 may adapt.
    explained = jumps @ precision  # [K, B - 1, B]
    left = score - np.einsum("kij,kj->ki", precision, mean)
    information = np.einsum("kjb,jb->kj", explained, jumps) - np.einsum(
        "kjb,kbc,kjc->kj", explained, covariance, explained
    )
    variance = 1 / (np.maximum(information, 0) + 1 / STEP_STD**2)
    height = (left @ jumps.T) * variance
    gain = 0.5 * (np.log(variance / STEP_STD**2) + height**2 / variance)
    # A step goes up: its height is half-normal before the data, a normal cut off at 0 after.
    std, z = np.sqrt(variance), height / np.sqrt(variance)
    near = np.maximum(z, -30.0)  # further down it has no weight, and no numbers
    ratio = np.exp(norm.logpdf(near) - norm.logcdf(near))
    return _Candidates(
        log_weight=log_weight,
        mean=mean,
        covariance=covariance,
        gain=gain + np.log(2) + norm.logcdf(z),
        step_mean=std * (np.maximum(z, near) + ratio),
        step_variance=variance * np.clip(1 - ratio * (ratio + near), 0, 1),
        step_shape=jumps - np.einsum("kjb,kbc->kjc", explained, covariance),
    )


def _split(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The largest components, float64[K, B], and the standard deviation that each size has beside them, float64[B]."""
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)[:MOST_COMPONENTS]
    components = np.asarray((vectors[:, order] * np.sqrt(values[order].clip(min=0))).T)
    left = np.diag(covariance) - np.square(components).sum(axis=0)
    return components, np.sqrt(left.clip(min=0))


def drawn_means(times: ServiceTime, rng: np.random.Generator, draws: int) -> npt.NDArray[np.float64]:
    """float64[draws, B] seconds: service times that the measurements allow; the means themselves if it is not known."""
    mean_s = np.array(times.mean_s)
    if times.uncertainty is None:
        return np.tile(mean_s, (draws, 1))
    components_s = np.array(times.uncertainty.components_s).reshape(-1, len(mean_s))
    drawn = mean_s + rng.standard_normal((draws, len(components_s))) @ components_s
    drawn += rng.standard_normal(drawn.shape) * np.array(times.uncertainty.own_std_s)
    least_s = 0.01 * mean_s[0]  # a draw far in the tail is no time below 0
    return np.stack([rising(times_s) for times_s in np.maximum(drawn, least_s)])


def capacity_of(times: ServiceTime) -> Capacity:
    """What one instance serves at most, over all batch sizes that the service time has, and how well that is known."""
    sizes = np.array(times.batch_size)
    rates = sizes / np.array(times.mean_s)
    best = int(np.argmax(rates))
    low = high = None
    if times.uncertainty is not None:
        drawn = (sizes / drawn_means(times, np.random.default_rng(SEED), DRAWS)).max(axis=1)
        low, high = np.quantile(drawn, [0.05, 0.95]).tolist()
    return Capacity(rps=float(rates[best]), batch_size=best + 1, low_rps=low, high_rps=high)
