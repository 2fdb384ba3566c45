"""The figures of judged pairs: wins, ties, losses, RSI, and how far a judge's choice is the place's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hafbench.figures import count_alike
from hafbench.judges.pairs import JudgedPair
from hafbench.statistics import Kappa, LabelledDifference, Rate, WinTieLoss, compare_means, compare_wins, error_rate
from hafbench.statistics.clusters import as_floats

MAJORITY = "majority"
LEVEL = 0.05


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs of pictures as one judge sees them, or as the majority of several does.

    `wins` are the candidate's. `p_value` is of the permutation test that exchanges the models' labels for whole
    prompts, and `corrected_p` Holm's over all candidates and judges. `inconsistent` is the share of pairs whose two
    orders disagree, which are ties. `first` is the share of wins of the picture that came first among all decisive
    replies: 50 % without a position bias. Both are None for a majority. `unjudged` are reasons with their numbers.
    `replies` are the letters of each pair (`JudgedPair.letters`), in the order of the pairs; none for a majority.
    """

    judge: str
    protocol: str
    pairs: int
    wins: WinTieLoss
    p_value: float | None
    inconsistent: Rate | None
    first: Rate | None
    unjudged: tuple[tuple[str, int], ...]
    replies: tuple[str, ...] = ()
    protocol_sha256: str = ""
    corrected_p: float | None = None

    @property
    def verdict(self) -> str:
        """In a word: better, worse, not shown, or too little to tell."""
        if self.corrected_p is None:
            return "too little to tell"
        if self.corrected_p >= LEVEL:
            return "not shown"
        return "better" if self.wins.win > self.wins.lose else "worse"

    @property
    def biased(self) -> bool:
        """Whether the judge is shown to favour a place."""
        first = self.first
        return (
            first is not None
            and first.low is not None
            and first.high is not None
            and not (first.low <= 0.5 <= first.high)
        )


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on wins, ties and losses."""

    judges: tuple[str, str]
    kappa: Kappa


def figures_of(judged: Sequence[JudgedPair], judge: str, protocol: str) -> JudgedPairs:
    """The figures of one judge's pairs, whatever their order."""
    keys = [one.key for one in judged]
    replies = [(one.key, first) for one in judged for first in one.firsts if first is not None]
    consistent = [one.consistent for one in judged]
    return replace(
        figures_of_gains([one.gain for one in judged], keys, judge, protocol),
        inconsistent=error_rate([None if one is None else not one for one in consistent], keys),
        first=error_rate([first for _, first in replies], [key for key, _ in replies]),
        unjudged=count_alike(one.reason for one in judged if one.reason),
        replies=tuple(one.letters for one in judged),
    )


def figures_of_gains(gains: Sequence[int | None], keys: Sequence[str], judge: str, protocol: str) -> JudgedPairs:
    """The figures that follow from wins (1), ties (0) and losses (-1) alone; None has no answer."""
    # What is drawn at random goes by the order of the prompts: a fixed one gives the same figures for the same pairs.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    values, keys = as_floats(gains)[order], [keys[place] for place in order]
    nothing = np.where(np.isfinite(values), 0.0, np.nan)
    wins = compare_wins(nothing, values, keys, higher_is_better=True)
    p_value = compare_means(nothing, keys, values, keys).p_value
    return JudgedPairs(judge, protocol, len(gains), wins, p_value, None, None, ())


@dataclass(frozen=True)
class PeopleVersus:
    """What people say of a candidate against the baseline: differences of rates, and pairs that they compared.

    `human` and `powered` are None where not both runs have labels, `pairs` where no pair was shown.
    """

    label: str
    human: LabelledDifference | None
    powered: LabelledDifference | None
    pairs: JudgedPairs | None
    first: float | None = None
