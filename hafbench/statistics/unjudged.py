"""What the images that could not be judged might do to a difference of error rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import Floats, as_floats
from hafbench.statistics.paired import Difference, compare_means

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Unjudged:
    """`judged` is the difference of the shares of images that could be judged.

    `bounds` hold the difference of rates over all images, whatever those not judged are; `one_sided` hold it where only
    those may be anything that could be judged for one of the models and not for the other. None without images.
    """

    judged: Difference
    bounds: Bounds | None
    one_sided: Bounds | None

    def uneven(self, level: float = 0.05) -> bool:
        """Whether one model could be judged more often than the other, and that alone might undo a difference.

        Such images are not missing by chance: a model whose hands are so bad that none is found is judged by its best.
        """
        if self.one_sided is None or self.judged.p_value is None:
            return False
        low, high = self.one_sided
        return self.judged.p_value < level and low <= 0 <= high


def compare_unjudged(
    baseline: Any, baseline_clusters: Any, candidate: Any, candidate_clusters: Any, *, paired: bool
) -> Unjudged:
    """From the verdicts of two models, None or NaN where an image could not be judged.

    `paired` verdicts are of the same prompt and seed at the same place. Else what both models could not judge, as far
    as their numbers tell, is left out of `one_sided`.
    """
    one, other = as_floats(baseline), as_floats(candidate)
    known = np.isfinite(one), np.isfinite(other)
    judged = compare_means(known[0], baseline_clusters, known[1], candidate_clusters)
    if not len(one) or not len(other):
        return Unjudged(judged, None, None)
    if paired:
        either = known[0] | known[1]
        one_sided = _bounds(one[either], other[either]) if either.any() else None
    else:
        share = [float(side.mean()) for side in known]
        common = max(share)
        one_sided = _apart(_range(one, share[0] / common), _range(other, share[1] / common)) if min(share) > 0 else None
    return Unjudged(judged, _bounds(one, other), one_sided)


def _bounds(one: Floats, other: Floats) -> Bounds:
    return _apart(*(_range(side, float(np.isfinite(side).mean())) for side in (one, other)))


def _range(verdicts: Floats, known: float) -> Bounds:
    """The rate where a share `known` of the images is as those judged, and the rest sound, or in error."""
    low = known * float(np.nanmean(verdicts)) if known else 0.0
    return low, low + 1 - known


def _apart(one: Bounds, other: Bounds) -> Bounds:
    return other[0] - one[1], other[1] - one[0]
