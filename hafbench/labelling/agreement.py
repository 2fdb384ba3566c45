"""How far raters agree with each other, and each with themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from hafbench.errors import Unavailable
from hafbench.labelling.answers import IMAGE_ANSWERS, SIDES, Label
from hafbench.labelling.consensus import disputed
from hafbench.statistics import Kappa, cohen_kappa
from hafbench.statistics.clusters import bootstrap, cluster_codes
from hafbench.statistics.rates import wilson

VALUES: Mapping[str, int] = {"good": 0, "error": 1, "baseline": 0, "candidate": 1, "tie": 2}
"""What counts: an answer of somebody who was not sure is a missing one."""
RESAMPLES = 999


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha of `raters` on `items` that at least two of them judged; None where it is not defined."""

    raters: int
    items: int
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RaterFacts:
    """One rater's answers: how many of each, the median seconds for one, and how many with the verdicts in sight."""

    rater: str
    answers: Mapping[str, int]
    seconds: float | None
    not_blind: int


@dataclass(frozen=True)
class Agreement:
    """Of images, or of pairs. `between` is Cohen's kappa of each two raters, `within` of each with themselves later."""

    what: str
    raters: tuple[RaterFacts, ...]
    alpha: Alpha
    between: tuple[tuple[str, str, Kappa], ...]
    within: tuple[tuple[str, Kappa], ...]
    disputed: int


def agreement(labels: Sequence[Label], clusters: Mapping[str, str]) -> list[Agreement]:
    """The agreement on images and on pairs, of those that there are; `clusters` are the prompts of items."""
    found = []
    for what, known in (("images", IMAGE_ANSWERS), ("pairs", SIDES)):
        own = [one for one in labels if one.answer in known]
        if own:
            found.append(_of(what, own, clusters))
    return found


def _of(what: str, labels: Sequence[Label], clusters: Mapping[str, str]) -> Agreement:
    names = list(dict.fromkeys(one.rater for one in labels if one.turn != "settled"))
    turns = {
        turn: {(one.rater, one.item): VALUES[one.answer] for one in labels if one.turn == turn and one.answer in VALUES}
        for turn in ("first", "again")
    }
    first, again = turns["first"], turns["again"]
    items = list(dict.fromkeys(item for _, item in first))
    keys = [clusters.get(item, item) for item in items]

    def column(rater: str, answers: Mapping[tuple[str, str], int]) -> list[float]:
        return [float(answers.get((rater, item), np.nan)) for item in items]

    columns = {name: column(name, first) for name in names}
    between = [(a, b, cohen_kappa(columns[a], columns[b], keys)) for a, b in combinations(names, 2)]
    within = [(name, cohen_kappa(columns[name], column(name, again), keys)) for name in names]
    return Agreement(
        what,
        tuple(_facts(name, [one for one in labels if one.rater == name and one.turn != "settled"]) for name in names),
        _alpha(np.array(list(columns.values())), keys),
        tuple(one for one in between if one[2].n),
        tuple(one for one in within if one[1].n),
        len(disputed(labels)),
    )


def _facts(rater: str, labels: Sequence[Label]) -> RaterFacts:
    times = [one.seconds for one in labels if one.seconds is not None]
    answers = dict(Counter(one.answer for one in labels))
    return RaterFacts(rater, answers, median(times) if times else None, sum(not one.blind for one in labels))


def _alpha(table: np.ndarray, keys: Sequence[str]) -> Alpha:
    """Alpha of a table (raters, items) of numbers, NaN where there is none (Krippendorff 1970, nominal).

    The value is the library's. The interval is as that of `cohen_kappa`: a bootstrap of whole prompts with expanded
    percentiles, and where all agree it begins at the alpha of Wilson's lower bound of the agreement, of as many images
    as there are prompts.
    """
    try:
        import krippendorff
    except ImportError as error:
        raise Unavailable("Krippendorff's alpha needs `pip install krippendorff`.") from error

    values = sorted(set(VALUES.values()))
    counts = np.stack([(table == value).sum(0) for value in values], axis=1)
    rated = counts.sum(1) >= 2
    counts, codes = counts[rated], cluster_codes([key for key, kept in zip(keys, rated, strict=True) if kept])
    used = int((np.isfinite(table[:, rated])).any(1).sum()) if rated.any() else 0

    def alpha(rows: np.ndarray) -> float:
        # Where a resample has one value only, the raters agree in full.
        return float(krippendorff.alpha(value_counts=rows, level_of_measurement="nominal")) if _varies(rows) else 1.0

    if not len(counts) or not _varies(counts):
        return Alpha(used, len(counts), None, None, None)
    estimate, prompts = alpha(counts), int(codes.max()) + 1
    if prompts < 2:
        return Alpha(used, len(counts), estimate, None, None)
    if np.all(counts.max(1) == counts.sum(1)):
        each, total = counts.sum(0), counts.sum()
        by_chance = float(np.sum(each * (each - 1)) / (total * (total - 1)))
        fewest, _ = wilson(1.0, prompts)
        return Alpha(used, len(counts), estimate, (fewest - by_chance) / (1 - by_chance), 1.0)

    def statistic(times: np.ndarray) -> np.ndarray:
        return np.array([[alpha(np.repeat(counts, own[codes].astype(int), axis=0))] for own in times])

    # Alpha is not of sums over prompts but of the images: the sums count how often each prompt is drawn.
    low, high = bootstrap(np.eye(prompts), statistic, resamples=RESAMPLES, seed=0, confidence=0.95)
    return Alpha(used, len(counts), estimate, float(low[0]), float(high[0]))


def _varies(counts: np.ndarray) -> bool:
    return int((counts.sum(0) > 0).sum()) > 1
