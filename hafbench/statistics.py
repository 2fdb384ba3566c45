"""Rates and means with intervals that know that images of one prompt are not independent. No torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rate:
    """An error rate. `estimate`, `low` and `high` are None if nothing was scored.

    `lowest` and `highest` are the rates with every image that was not scored counted as sound, and as an error.
    """

    errors: int
    scored: int
    total: int
    estimate: float | None
    low: float | None
    high: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True)
class Mean:
    """A mean of `n` values; None where there are too few for it."""

    n: int
    estimate: float | None
    low: float | None
    high: float | None


def error_rate(verdicts: Sequence[bool | None], clusters: Sequence[Hashable | None], confidence: float = 0.95) -> Rate:
    """The share of errors among the verdicts that are not None, with a Wilson interval on the effective sample size.

    The effective size is n over the design effect, the ratio of the cluster-robust (linearized) variance of the rate to
    that of n independent images, held to at least 1; few clusters shrink it further, by the squared ratio of the t
    quantiles on n - 1 and on (clusters - 1) degrees of freedom (Korn & Graubard 1998, Survey Methodology 24, 193-201;
    compared with others by Franco, Little, Louis & Slud 2019, J. Survey Statistics and Methodology 7, 334-364). With
    one image a prompt this is Wilson's own interval. `clusters` are prompt ids; None or NaN is a cluster of its own.
    With no error, or errors only, the data cannot tell the design effect, and the number of clusters is taken as the
    effective size.
    """
    from scipy.stats import t
    from statsmodels.stats.proportion import proportion_confint

    kept = [(bool(v), c) for v, c in zip(verdicts, clusters, strict=True) if v is not None]
    total, scored, errors = len(verdicts), len(kept), sum(v for v, _ in kept)
    if scored == 0:
        nothing = (0.0, 1.0) if total else (None, None)
        return Rate(0, 0, total, None, None, None, *nothing)
    estimate = errors / scored
    residuals = cluster_sums([v - estimate for v, _ in kept], [c for _, c in kept])
    clusters_seen = len(residuals)
    size = float(clusters_seen)
    if 0 < errors < scored and clusters_seen > 1:
        independent = estimate * (1 - estimate) / (scored - 1)
        size = scored / max(1.0, robust_variance(residuals, scored) / independent)
        size *= float(t.ppf((1 + confidence) / 2, scored - 1) / t.ppf((1 + confidence) / 2, clusters_seen - 1)) ** 2
    low, high = proportion_confint(estimate * size, size, alpha=1 - confidence, method="wilson")
    # Rounding may push a bound past the estimate by 1e-17, at 0 and at 1.
    low, high = min(float(low), estimate), max(float(high), estimate)
    return Rate(errors, scored, total, estimate, low, high, errors / total, (errors + total - scored) / total)


def mean_interval(
    values: Sequence[float | None], clusters: Sequence[Hashable | None], confidence: float = 0.95
) -> Mean:
    """The mean of the values that are numbers, with a cluster-robust t interval on (clusters - 1) degrees of freedom.

    The variance is the sandwich estimator with the factor k / (k - 1) for k clusters (Liang & Zeger 1986).
    """
    from scipy.stats import t

    kept = [(float(v), c) for v, c in zip(values, clusters, strict=True) if v is not None and np.isfinite(v)]
    if not kept:
        return Mean(0, None, None, None)
    estimate = sum(v for v, _ in kept) / len(kept)
    residuals = cluster_sums([v - estimate for v, _ in kept], [c for _, c in kept])
    if len(residuals) < 2:
        return Mean(len(kept), estimate, None, None)
    half = float(t.ppf((1 + confidence) / 2, len(residuals) - 1)) * robust_variance(residuals, len(kept)) ** 0.5
    return Mean(len(kept), estimate, estimate - half, estimate + half)


def cluster_sums(residuals: Sequence[float], clusters: Sequence[Hashable | None]) -> list[float]:
    """The sum of the residuals of each cluster; None or NaN is a cluster of its own."""
    sums: dict[object, float] = {}
    for index, (residual, cluster) in enumerate(zip(residuals, clusters, strict=True)):
        # Data frames give NaN, which equals nothing, for a missing prompt.
        missing = cluster is None or cluster != cluster
        key = ("alone", index) if missing else ("cluster", cluster)
        sums[key] = sums.get(key, 0.0) + residual
    return list(sums.values())


def robust_variance(sums: Sequence[float], n: int) -> float:
    """The cluster-robust variance of a mean of n values, from the residual sums of its k clusters (k at least 2)."""
    k = len(sums)
    return k / (k - 1) * sum(value * value for value in sums) / n**2
