"""Rates corrected for a scorer's mistakes: by its known accuracy, or by human labels on a part of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import as_floats
from hafbench.statistics.labelled import LabelledImages, labelled_rate
from hafbench.statistics.rates import Rate


@dataclass(frozen=True)
class Accuracy:
    """How a scorer did on labelled images: `flagged_bad` of `bad` ones with an error, `passed_good` of `good` ones."""

    flagged_bad: float
    bad: float
    passed_good: float
    good: float

    @property
    def sensitivity(self) -> float:
        """The share of the images with an error that it flags."""
        return self.flagged_bad / self.bad

    @property
    def specificity(self) -> float:
        """The share of the sound images that it passes."""
        return self.passed_good / self.good


@dataclass(frozen=True)
class Corrected:
    """A corrected rate; `reason` says why there is none."""

    estimate: float | None
    low: float | None
    high: float | None
    reason: str | None = None


def corrected_rate(rate: Rate, accuracy: Accuracy, confidence: float = 0.95) -> Corrected:
    """The true rate of errors behind the rate of flagged images, held to [0, 1].

    estimate = (rate + specificity - 1) / (sensitivity + specificity - 1) (Rogan & Gladen 1978, Am. J. Epidemiology 107,
    71-76). The interval holds every true rate t at which the rate seen is within its normal bounds, given the
    uncertainty of all three: (seen - expected)^2 <= z^2 (expected (1 - expected) / n + t^2 v1 + (1 - t)^2 v2), where
    expected = t sensitivity + (1 - t) (1 - specificity), n is the rate's effective size, v1 and v2 are the variances
    of the card's two shares, with half an image added on either side (Fieller 1954, JRSS B 16, 175-185, with Wilson's
    variance). It holds where the scorer errs on these images as often as on those that its accuracy was measured on.
    """
    from scipy.stats import norm

    if rate.estimate is None or rate.effective is None:
        return Corrected(None, None, None, "nothing was scored")
    if not accuracy.bad or not accuracy.good:
        return Corrected(None, None, None, "its card lacks labelled images of one side")
    if accuracy.sensitivity + accuracy.specificity <= 1 + 1e-9:  # of shares that are rounded
        return Corrected(None, None, None, "on its card the scorer is no better than chance")
    youden = accuracy.sensitivity + accuracy.specificity - 1
    estimate = float(np.clip((rate.estimate + accuracy.specificity - 1) / youden, 0, 1))

    z2 = float(norm.ppf((1 + confidence) / 2)) ** 2
    n, bad, good = rate.effective, accuracy.bad + 1, accuracy.good + 1
    hit, false = (accuracy.flagged_bad + 0.5) / bad, 1 - (accuracy.passed_good + 0.5) / good
    slope, v1, v2 = hit - false, hit * (1 - hit) / bad, false * (1 - false) / good
    gap = rate.estimate - false
    # The inequality as a t^2 + b t + c <= 0.
    a = slope**2 * (1 + z2 / n) - z2 * (v1 + v2)
    b = -2 * gap * slope - z2 * (slope * (1 - 2 * false) / n - 2 * v2)
    c = gap**2 - z2 * (false * (1 - false) / n + v2)
    if a <= 0:
        return Corrected(estimate, 0.0, 1.0, "its card cannot tell the scorer from chance")
    root = float(np.sqrt(b**2 - 4 * a * c))
    low, high = (-b - root) / (2 * a), (-b + root) / (2 * a)
    if high < 0 or low > 1:
        return Corrected(estimate, None, None, "no true rate explains the rate seen: its card is not of such images")
    return Corrected(estimate, min(max(low, 0.0), estimate), max(min(high, 1.0), estimate))


def prediction_powered_rate(labels: Any, verdicts: Any, clusters: Any, confidence: float = 0.95) -> Corrected:
    """The true rate of errors of all images, when people have labelled a random part of them.

    `labels` (n,) are True for an error, None where nobody has looked; `verdicts` (n,) are the scorer's, None where it
    could not tell, which is worth half a verdict. See `labelled_rate`, which also takes other chances.
    """
    truth, verdict = as_floats(labels), as_floats(verdicts)
    images = LabelledImages(truth, clusters, np.where(np.isfinite(verdict), verdict, 0.5))
    found = labelled_rate(images, confidence)
    if found.reason is None and np.isfinite(truth).all():
        return Corrected(None, None, None, "every image has a label: no scorer is needed")
    return Corrected(found.estimate, found.low, found.high, found.reason)
