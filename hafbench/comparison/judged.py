"""What judges say of the pairs of a comparison: wins, ties, losses, RSI, and how far their choice is the place's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hafbench.errors import HafError
from hafbench.figures import count_alike
from hafbench.images import load_image
from hafbench.judges.pairs import JudgedPair, Pair, judge_pairs
from hafbench.statistics import (
    Kappa,
    Rate,
    WinTieLoss,
    cohen_kappa,
    compare_means,
    compare_wins,
    error_rate,
    holm,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hafbench.comparison.metrics import Comparison, Versus
    from hafbench.judges.asking import Asker
    from hafbench.progress import Progress
    from hafbench.runs import Run
    from hafbench.types import Pixels

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
    replies = [(one.key, said) for one in judged for said in (one.forward, one.backward) if said in ("first", "second")]
    consistent = [one.consistent for one in judged]
    return replace(
        _of_gains([one.gain for one in judged], keys, judge, protocol),
        inconsistent=error_rate([None if one is None else not one for one in consistent], keys),
        first=error_rate([said == "first" for _, said in replies], [key for key, _ in replies]),
        unjudged=count_alike(one.reason for one in judged if one.reason),
        replies=tuple(one.letters for one in judged),
    )


def _of_gains(gains: Sequence[int | None], keys: Sequence[str], judge: str, protocol: str) -> JudgedPairs:
    # What is drawn at random goes by the order of the prompts: a fixed one gives the same figures for the same pairs.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    values, keys = np.array(_floats(gains))[order], [keys[place] for place in order]
    nothing = np.where(np.isfinite(values), 0.0, np.nan)
    wins = compare_wins(nothing, values, keys, higher_is_better=True)
    p_value = compare_means(nothing, keys, values, keys).p_value
    return JudgedPairs(judge, protocol, len(gains), wins, p_value, None, None, ())


def judge_comparison(comparison: Comparison, askers: Sequence[Asker], threads: int, progress: Progress) -> Comparison:
    """The comparison with what each judge says of its pairs, and their majority where there are several.

    Raises HafError where a candidate shares no pair of prompt and seed with the baseline, RunStopped.
    """
    told = [_told(comparison.baseline, versus, askers, threads, progress) for versus in comparison.versus]
    p_values = iter(holm([one.p_value for versus in told for one in versus.judged]))
    versus = [
        replace(one, judged=tuple(replace(own, corrected_p=next(p_values)) for own in one.judged)) for one in told
    ]
    return replace(comparison, versus=tuple(versus))


def _told(baseline: Run, versus: Versus, askers: Sequence[Asker], threads: int, progress: Progress) -> Versus:
    pairs = pairs_of(baseline, versus)
    by_judge = {asker.judge.name: judge_pairs(pairs, asker, threads, progress) for asker in askers}
    protocol = askers[0].protocol
    judged = [figures_of(found, name, protocol.label) for name, found in by_judge.items()]
    gains = {name: [one.gain for one in found] for name, found in by_judge.items()}
    keys = [pair.key for pair in pairs]
    if len(gains) > 1:
        majority = [_majority(own) for own in zip(*gains.values(), strict=True)]
        judged.append(_of_gains(majority, keys, MAJORITY, protocol.label))
    agreements = [
        Agreement((one, other), cohen_kappa(_floats(gains[one]), _floats(gains[other]), keys))
        for one, other in combinations(gains, 2)
    ]
    known = tuple(replace(one, protocol_sha256=protocol.sha256) for one in judged)
    return replace(versus, judged=known, agreements=tuple(agreements))


def pairs_of(baseline: Run, versus: Versus) -> list[Pair]:
    """The pairs of files that both runs have of a prompt and seed; raises HafError if there is none."""
    table = next(iter(versus.tables.values()))
    if not versus.shared.pairs:
        raise HafError(
            f"{versus.label} shares no pair of prompt and seed with the baseline: a judge has nothing to compare."
        )
    roots = baseline.image_root, versus.candidate.image_root
    return [
        Pair(
            str(row["key"]),
            row["prompt_a"] if isinstance(row["prompt_a"], str) else None,
            *(partial(_read, root / str(row[name])) for root, name in zip(roots, ("image_a", "image_b"), strict=True)),
        )
        for row in table.to_dict("records")
    ]


def _read(path: Path) -> Pixels:
    return np.asarray(load_image(path))


def _floats(gains: Sequence[int | None]) -> list[float]:
    return [np.nan if gain is None else float(gain) for gain in gains]


def _majority(gains: Sequence[int | None]) -> int | None:
    known = [gain for gain in gains if gain is not None]
    return int(np.sign(sum(known))) if known else None
