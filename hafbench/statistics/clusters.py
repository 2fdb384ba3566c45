"""Prompts as clusters: codes, sums, the cluster-robust variance, and the bootstrap over whole clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUNDLES = 2_000
"""Clusters that are resampled each by itself; where there are more, bundles of them are."""
CELLS = 200_000
"""Numbers held at once while resampling: 1.6 MB, which a cache may hold."""


def as_floats(values: Any) -> Floats:
    """Numbers or verdicts as floats (n,), NaN for what is missing: a sequence with None, an array, a pandas column."""
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(values, dtype=np.float64)


def as_column(clusters: Any) -> pd.Series[Any]:
    """A pandas column as it is, and any other sequence as one of objects."""
    import pandas as pd

    return clusters if isinstance(clusters, pd.Series) else pd.Series(list(clusters), dtype=object)


def cluster_codes(clusters: Any) -> Ints:
    """Codes (n,) from 0 on, equal where the clusters are; None or NaN is a cluster of its own."""
    import pandas as pd

    codes, values = pd.factorize(as_column(clusters))
    alone = codes < 0
    codes[alone] = len(values) + np.arange(alone.sum())
    return np.asarray(codes, dtype=np.int64)


def cluster_sums(values: Floats, codes: Ints) -> Floats:
    """The sum of the values of each cluster that is there, (k,)."""
    if not len(codes):
        return np.zeros(0)
    there = np.bincount(codes) > 0
    return np.asarray(np.bincount(codes, weights=values)[there])


def robust_variance(sums: Floats, n: float) -> float:
    """The cluster-robust variance of a mean of n values, from the residual sums of its k clusters (k at least 2).

    The sandwich estimator with the factor k / (k - 1) (Liang & Zeger 1986, Biometrika 73, 13-22).
    """
    k = len(sums)
    return float(k / (k - 1) * np.sum(sums**2) / n**2)


def bundled(totals: Floats) -> Floats:
    """The sums (k, t) of clusters; where there are more than BUNDLES, of bundles of them: each cluster's turn comes.

    Sums over clusters that are drawn or exchanged bundle by bundle have the same mean and variance, and with thousands
    of bundles the same normal distribution; the time no longer grows with the clusters. Two sides that are bundled
    each by itself keep the same clusters together.
    """
    if len(totals) <= BUNDLES:
        return totals
    found = np.zeros((BUNDLES, totals.shape[1]))
    np.add.at(found, np.arange(len(totals)) % BUNDLES, totals)
    return found


def _blocks(rows: int, k: int) -> Iterator[range]:
    """The rows of a table of k columns, as many at once as CELLS allows."""
    step = max(1, CELLS // k)
    return (range(first, min(first + step, rows)) for first in range(0, rows, step))


@lru_cache(maxsize=2)
def _draws(k: int, resamples: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """How often each of k clusters is drawn in each resample, blocks (r, k): the same for all metrics of a run."""
    rng = np.random.default_rng(seed)
    blocks = []
    for rows in _blocks(resamples, k):
        drawn = rng.integers(k, size=(len(rows), k)) + k * np.arange(len(rows))[:, None]
        times = np.bincount(drawn.ravel(), minlength=len(rows) * k).reshape(len(rows), k)
        blocks.append(times.astype(np.uint16))
    return tuple(blocks)


@lru_cache(maxsize=2)
def _exchanges(k: int, resamples: int, seed: int) -> tuple[NDArray[np.int8], ...]:
    """Which of k clusters change places in each resample, 0 or 1, blocks (r, k)."""
    rng = np.random.default_rng([seed, 1])
    return tuple(rng.integers(2, size=(len(rows), k), dtype=np.int8) for rows in _blocks(resamples, k))


def _every_exchange(k: int) -> Iterator[Ints]:
    """All 2^k of them."""
    for rows in _blocks(2**k, k):
        yield (np.arange(rows.start, rows.stop)[:, None] >> np.arange(k)) & 1


def bootstrap(
    totals: Floats, statistic: Callable[[Floats], Floats], *, resamples: int, seed: int, confidence: float
) -> tuple[Floats, Floats]:
    """Bounds (s,) of `statistic` by resampling whole clusters.

    `totals` (k, t) are the sums of each cluster, k at least 2; `statistic` maps their sums over resampled clusters,
    (resamples, t), to (resamples, s), and ignores NaN. The bounds are expanded percentiles: those whose width matches a
    t interval on k - 1 degrees of freedom and the unbiased variance (Hesterberg 2015, American Statistician 69,
    371-386, section 5.3), since plain percentiles are too narrow for few clusters.
    """
    from scipy.stats import norm, t

    totals = bundled(totals)
    k = len(totals)
    values = [statistic(times.astype(np.float64) @ totals) for times in _draws(k, resamples, seed)]
    tail = float(norm.cdf(np.sqrt(k / (k - 1)) * t.ppf((1 - confidence) / 2, k - 1)))
    # "lower" and "higher" rather than between two values: a ratio may be infinite, and inf - inf is no number.
    every = np.concatenate(values)
    return (
        np.asarray(np.nanquantile(every, tail, axis=0, method="lower")),
        np.asarray(np.nanquantile(every, 1 - tail, axis=0, method="higher")),
    )


def permutation_p_value(
    one: Floats, other: Floats, difference: Callable[[Floats, Floats], Floats], *, resamples: int, seed: int
) -> float:
    """Two-sided p-value that two models are alike: the labels of whole clusters change places.

    `one` and `other` (k, t) are the sums of each cluster; `difference` maps two (resamples, t) to (resamples,). Every
    exchange counts once where there are no more of them than `resamples`; else drawn ones, with the observed one among
    them (Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, 39).
    """
    one, other = bundled(one), bundled(other)
    k = len(one)
    apart = other - one
    observed = abs(float(difference(one.sum(0)[None], other.sum(0)[None])[0]))
    exact = 2**k <= resamples if k < 60 else False
    count = 2**k if exact else resamples
    as_far = 0
    for swap in _every_exchange(k) if exact else _exchanges(k, resamples, seed):
        moved = swap.astype(np.float64) @ apart
        values = difference(one.sum(0) + moved, other.sum(0) - moved)
        # Sums in another order differ by rounding, and an exact tie must count.
        as_far += int(np.sum(np.abs(values) >= observed * (1 - 1e-9) - 1e-12))
    return as_far / count if exact else (as_far + 1) / (count + 1)
