"""The difference of every metric of two or more runs on what they share, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.comparison.shared import Shared, describe_shared, keyed_metrics, shared_scorers, shared_tables
from hafbench.errors import HafError
from hafbench.figures import in_order
from hafbench.statistics import (
    Difference,
    Equivalence,
    Mean,
    Power,
    Rate,
    Unjudged,
    WinTieLoss,
    compare_means,
    compare_unjudged,
    compare_wins,
    equivalence,
    error_rate,
    holm,
    mean_interval,
    power_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.comparison.pair_figures import Agreement, JudgedPairs, PeopleVersus
    from hafbench.manifest import ScorerFacts
    from hafbench.runs import Run

LEVEL = 0.05
MARGIN = 0.2
"""How far a quality score may move and count as kept, in standard deviations of the baseline's: a small effect by the
usual convention (Cohen 1988)."""

DETECT = 0.02
"""The difference of error rates for which it is said how many seeds or prompts would find it."""


@dataclass(frozen=True)
class MetricComparison:
    """One metric of a baseline and a candidate on what they share.

    `baseline` and `candidate` are of all shared images; `difference` is of those that both could judge, where they are
    paired. `unjudged` is None for quality scores. `corrected_p` is Holm's over all candidates: for the first metric
    alone, and within the other anatomy and the quality metrics. `identical` is whether every pair has the same verdict,
    of quality scores the same value, or could not be judged on either side, and some pair was judged.
    """

    name: str
    role: str
    higher_is_better: bool | None
    baseline: Rate | Mean
    candidate: Rate | Mean
    difference: Difference
    unjudged: Unjudged | None
    win_tie_loss: WinTieLoss | None
    equivalence: Equivalence | None
    power: Power | None
    by_category: Mapping[str, Difference]
    identical: bool = False
    corrected_p: float | None = None

    @property
    def verdict(self) -> str:
        """In a word: identical, better, worse, kept (within the margin), changed, judged unevenly, or not shown."""
        if self.identical:
            return "identical"
        p, moved = self.corrected_p, self.difference.estimate
        if p is None or moved is None:
            return "too little to tell"
        if self.equivalence is not None and self.equivalence.shown:
            return "kept"
        if p < LEVEL:
            if self.unjudged and self.unjudged.uneven(LEVEL):
                return "judged unevenly"
            if self.higher_is_better is None:
                return "changed"
            return "better" if (moved > 0) == self.higher_is_better else "worse"
        return "not shown"


def rsi_of(one: MetricComparison) -> tuple[float | None, float | None, float | None]:
    """The RSI of a metric and the ends of its interval."""
    wins = one.win_tie_loss
    return (wins.rsi, wins.rsi_low, wins.rsi_high) if wins else (None, None, None)


@dataclass(frozen=True)
class Versus:
    """A candidate against the baseline. `tables` hold, by metric, the shared rows of both (see `shared_tables`).

    The first of them has hashes of the images, too. `judged` is what judges say of the pairs, where they were asked,
    and `agreements` how far they agree.
    """

    candidate: Run
    label: str
    shared: Shared
    metrics: tuple[MetricComparison, ...]
    tables: Mapping[str, pd.DataFrame]
    judged: tuple[JudgedPairs, ...] = ()
    agreements: tuple[Agreement, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Every candidate against one baseline, of that label; `detect` is the difference to plan the next run for.

    `people` is what labels by people say of each candidate, where they are given. `page` is where it is shown, once it
    is written.
    """

    baseline: Run
    label: str
    versus: tuple[Versus, ...]
    detect: float
    page: Path | None = None
    people: tuple[PeopleVersus, ...] = ()

    @property
    def headline(self) -> str:
        """The first metric: all anatomy scorers that count together, or the only one, or another if there is none."""
        return self.versus[0].metrics[0].name


def compare_runs(
    runs: Sequence[Run], baseline: int = 0, margins: Mapping[str, float] | None = None, detect: float = DETECT
) -> Comparison:
    """Compare every other run with the one at place `baseline`.

    `margins` are how far a quality score may move and count as kept, by scorer, in its own units; the default is
    MARGIN. Raises HafError if a candidate shares no prompt or no scorer with the baseline, for a baseline that is no
    place in `runs`, a margin that is no positive number, and a difference to detect that is not above 0 and at most 1.
    """
    if baseline not in range(len(runs)):
        raise HafError(
            f"There is no run {baseline} to be the baseline; give its place in the list, 0 to {len(runs) - 1}."
        )
    if not 0 < detect <= 1:
        raise HafError(
            f"The difference of rates to detect is {detect:g}; give one above 0 and at most 1, such as 0.02."
        )
    labels = _labels(runs)
    first = runs[baseline]
    quality = [name for name, facts in first.manifest.scorers.items() if facts.role == "quality"]
    unknown = [name for name in margins or {} if name not in quality]
    if unknown:
        raise HafError(
            f"There is no quality score '{unknown[0]}' in {first.address}; known: {', '.join(quality) or '-'}."
        )
    for name, margin in (margins or {}).items():
        if not 0 < margin < math.inf:
            raise HafError(f"The margin of {name} is {margin}; give a positive number, such as 0.01.")
    versus = [
        _versus(first, run, label, margins or {})
        for place, (run, label) in enumerate(zip(runs, labels, strict=True))
        if place != baseline
    ]
    return Comparison(first, labels[baseline], tuple(_corrected(versus)), detect)


def _corrected(versus: Sequence[Versus]) -> list[Versus]:
    """Holm's correction within three families over all candidates: the headline, other anatomy, and quality.

    Power is planned for it, too: a difference must be found among as many tests as its family has.
    """
    family = {
        (v, m): "headline" if m == 0 else one.role
        for v, other in enumerate(versus)
        for m, one in enumerate(other.metrics)
    }
    corrected: dict[tuple[int, int], float | None] = {}
    tests: dict[str, int] = {}
    for name in dict.fromkeys(family.values()):
        places = [place for place, own in family.items() if own == name]
        p_values = holm([versus[v].metrics[m].difference.p_value for v, m in places])
        corrected |= dict(zip(places, p_values, strict=True))
        tests[name] = sum(p is not None for p in p_values)

    def again(place: tuple[int, int], one: MetricComparison) -> MetricComparison:
        power = one.power and replace(one.power, tests=tests[family[place]])
        return replace(one, corrected_p=corrected[place], power=power)

    return [
        replace(other, metrics=tuple(again((v, m), one) for m, one in enumerate(other.metrics)))
        for v, other in enumerate(versus)
    ]


def _labels(runs: Sequence[Run]) -> list[str]:
    names = [run.manifest.name for run in runs]
    folders = [run.folder.resolve() for run in runs]
    twice = next((run for place, run in enumerate(runs) if folders[place] in folders[:place]), None)
    if twice is not None:
        raise HafError(f"{twice.address} is given twice; compare different run folders.")
    labels = [
        name if names.count(name) == 1 else f"{name} ({folder.name})"
        for name, folder in zip(names, folders, strict=True)
    ]
    return labels if len(set(labels)) == len(labels) else [str(folder) for folder in folders]


def _versus(baseline: Run, candidate: Run, label: str, margins: Mapping[str, float]) -> Versus:
    remarks: list[str] = []
    scorers = shared_scorers(baseline, candidate, remarks)
    sides = keyed_metrics((baseline, candidate), scorers)
    tables = shared_tables((baseline, candidate), sides)
    first = next(iter(tables.values()))
    if first.empty:
        raise HafError(
            f"{baseline.address} and {candidate.address} share no prompt (the same id and text) and no image name: "
            "there is nothing to compare."
        )
    shared = describe_shared(baseline, candidate, sides, first, scorers, remarks)
    metrics = tuple(_metric(name, sides[0][name].facts, table, margins.get(name)) for name, table in tables.items())
    return Versus(candidate, label, shared, metrics, tables)


def _metric(name: str, facts: ScorerFacts, table: pd.DataFrame, margin: float | None) -> MetricComparison:
    """One metric on the shared rows."""
    import numpy as np

    anatomy = facts.role == "anatomy"
    column = "is_error" if anatomy else "value"
    there = [table[f"image_{end}"].notna() for end in "ab"]
    sides = [table if own.all() else table[own] for own in there]
    values = [
        side[f"{column}_{end}"].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        for side, end in zip(sides, "ab", strict=True)
    ]
    summary: Any = error_rate if anatomy else mean_interval
    figures = [summary(value, side["key"]) for value, side in zip(values, sides, strict=True)]
    keys = [side["key"] for side in sides]
    paired = bool(table["paired"].all())
    identical = paired and bool(np.isfinite(values[0]).any()) and np.array_equal(values[0], values[1], equal_nan=True)
    unjudged = compare_unjudged(values[0], keys[0], values[1], keys[1], paired=paired) if anatomy else None
    if paired:
        both = np.isfinite(values[0]) & np.isfinite(values[1])
        values = [np.where(both, value, np.nan) for value in values]
    difference = compare_means(values[0], keys[0], values[1], keys[1])
    higher = facts.higher_is_better
    wins = None
    if paired and higher is not None:
        wins = compare_wins(values[0], values[1], table["key"], higher_is_better=bool(higher))
    kept = None
    if not anatomy:
        known = values[0][np.isfinite(values[0])]
        # The deviation of values that are all alike is not 0 but rounding.
        spread = float(np.std(known, ddof=1)) if len(known) > 1 and np.ptp(known) > 0 else 0.0
        kept = equivalence(difference, MARGIN * spread if margin is None else margin)
    by_category = {}
    for category in in_order(_either(table, "category")):
        here = [(side[f"category_{end}"] == category).to_numpy() for side, end in zip(sides, "ab", strict=True)]
        own = [key[part] for key, part in zip(keys, here, strict=True)]
        by_category[category] = compare_means(values[0][here[0]], own[0], values[1][here[1]], own[1])
    power = (
        power_of(values[1] - values[0], table["key"], level=LEVEL) if paired and (anatomy or not identical) else None
    )
    return MetricComparison(
        name,
        facts.role,
        higher,
        figures[0],
        figures[1],
        difference,
        unjudged,
        wins,
        kept,
        power,
        by_category if len(by_category) > 1 else {},
        identical,
    )


def _either(table: pd.DataFrame, column: str) -> set[str]:
    """The different values of the column of whichever side has it; that of the baseline, where both have."""
    one, other = (table[f"{column}_{end}"] for end in "ab")
    return {*one.dropna().unique(), *other[one.isna()].dropna().unique()}
