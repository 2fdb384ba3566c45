"""Whether a judge's choice between two images depends on their order: for its calibration card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hafbench.cards import OrderShare, share_of
from hafbench.judges.options import JudgeOptions, PairOptions, load_askers
from hafbench.judges.pairs import Pair, judge_pairs
from hafbench.progress import SILENT, Progress
from hafbench.statistics import error_rate

if TYPE_CHECKING:
    from hafbench.labelled import Labelled

MOST = 100
"""Pairs: the interval of a share is then at most 20 points wide."""
SEED = 0


def order_shares(
    images: Sequence[Labelled], options: JudgeOptions, asked: int, device: str, progress: Progress = SILENT
) -> tuple[OrderShare, ...]:
    """How each judge compares images with an error with sound ones, at most MOST pairs drawn at random.

    In every other pair the sound image is the one that comes first in the first question. Pairs with an image of the
    same prompt are not independent, whichever of their images it is: the intervals are of the prompts. `asked` of the
    questions that the options allow were asked before. Raises RunStopped where the others are not enough.
    """
    if options.max_questions is not None:
        options = options.model_copy(update={"max_questions": max(0, options.max_questions - asked)})
    bad, good = ([one for one in images if one.bad is side] for side in (True, False))
    rng = np.random.default_rng(SEED)
    places = [rng.permutation(len(side))[: min(MOST, len(bad), len(good))] for side in (bad, good)]
    pairs = [
        Pair(str(number), None, *((good[j].read, bad[i].read) if number % 2 else (bad[i].read, good[j].read)))
        for number, (i, j) in enumerate(zip(*places, strict=True))
    ]
    # Images without a prompt are clusters of their own.
    ends = [[side[i].prompt or side[i].name for i in own] for side, own in zip((bad, good), places, strict=True)]
    shared = set(PairOptions.model_fields) - {"protocol"}
    askers, protocol = load_askers(PairOptions(**{name: getattr(options, name) for name in shared}), ("pair",), device)
    shares = []
    try:
        for asker in askers:
            judged = judge_pairs(pairs, asker, options.concurrency, progress)
            sound = [None if one.gain is None else one.gain == (-1 if n % 2 else 1) for n, one in enumerate(judged)]
            apart = [None if one.consistent is None else not one.consistent for one in judged]
            first = [one.firsts[order] for order in (0, 1) for one in judged]
            shares.append(
                OrderShare(
                    judge=asker.judge.name,
                    protocol=protocol.label,
                    pairs=len(pairs),
                    sounder=share_of(error_rate(sound, ends[0], others=ends[1])),
                    inconsistent=share_of(error_rate(apart, ends[0], others=ends[1])),
                    first=share_of(error_rate(first, 2 * ends[0], others=2 * ends[1])),
                )
            )
    finally:
        for asker in askers:
            asker.stop()
    return tuple(shares)
