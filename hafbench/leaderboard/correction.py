"""Whether a corrected rate follows from an entry's verdicts and from what its calibration card claims."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from hafbench.cards import NEAR, Share
from hafbench.leaderboard.entries import Anatomy, CardFacts
from hafbench.statistics import Accuracy, Rate, corrected_rate
from hafbench.statistics.rates import wilson

Z2 = 1.959963984540054**2
"""The square of the normal quantile of 95 % intervals."""


def wrong_correction(one: Anatomy, rate: Rate) -> Iterator[str]:
    """What does not follow, in a sentence; `rate` is that of the verdicts."""
    if one.corrected is None or one.card is None:
        if (one.corrected is None) != (one.card is None):
            yield "a corrected rate and a calibration card are there together, or neither is."
        return
    try:
        accuracy = _accuracy(one.card)
    except ValueError as error:
        yield f"{error}."
        return
    anew = asdict(corrected_rate(rate, accuracy))
    for name, value in one.corrected.model_dump(exclude={"reason"}).items():
        if not same(value, anew[name]):
            yield f"{name} of the corrected rate is {value}, but its verdicts and its card give {anew[name]}."
            return


def _accuracy(card: CardFacts) -> Accuracy:
    """The card's counts as so many independent images; raises ValueError for figures that no such counts have."""
    if card.auroc.n != card.bad + card.good:
        raise ValueError(
            f"the AUROC of its card is of {card.auroc.n} images, not of {card.bad} bad and {card.good} good"
        )
    sizes = []
    for name, share, count in (
        ("sensitivity", card.sensitivity, card.bad),
        ("specificity", card.specificity, card.good),
    ):
        size = _independent(share)
        if share.n != count or size is None:
            raise ValueError(f"the {name} of its card is of other images than it says, or has another interval")
        sizes.append((size, (share.estimate or 0.0) * size))
    (bad, flagged), (good, passed) = sizes
    return Accuracy(flagged, bad, passed, good)


def _independent(share: Share) -> float | None:
    """The number n of independent images whose Wilson interval a share has, or None if there is none.

    The bounds solve (n + z^2) x^2 - (2 n p + z^2) x + n p^2 = 0, so that their product is n p^2 / (n + z^2).
    """
    if share.estimate is None or share.low is None or share.high is None:
        return 0.0 if share.n == 0 else None
    p, low, high = share.estimate, share.low, share.high
    if p < 0.5:  # by the share of the others, whose bounds are not near 0
        p, low, high = 1 - p, 1 - high, 1 - low
    product = low * high
    size = Z2 * product / (p**2 - product) if p**2 > product else math.inf
    if not 0 < size <= share.n * (1 + NEAR):
        return None
    bounds = wilson(share.estimate, size)
    return size if same(bounds[0], share.low) and same(bounds[1], share.high) else None


def same(one: float | None, other: float | None) -> bool:
    """Whether two figures are the same but for rounding."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=NEAR)
