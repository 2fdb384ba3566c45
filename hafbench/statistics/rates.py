"""The anatomical error rate (AER) and means of other scores, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import Floats, Ints, as_floats, cluster_codes, cluster_sums, robust_variance


@dataclass(frozen=True)
class Rate:
    """An error rate. `estimate` and its intervals are None if nothing was scored.

    `low` and `high` treat the images of one prompt as a cluster; `wilson_low` and `wilson_high` as independent.
    `lowest` and `highest` are the rates with every image that was not scored counted as sound, and as an error.
    `effective` is the number of independent images that would tell as much.
    """

    errors: int
    scored: int
    total: int
    estimate: float | None
    low: float | None
    high: float | None
    wilson_low: float | None
    wilson_high: float | None
    lowest: float | None
    highest: float | None
    effective: float | None


@dataclass(frozen=True)
class Mean:
    """A mean of `n` values; None where there are too few for it, and no interval where they are all alike."""

    n: int
    estimate: float | None
    low: float | None
    high: float | None


def error_rate(verdicts: Any, clusters: Any, confidence: float = 0.95, *, others: Any = None) -> Rate:
    """The share of errors among the verdicts (n,) that are not None, with Wilson's interval on the effective size.

    The effective size is n over the design effect, the ratio of the cluster-robust (linearized) variance of the rate to
    that of n independent images, held to at least 1; few clusters shrink it further, by the squared ratio of the t
    quantiles on n - 1 and on (clusters - 1) degrees of freedom (Korn & Graubard 1998, Survey Methodology 24, 193-201;
    compared with others by Franco, Little, Louis & Slud 2019, J. Survey Statistics and Methodology 7, 334-364). With
    one image a prompt this is Wilson's own interval. With no error, or errors only, the data cannot tell the design
    effect, and the number of clusters is taken as the effective size.

    Verdicts of pairs have a second cluster each, `others` (n,), named as the first ones are. Any two that share one, at
    whichever end, then count as dependent (Aronow, Samii & Assenova 2015, Political Analysis 23, 564-577), and the
    number of clusters is that of the end with fewer.
    """
    from scipy.stats import t

    found = as_floats(verdicts)
    kept = np.isfinite(found)
    total, scored, errors = len(found), int(kept.sum()), int(found[kept].sum())
    if scored == 0:
        lowest, highest = (0.0, 1.0) if total else (None, None)
        return Rate(0, 0, total, None, None, None, None, None, lowest, highest, None)
    estimate = errors / scored
    apart = found[kept] - estimate
    if others is None:
        sums = cluster_sums(apart, cluster_codes(clusters)[kept])
        k = len(sums)
        variance = robust_variance(sums, scored) if k > 1 else 0.0
    else:
        k, variance = _variance_of_pairs(apart, cluster_codes([*clusters, *others]).reshape(2, total)[:, kept])
    size = float(k)
    if 0 < errors < scored and k > 1:
        independent = estimate * (1 - estimate) / (scored - 1)
        size = scored / max(1.0, variance / independent)
        size *= float(t.ppf((1 + confidence) / 2, scored - 1) / t.ppf((1 + confidence) / 2, k - 1)) ** 2
    low, high = wilson(estimate, size, confidence)
    wilson_low, wilson_high = wilson(estimate, scored, confidence)
    lowest, highest = errors / total, (errors + total - scored) / total
    return Rate(errors, scored, total, estimate, low, high, wilson_low, wilson_high, lowest, highest, size)


def _variance_of_pairs(apart: Floats, ends: Ints) -> tuple[int, float]:
    """The number of clusters and the robust variance of a mean, from its residuals (n,) and their ends (2, n)."""
    shared = (ends[:, None, :, None] == ends[None, :, None, :]).any((0, 1))
    k = min(len(np.unique(end)) for end in ends)
    return k, float(k / (k - 1) * (apart @ shared @ apart) / len(apart) ** 2) if k > 1 else 0.0


def wilson(estimate: float, size: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a rate seen on `size` independent images, which need not be a whole number."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(estimate * size, size, alpha=1 - confidence, method="wilson")
    # Rounding may push a bound past the estimate by 1e-17, at 0 and at 1.
    return min(float(low), estimate), max(float(high), estimate)


def mean_interval(values: Any, clusters: Any, confidence: float = 0.95) -> Mean:
    """The mean of the values (n,) that are numbers, with a cluster-robust t interval on (clusters - 1) degrees.

    There is no interval for fewer than two clusters, nor for values that are all alike, which cannot tell how others
    vary.
    """
    from scipy.stats import t

    numbers = as_floats(values)
    kept = np.isfinite(numbers)
    n = int(kept.sum())
    if n == 0:
        return Mean(0, None, None, None)
    estimate = float(numbers[kept].mean())
    sums = cluster_sums(numbers[kept] - estimate, cluster_codes(clusters)[kept])
    if len(sums) < 2 or np.ptp(numbers[kept]) == 0:
        return Mean(n, estimate, None, None)
    half = float(t.ppf((1 + confidence) / 2, len(sums) - 1)) * robust_variance(sums, n) ** 0.5
    return Mean(n, estimate, estimate - half, estimate + half)
