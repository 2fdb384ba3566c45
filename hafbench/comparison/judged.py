"""What judges say of the pairs of a comparison: wins, ties, losses, RSI, and how far their choice is the place's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from hafbench.comparison.pair_figures import MAJORITY, Agreement, figures_of, figures_of_gains
from hafbench.errors import HafError
from hafbench.images import load_image
from hafbench.judges.pairs import Pair, judge_pairs
from hafbench.statistics import cohen_kappa, holm

if TYPE_CHECKING:
    from hafbench.comparison.metrics import Comparison, Versus
    from hafbench.judges.asking import Asker
    from hafbench.progress import Progress
    from hafbench.runs import Run
    from hafbench.sources import ImageSource
    from hafbench.types import Pixels


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
        voted = [majority(own) for own in zip(*gains.values(), strict=True)]
        judged.append(figures_of_gains(voted, keys, MAJORITY, protocol.label))
    agreements = [
        Agreement((one, other), cohen_kappa(gains[one], gains[other], keys)) for one, other in combinations(gains, 2)
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
    sources = baseline.source, versus.candidate.source
    return [
        Pair(
            str(row["key"]),
            row["prompt_a"] if isinstance(row["prompt_a"], str) else None,
            *(partial(_read, source, str(row[f"image_{end}"])) for source, end in zip(sources, "ab", strict=True)),
        )
        for row in table.to_dict("records")
    ]


def _read(source: ImageSource, image: str) -> Pixels:
    return np.asarray(load_image(source.place(image)))


def majority(gains: Sequence[int | None]) -> int | None:
    """What more than half of the judges that can tell say of a pair; a tie where no choice has so many."""
    known = [gain for gain in gains if gain is not None]
    return next((gain for gain in (1, -1) if 2 * known.count(gain) > len(known)), 0) if known else None
