"""Whether a judge's choice between two images depends on their order: for its calibration card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hafbench.cards import OrderShare, share_of
from hafbench.comparison.pair_figures import figures_of
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

    In every other pair the sound image is the one that comes first in the first question. `asked` of the questions
    that the options allow were asked before. Raises RunStopped where the others are not enough.
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
    shared = set(PairOptions.model_fields) - {"protocol"}
    askers, protocol = load_askers(PairOptions(**{name: getattr(options, name) for name in shared}), ("pair",), device)
    shares = []
    try:
        for asker in askers:
            judged = judge_pairs(pairs, asker, options.concurrency, progress)
            found = figures_of(judged, asker.judge.name, protocol.label)
            sound = [None if one.gain is None else one.gain == (-1 if n % 2 else 1) for n, one in enumerate(judged)]
            rates = (error_rate(sound, [one.key for one in judged]), found.inconsistent, found.first)
            sounder, inconsistent, first = (share_of(rate) for rate in rates if rate)
            shares.append(
                OrderShare(
                    judge=found.judge,
                    protocol=found.protocol,
                    pairs=len(pairs),
                    sounder=sounder,
                    inconsistent=inconsistent,
                    first=first,
                )
            )
    finally:
        for asker in askers:
            asker.stop()
    return tuple(shares)
