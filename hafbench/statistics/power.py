"""What a suite can show: the smallest difference that it would find, and the seeds needed for a given one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hafbench.statistics.clusters import as_floats, cluster_codes


@dataclass(frozen=True)
class Power:
    """The variances of a paired difference, for planning the next run.

    `between` is the variance of a prompt's expected difference, `within` that of a pair about it; `seeds` is the mean
    number of pairs a prompt. `level` and `power` are those of a two-sided test; it is one of as many `tests` as Holm
    corrects for, and is planned for his first step, level / tests: the others may all find nothing.
    """

    prompts: int
    seeds: float
    between: float
    within: float
    level: float
    power: float
    tests: int = 1

    @property
    def quantile(self) -> float:
        """The sum of the normal quantiles of the corrected level and of the power."""
        from scipy.stats import norm

        return float(norm.ppf(1 - self.level / self.tests / 2) + norm.ppf(self.power))

    @property
    def fewest(self) -> int:
        """With fewer prompts the permutation test cannot reach the corrected level, whatever the difference."""
        return math.ceil(math.log2(2 * self.tests / self.level))

    @property
    def smallest(self) -> float:
        """The smallest true difference that such a comparison finds with the asked power, if the prompts suffice."""
        return self.quantile * math.sqrt((self.between + self.within / self.seeds) / self.prompts)

    def seeds_for(self, difference: float) -> int | None:
        """Seeds a prompt that would find a true difference of that size; None if only more prompts would do."""
        if self.prompts < self.fewest:
            return None
        room = self.prompts * (difference / self.quantile) ** 2 - self.between
        return max(1, math.ceil(self.within / room - 1e-9)) if room > 0 else None

    def prompts_for(self, difference: float) -> int:
        """Prompts that would find a true difference of that size with as many seeds as now."""
        needed = (self.quantile / difference) ** 2 * (self.between + self.within / self.seeds)
        return max(self.fewest, math.ceil(needed - 1e-9))


def power_of(differences: Any, clusters: Any, *, level: float = 0.05, power: float = 0.8) -> Power | None:
    """From the differences (n,) of pairs of the same prompt and seed; None if fewer than two prompts have one.

    The variances are those of the one-way analysis of variance (method of moments). Two prompts are added to those
    seen: half a prompt that the candidate wins, half a one that it loses, and one tie, the half in each cell of the
    table of pairs by which Agresti & Min (2005, Statistics in Medicine 24, 729-740) improve intervals of paired
    proportions. Without them the variance of models that agree on every prompt would be 0, and any difference would be
    found. A win is a difference of 1 for verdicts, and for other values the root of the mean square of those seen. One
    seed a prompt cannot tell the variances apart and all is taken as within, which makes `seeds_for` optimistic.
    Two-sided test, normal quantiles, one test alone.
    """
    values = as_floats(differences)
    kept = np.isfinite(values)
    _, codes = np.unique(cluster_codes(clusters)[kept], return_inverse=True)
    values = values[kept]
    n, k = len(values), int(codes.max(initial=-1)) + 1
    if k < 2:
        return None
    sizes = np.bincount(codes)
    means = np.bincount(codes, values) / sizes
    win = 1.0 if np.all(np.isin(values, (-1, 0, 1))) else float(np.sqrt(np.mean(values**2)))
    seeds, grand = n / k, float(values.sum()) / (n + 2 * n / k)
    added = seeds * ((win - grand) ** 2 + (win + grand) ** 2 + 2 * grand**2) / 2
    total = (float(np.sum(sizes * (means - grand) ** 2)) + added) / (k + 1)
    if n == k:
        return Power(k, 1.0, 0.0, total, level, power)
    within = float(np.sum((values - means[codes]) ** 2)) / (n - k)
    average = float(n - np.sum(sizes**2) / n) / (k - 1)
    return Power(k, seeds, max(0.0, (total - within) / average), within, level, power)
