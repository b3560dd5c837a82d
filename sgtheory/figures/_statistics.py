"""Uncertainty of what is measured over seeds."""

import math

import numpy as np
from scipy import optimize, stats


def mean_interval(values, confidence: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of Student's confidence interval; the half-width of a single value is infinite."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n < 2:
        return float(values.mean()), math.inf
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return float(values.mean()), float(half)


def over_seeds(values) -> str:
    """Mean and standard deviation over seeds as text; ± is left to confidence intervals."""
    values = np.asarray(values, dtype=np.float64)
    spread = f" (s.d. {values.std(ddof=1):.2g})" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}"


def no_difference(pairs: list[tuple[float, float]], small: float, wide: float) -> tuple[bool, str]:
    """Whether none of some differences, each with its error, is one: it is ``small`` or within its error, and its
    interval within ``wide`` on both sides of 0. And what would decide it if this does not; empty if it does."""
    if all(abs(gap) <= max(error, small) and abs(gap) + error <= wide for gap, error in pairs):
        return True, ""
    if any(abs(gap) - error > small for gap, error in pairs):
        return False, ""
    bounds = f": between -{wide:g} and {wide:g}, or beyond {small:g}"
    return False, "narrower intervals" + bounds * any(abs(gap) + error > wide for gap, error in pairs)


def power_text(error: float, degrees: int, where: str = "") -> str:
    """Which true difference would be found by a test at 5 %, in four of five repetitions, if the spread is the measured
    one; ``error`` is the half-width of a 95 % interval with so many degrees of freedom, ``where`` ends the sentence.
    Empty if the error is infinite."""
    if not math.isfinite(error):
        return ""
    critical = stats.t.ppf(0.975, degrees)
    shift = optimize.brentq(lambda shift: stats.nct.sf(critical, degrees, shift) - 0.8, 0, 3 * critical)
    return f"a difference of {error * shift / critical:.2g} would be found in 80 % of repetitions{where}"


def median_interval(values, confidence: float = 0.95, resamples: int = 1000) -> tuple[float, float, float]:
    """Median of the finite numbers and its percentile bootstrap interval, which heavy tails do not move; NaN without
    any. Always the same for the same values."""
    return _interval(*_medians(values, resamples, np.random.default_rng(0)), confidence)


def median_difference(values, others, confidence: float = 0.95, resamples: int = 1000) -> tuple[float, float, float]:
    """Median of ``values`` less that of ``others``, which are not paired with them, and its interval; otherwise as
    :func:`median_interval`."""
    rng = np.random.default_rng(0)
    one, other = _medians(values, resamples, rng), _medians(others, resamples, rng)
    return _interval(one[0] - other[0], one[1] - other[1], confidence)


def _medians(values, resamples, rng) -> tuple[float, np.ndarray]:
    """Median of the finite numbers, and those of samples of them with replacement, [resamples]."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, np.full(resamples, math.nan)
    chosen = rng.integers(len(values), size=(resamples, len(values)))
    return float(np.median(values)), np.median(values[chosen], axis=1)


def _interval(middle: float, resampled: np.ndarray, confidence: float) -> tuple[float, float, float]:
    low, high = np.quantile(resampled, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return middle, float(low), float(high)


def contains_zero(interval: tuple[float, float, float]) -> bool:
    """Whether 0 lies in the interval of a number, as :func:`median_interval` gives both."""
    _, low, high = interval
    return low <= 0 <= high


def all_above(limit: float, intervals, more: str) -> dict:
    """Verdict about numbers that are all expected to be above ``limit``: whether they are, and that ``more`` would
    decide it unless one is certainly below."""
    intervals = list(intervals)
    holds = all(low > limit for _, low, _ in intervals)
    contradicted = any(high < limit for _, _, high in intervals)
    return {"holds": holds, "undecided": "" if holds or contradicted else more}


def all_below(limit: float, intervals, more: str) -> dict:
    """The same about numbers that are all expected to be below it."""
    return all_above(-limit, [(-middle, -high, -low) for middle, low, high in intervals], more)


def interval_text(interval: tuple[float, float, float], style: str = ".2f") -> str:
    """A number and its interval; ``style`` is the format of each number."""
    middle, low, high = (format(number, style) for number in interval)
    return f"{middle} [{low}, {high}]"


def median_text(values, style: str = ".2f") -> str:
    """:func:`median_interval` as text."""
    return interval_text(median_interval(values), style)
