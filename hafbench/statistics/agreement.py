"""How far two raters agree, beyond what chance would have them agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import Floats, as_floats, bootstrap, cluster_codes, cluster_sums
from hafbench.statistics.rates import wilson

RESAMPLES = 10_000


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa on `n` images that both judged: 1 is full agreement, 0 that of chance. `agree` is the plain share.

    None where there is nothing to compare, or where both gave all images one and the same verdict.
    """

    n: int
    agree: float | None
    estimate: float | None
    low: float | None
    high: float | None


def cohen_kappa(
    one: Any, other: Any, clusters: Any, *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> Kappa:
    """Cohen's kappa (1960, Educational and Psychological Measurement 20, 37-46) of two raters' verdicts (n,).

    Verdicts are numbers, such as 0 and 1, or -1, 0 and 1; those that either has not (None, NaN) are left out. The
    interval is a bootstrap of whole prompts, with expanded percentiles. Where they agree on all, every resample is
    alike: it then begins at the kappa of Wilson's lower bound of the agreement, of as many images as there are prompts.
    """
    first, second = as_floats(one), as_floats(other)
    kept = np.isfinite(first) & np.isfinite(second)
    first, second, codes = first[kept], second[kept], cluster_codes(clusters)[kept]
    n = len(first)
    if not n:
        return Kappa(0, None, None, None, None)
    values = np.unique(np.concatenate([first, second]))
    # Of each prompt: the number of images, of agreements, and of each value by either rater.
    columns = [np.ones(n), first == second, *(side == value for value in values for side in (first, second))]
    table = np.stack([cluster_sums(column.astype(np.float64), codes) for column in columns], axis=1)

    def kappa(sums: Floats) -> Floats:
        count, agreed = sums[:, 0], sums[:, 1] / sums[:, 0]
        chance = np.sum(sums[:, 2::2] * sums[:, 3::2], axis=1) / count**2
        with np.errstate(divide="ignore", invalid="ignore"):
            # Where a resample has one value only, the raters agree in full.
            return np.asarray(np.where(chance < 1, (agreed - chance) / (1 - chance), 1.0))[:, None]

    agree = float(np.mean(first == second))
    if len(values) < 2:
        return Kappa(n, agree, None, None, None)
    estimate = float(kappa(table.sum(0, keepdims=True))[0, 0])
    if len(table) < 2:
        return Kappa(n, agree, estimate, None, None)
    if agree == 1:
        chance = sum(float(np.mean(first == value)) ** 2 for value in values)
        fewest, _ = wilson(1.0, len(table), confidence)
        return Kappa(n, agree, estimate, (fewest - chance) / (1 - chance), 1.0)
    low, high = bootstrap(table, kappa, resamples=resamples, seed=seed, confidence=confidence)
    return Kappa(n, agree, estimate, float(low[0]), float(high[0]))
