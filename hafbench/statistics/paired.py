"""Two models on the same prompts: the difference of their rates or means, wins and losses, and equivalence.

A comparison is by (prompt, seed) where both models have it, and else by prompt. `baseline` comes first; a difference is
candidate - baseline, so that an error rate's negative difference is an improvement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import (
    Floats,
    as_column,
    as_floats,
    bootstrap,
    cluster_codes,
    cluster_sums,
    permutation_p_value,
    robust_variance,
)
from hafbench.statistics.rates import wilson

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """A difference of means over shared prompts. Intervals and tests are None where there are fewer than two prompts.

    `baseline` and `candidate` are the means of what was compared, `n_baseline` and `n_candidate` their images.
    `error` is the cluster-robust standard error; `p_value` is of the clustered permutation test. `span` is how far
    values can lie apart, given where all prompts differ alike: `error` is then 0 and says nothing.
    """

    n_baseline: int
    n_candidate: int
    clusters: int
    baseline: float | None
    candidate: float | None
    estimate: float | None
    low: float | None
    high: float | None
    error: float | None
    p_value: float | None
    span: float | None = None


@dataclass(frozen=True)
class WinTieLoss:
    """Pairs of images of the same prompt and seed: the candidate wins where only the baseline's image is in error.

    `rsi` is the Relative Superiority Index, (win + tie) / (lose + tie) (ASAP, eq. 8): 1 is parity, higher is better;
    infinite where the candidate won every pair. `mcnemar` is the exact test's p-value, which takes every pair as
    independent; the permutation test of the difference does not.
    """

    win: int
    tie: int
    lose: int
    rsi: float | None
    rsi_low: float | None
    rsi_high: float | None
    mcnemar: float | None


@dataclass(frozen=True)
class Equivalence:
    """Whether a mean stayed within +- margin: `p_value` of the two one-sided tests, and the 90 % interval behind it.

    `p_value` is None where all prompts differ alike, which leaves the interval alone, and where nothing was compared.
    """

    margin: float
    low: float | None
    high: float | None
    p_value: float | None
    shown: bool


def compare_means(
    baseline: Any,
    baseline_clusters: Any,
    candidate: Any,
    candidate_clusters: Any,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    interval: bool = True,
) -> Difference:
    """The difference of two means of values or verdicts, over the prompts that both have; None and NaN are left out.

    The interval is a bootstrap of whole prompts, with expanded percentiles; the p-value is of the permutation test that
    exchanges the models' labels for whole prompts. Where all prompts differ alike, such as by nothing, the data cannot
    tell how many others would not: that share is then Wilson's bound for none among as many images as there are
    prompts, and the interval is from where those others move by all that values can one way, to the other way. There
    is none where all values are one, which is then no verdict, and none without `interval`, which takes half the time.
    """
    one, other, span = _totals(baseline, baseline_clusters, candidate, candidate_clusters)
    k, n_one, n_other = len(one), int(one[:, 1].sum()), int(other[:, 1].sum())
    if not k:
        return Difference(0, 0, 0, None, None, None, None, None, None, None)
    mean, new = (float(side[:, 0].sum() / side[:, 1].sum()) for side in (one, other))
    if k < 2:
        return Difference(n_one, n_other, k, mean, new, new - mean, None, None, None, None)
    influence = (other[:, 0] - new * other[:, 1]) / n_other - (one[:, 0] - mean * one[:, 1]) / n_one
    error = robust_variance(influence, 1) ** 0.5

    def difference(x: Floats, y: Floats) -> Floats:
        return np.asarray(y[:, 0] / y[:, 1] - x[:, 0] / x[:, 1])

    p_value = permutation_p_value(one, other, difference, resamples=resamples, seed=seed)
    moved, low, high = new - mean, None, None
    if not span or np.all(np.abs(influence) <= 1e-9 * span / k):
        if span:
            low, high = _alike(moved, span, k, confidence)
        return Difference(n_one, n_other, k, mean, new, moved, low, high, 0.0, p_value, span)
    if not interval:
        return Difference(n_one, n_other, k, mean, new, moved, None, None, error, p_value)
    lows, highs = bootstrap(
        np.hstack([one, other]),
        lambda sums: difference(sums[:, :2], sums[:, 2:])[:, None],
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    return Difference(n_one, n_other, k, mean, new, moved, float(lows[0]), float(highs[0]), error, p_value)


def _alike(moved: float, span: float, k: int, confidence: float) -> tuple[float, float]:
    """The interval of a difference that all of k prompts have: some others move by all that values can."""
    far = wilson(0.0, k, confidence)[1]
    return moved - far * (span + moved), moved + far * (span - moved)


def _totals(
    baseline: Any, baseline_clusters: Any, candidate: Any, candidate_clusters: Any
) -> tuple[Floats, Floats, float]:
    """The sum and number of each shared cluster, (k, 2) for each side, and how far values can lie apart.

    That is 1 for verdicts, and for other values the range of those seen.
    """
    import pandas as pd

    values = [as_floats(baseline), as_floats(candidate)]
    codes = cluster_codes(pd.concat([as_column(baseline_clusters), as_column(candidate_clusters)]))
    split = len(values[0])
    tables = []
    for value, code in zip(values, (codes[:split], codes[split:]), strict=True):
        kept = np.isfinite(value)
        size = int(codes.max(initial=-1)) + 1
        sums, counts = (np.bincount(code[kept], weights, size) for weights in (value[kept], np.ones(kept.sum())))
        tables.append(np.stack([sums, counts], axis=1))
    shared = (tables[0][:, 1] > 0) & (tables[1][:, 1] > 0)
    one, other = (np.asarray(table[shared], dtype=np.float64) for table in tables)
    seen = np.concatenate([value[np.isfinite(value)] for value in values])
    span = 1.0 if np.all(np.isin(seen, (0, 1))) else float(np.ptp(seen))
    return one, other, span


def compare_wins(
    baseline: Any,
    candidate: Any,
    clusters: Any,
    *,
    higher_is_better: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> WinTieLoss:
    """Wins, ties, losses and RSI over pairs (n,) of the same prompt and seed; pairs with a None are left out.

    Values are verdicts (True is an error) or scores; equal ones are ties. The interval of the RSI is a bootstrap of
    whole prompts, with expanded percentiles. Where all prompts have the same shares of wins, ties and losses, the share
    of others that have only losses, or only wins, is Wilson's bound for none among as many images as there are prompts.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    one, other = as_floats(baseline), as_floats(candidate)
    kept = np.isfinite(one) & np.isfinite(other)
    codes = cluster_codes(clusters)[kept]
    gain = np.sign(other[kept] - one[kept]) * (1 if higher_is_better else -1)
    counts = np.stack([cluster_sums(gain == sign, codes) for sign in (1, 0, -1)], axis=1)
    win, tie, lose = (int(count) for count in counts.sum(0))
    if not len(gain):
        return WinTieLoss(0, 0, 0, None, None, None, None)
    p_value = float(mcnemar([[0, win], [lose, 0]], exact=True).pvalue) if win + lose else 1.0
    rsi = (win + tie) / (lose + tie) if lose + tie else float("inf")
    if len(counts) < 2:
        return WinTieLoss(win, tie, lose, rsi, None, None, p_value)

    shares = counts / counts.sum(1, keepdims=True)
    if np.allclose(shares, shares[0], rtol=0, atol=1e-12):
        far = wilson(0.0, len(counts), confidence)[1]
        up, down = ((1 - far) * float(np.sum(shares[0][places])) for places in ([0, 1], [1, 2]))
        return WinTieLoss(win, tie, lose, rsi, up / (down + far), (up + far) / down if down else float("inf"), p_value)

    def index(sums: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray((sums[:, :1] + sums[:, 1:2]) / (sums[:, 2:] + sums[:, 1:2]))

    low, high = bootstrap(counts, index, resamples=resamples, seed=seed, confidence=confidence)
    return WinTieLoss(win, tie, lose, rsi, float(low[0]), float(high[0]), p_value)


def equivalence(difference: Difference, margin: float, level: float = 0.05) -> Equivalence:
    """Two one-sided t tests that the difference lies within +- margin (Schuirmann 1987), on clusters - 1 degrees.

    Where all prompts differ alike there is no error to test with: it is shown if the interval of the difference, with
    Wilson's bound for prompts that would differ otherwise (see `compare_means`), lies within the margin.
    """
    from scipy.stats import t

    moved = difference.estimate
    if moved is None or difference.error is None:
        return Equivalence(margin, None, None, None, False)
    if difference.error == 0:
        if not difference.span:
            return Equivalence(margin, None, None, None, False)
        low, high = _alike(moved, difference.span, difference.clusters, 1 - 2 * level)
        return Equivalence(margin, low, high, None, -margin < low and high < margin)
    degrees = difference.clusters - 1
    half = float(t.ppf(1 - level, degrees)) * difference.error
    p_value = float(t.sf((margin - abs(moved)) / difference.error, degrees))
    return Equivalence(margin, moved - half, moved + half, p_value, p_value < level)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several comparisons, in their order; None stays None and does not count.

    The least p is taken times their number, the next times one less, and so on; none is less than the one before, and
    at most 1 (Holm 1979, Scandinavian Journal of Statistics 6, 65-70). It is that of statsmodels, which collects the
    garbage of the whole process each time it is called.
    """
    known = np.asarray([p for p in p_values if p is not None], dtype=np.float64)
    order, corrected = np.argsort(known), np.empty(len(known))
    corrected[order] = np.minimum(np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)), 1)
    values = iter(corrected)
    return [None if p is None else float(next(values)) for p in p_values]
