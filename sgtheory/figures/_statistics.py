"""Uncertainty of what is measured over seeds."""

import math

import numpy as np
from scipy import stats


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


def median_interval(values, confidence: float = 0.95, resamples: int = 1000) -> tuple[float, float, float]:
    """Median of the numbers that are not NaN and its percentile bootstrap interval, which heavy tails do not move; NaN
    without numbers. Always the same for the same values."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan, math.nan
    chosen = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    medians = np.median(values[chosen], axis=1)
    low, high = np.quantile(medians, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return float(np.median(values)), float(low), float(high)


def median_text(values, style: str = ".2f") -> str:
    """:func:`median_interval` as text; ``style`` is the format of each number."""
    middle, low, high = (format(number, style) for number in median_interval(values))
    return f"{middle} [{low}, {high}]"
