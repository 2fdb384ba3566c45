"""Rates from labels that people gave to a part of the images, with a scorer's verdicts of all to make the most of them.

The part may be drawn with unequal chances: then labels count by the inverse of their chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import Floats, as_column, as_floats, cluster_codes, cluster_sums, robust_variance
from hafbench.statistics.rates import error_rate, wilson


@dataclass(frozen=True)
class LabelledRate:
    """A rate of errors by `labels` clear labels; None, with the `reason`, where there is none.

    `effective` is how many labels of independent images, drawn with equal chances and without a scorer, would tell as
    much. `weight` is how far the verdicts are trusted: 0 not at all, 1 as a label but for their mean error.
    """

    labels: int
    estimate: float | None
    low: float | None
    high: float | None
    effective: float | None
    weight: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class LabelledDifference:
    """Candidate minus baseline, of rates by labels; `labels` are those of each. `p_value` is of a t test on prompts."""

    labels: tuple[int, int]
    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class LabelledImages:
    """Images of one model, (n,): `labels` True for an error, None where there is none; `verdicts` of a scorer, or None.

    A verdict that is missing counts as the mean of the others. `chances` are those with which the labelled images were
    chosen, up to a factor; without them all are alike.
    """

    labels: Any
    clusters: Any
    verdicts: Any = None
    chances: Any = None


TOO_FEW = "labels of at least two prompts are needed"
TOO_FEW_EACH = "labels of at least two prompts of each model are needed"


@dataclass(frozen=True)
class _Fit:
    """An estimate, what each image adds to its error (n,), and which images have a part in it (n,).

    `even`: the number of labels of equal chances that their weights amount to (Kish 1965).
    """

    labels: int
    even: float
    estimate: float
    weight: float
    influence: Floats
    used: np.ndarray


def _fit(images: LabelledImages) -> _Fit:
    """The mean verdict of all images plus the mean of (label - weight x verdict) of those labelled.

    This is PPI++ (Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453, eq. 2) with the mean of all verdicts in place of
    those not labelled, which is the same with another weight; means of labelled images are weighted by the inverse of
    their chances, and normalized (Hajek 1971). The weight makes the variance least, and is held to [0, 1]: their power
    tuning (section 6), for any chances (Zrnic & Candes 2024, arXiv 2403.03208, section 4).
    """
    truth = as_floats(images.labels)
    known = np.isfinite(truth)
    chances = np.ones(len(truth)) if images.chances is None else as_floats(images.chances)
    part = np.where(known, 1 / np.where(known, chances, 1.0), 0.0)
    part /= part.sum()
    labels = np.where(known, truth, 0.0)
    mean = float(part @ labels)
    own = part * (labels - mean)
    even = 1 / float(np.sum(part[known] ** 2))
    if images.verdicts is None:
        return _Fit(int(known.sum()), even, mean, 0.0, own, known)
    verdicts = as_floats(images.verdicts)
    judged = np.isfinite(verdicts)
    verdicts = np.where(judged, verdicts, verdicts[judged].mean() if judged.any() else 0.0)
    overall, seen = float(verdicts.mean()), float(part @ verdicts)
    moved = (verdicts - overall) / len(verdicts) - part * (verdicts - seen)
    spread = float(moved @ moved)
    weight = float(np.clip(-(own @ moved) / spread, 0, 1)) if spread > 1e-18 else 0.0
    # Without a weight the images that have no label say nothing, and their prompts are none to count.
    used = known | (weight > 0)
    return _Fit(int(known.sum()), even, mean + weight * (overall - seen), weight, own + weight * moved, used)


def labelled_rate(images: LabelledImages, confidence: float = 0.95) -> LabelledRate:
    """The true rate of errors of all images, with Wilson's interval on the size that its variance amounts to.

    The variance is made of whole prompts, and the size is made less by the t quantiles of the number of labelled ones.
    With verdicts it has that of one more label which contradicts its verdict, (weight / number of labels)^2: a few
    labels that all agree do not show that the verdicts are never wrong, and without it their interval would be one of
    as many labels as there are images. Without verdicts, and with equal chances, it is `error_rate` of the labels.
    """
    from scipy.stats import norm, t

    truth, codes = as_floats(images.labels), cluster_codes(images.clusters)
    known = np.isfinite(truth)
    k = len(np.unique(codes[known]))
    if k < 2:
        return LabelledRate(int(known.sum()), None, None, None, None, 0.0, TOO_FEW)
    chances = None if images.chances is None else as_floats(images.chances)[known]
    if images.verdicts is None and (chances is None or np.ptp(chances) <= 1e-9 * chances.max()):
        rate = error_rate(truth, images.clusters, confidence)
        return LabelledRate(rate.scored, rate.estimate, rate.low, rate.high, rate.effective)
    fit = _fit(images)
    estimate = float(np.clip(fit.estimate, 0, 1))
    variance = robust_variance(cluster_sums(fit.influence[fit.used], codes[fit.used]), 1)
    variance += (fit.weight / fit.even) ** 2
    most = fit.even if images.verdicts is None else float(len(truth))
    size = min(float(k), fit.even)
    if 0 < estimate < 1 and variance > 0:
        size = min(most, estimate * (1 - estimate) / variance)
    middle = (1 + confidence) / 2
    shrunk = size * float(norm.ppf(middle) / t.ppf(middle, k - 1)) ** 2
    # As in `error_rate`, so that the two can be compared.
    effective = size * float(t.ppf(middle, fit.labels - 1) / t.ppf(middle, k - 1)) ** 2
    return LabelledRate(fit.labels, estimate, *wilson(estimate, shrunk, confidence), effective, fit.weight)


def labelled_difference(
    baseline: LabelledImages, candidate: LabelledImages, confidence: float = 0.95
) -> LabelledDifference:
    """The difference of two models' true rates; prompts of both are the clusters, so that shared ones pair them.

    The interval is a t interval on the number of labelled prompts less one. The variance of each side has that of one
    more label, as in `labelled_rate`, here whatever the weight: labels that are all alike do not show that none is
    another.
    """
    import pandas as pd
    from scipy.stats import t

    sides = (baseline, candidate)
    codes = cluster_codes(pd.concat([as_column(side.clusters) for side in sides], ignore_index=True))
    truth = np.concatenate([as_floats(side.labels) for side in sides])
    known = np.isfinite(truth)
    split = len(as_floats(baseline.labels))
    counts = (int(known[:split].sum()), int(known[split:].sum()))
    k = len(np.unique(codes[known]))
    if min(len(np.unique(codes[part][known[part]])) for part in (slice(split), slice(split, None))) < 2:
        return LabelledDifference(counts, None, None, None, None, TOO_FEW_EACH)
    fits = [_fit(side) for side in sides]
    moved = fits[1].estimate - fits[0].estimate
    used = np.concatenate([fit.used for fit in fits])
    sums = cluster_sums(np.concatenate([-fits[0].influence, fits[1].influence])[used], codes[used])
    variance = robust_variance(sums, 1)
    if variance <= 1e-24:
        return LabelledDifference(counts, moved, None, None, None, "all labelled prompts are alike")
    error = (variance + sum(fit.even**-2 for fit in fits)) ** 0.5
    half = float(t.ppf((1 + confidence) / 2, k - 1)) * error
    p_value = float(2 * t.sf(abs(moved) / error, k - 1))
    return LabelledDifference(counts, moved, max(-1.0, moved - half), min(1.0, moved + half), p_value)
