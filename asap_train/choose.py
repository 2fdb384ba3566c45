"""Which checkpoint is best, chosen on some prompts of the suite, and how good it is on the others.

A hash of the prompt's id says which prompts choose: the figures of a checkpoint on the prompts by which it was chosen
are too good, the more so the more checkpoints there were.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hafbench.comparison import compare_runs
from hafbench.errors import HafError
from hafbench.figures import all_figures, number, p_value, percent

if TYPE_CHECKING:
    from hafbench.comparison import MetricComparison, Versus
    from hafbench.figures import ScorerFigures
    from hafbench.runs import Run

Part = Literal["selection", "held-out"]
PARTS: tuple[Part, Part] = ("selection", "held-out")
FEWEST = 2
"""Prompts that each part must have: with fewer there is neither an interval nor a test."""


@dataclass(frozen=True)
class Split:
    """How the prompts of a suite are divided: about `share` of them, 0 to 1, are for selection."""

    share: float = 0.5
    seed: int = 0

    def part_of(self, prompt_id: str) -> Part:
        """Where a prompt belongs, whatever the suite's other prompts are."""
        digest = hashlib.sha256(f"{self.seed}\n{prompt_id}".encode()).digest()
        return "selection" if int.from_bytes(digest[:8], "big") < self.share * 2**64 else "held-out"

    def narrow(self, run: Run, part: Part) -> Run:
        """The run with the records of one part only."""
        kept = run.records["prompt_id"].map(lambda prompt_id: self.part_of(str(prompt_id)) == part)
        return replace(run, records=run.records[kept.astype(bool)].reset_index(drop=True))

    def check(self, prompt_ids: list[str]) -> None:
        """Raise HafError if a part would have too few prompts."""
        parts = [self.part_of(prompt_id) for prompt_id in prompt_ids]
        for part in PARTS:
            if parts.count(part) < FEWEST:
                raise HafError(
                    f"Of {len(parts)} prompts {parts.count(part)} would be {part}, and {FEWEST} are the fewest: "
                    "score more prompts, or set another selection share (selection=0.5)."
                )


@dataclass(frozen=True)
class Point:
    """One metric of the base (step 0) or of a checkpoint over one part, with its 95 % interval.

    `estimate` is a rate, 0 to 1, for the role anatomy, and else a mean in the scorer's units, over `judged` images.
    """

    step: int
    part: Part
    metric: str
    role: str
    estimate: float | None
    low: float | None
    high: float | None
    judged: int
    images: int


@dataclass(frozen=True)
class Choice:
    """The best checkpoint by the selection prompts. `better`: it is shown there to have fewer errors than the base.

    `kept`: no quality score's mean fell further than its margin (0.2 standard deviations of the base's). `why` says
    both in a sentence.
    """

    step: int
    better: bool
    kept: bool
    why: str


@dataclass(frozen=True)
class Figure:
    """One metric of the chosen checkpoint against the base, on the pairs of held-out prompts that both could judge.

    `p` is corrected by Holm within the metrics of quality, or of anatomy; `verdict` is that of hafbench's comparison.
    An RSI without any loss or tie has no value.
    """

    metric: str
    role: str
    base: float | None
    checkpoint: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    win: int | None = None
    tie: int | None = None
    lose: int | None = None
    rsi: float | None = None
    rsi_low: float | None = None
    rsi_high: float | None = None


@dataclass(frozen=True)
class Scores:
    """What scores.json says: each metric by step in both parts, which checkpoint is best, and how good it is.

    `points` begin with the base's, step 0. `reported` are the figures of the best checkpoint on the `pairs` of
    `prompts` that had no part in the choice. `base` is the path of the base's run from the fit's folder.
    """

    model: str
    suite: str
    seeds: int
    split: Split
    base: str
    points: tuple[Point, ...]
    choice: Choice
    pairs: int
    prompts: int
    reported: tuple[Figure, ...]

    @property
    def steps(self) -> list[int]:
        """The checkpoints that were scored."""
        return sorted({point.step for point in self.points} - {0})

    @property
    def stale(self) -> int:
        """How many checkpoints were scored since the best one."""
        return sum(step > self.choice.step for step in self.steps)


def points_of(step: int, run: Run, split: Split) -> list[Point]:
    """Every metric of a run in both parts, the headline first."""
    return [_point(step, part, figures) for part in PARTS for figures in all_figures(split.narrow(run, part))]


def _point(step: int, part: Part, figures: ScorerFigures) -> Point:
    found = figures.rate or figures.mean
    estimate, low, high = (found.estimate, found.low, found.high) if found else (None, None, None)
    judged = figures.statuses["scored"]
    return Point(step, part, figures.scorer, figures.role, estimate, low, high, judged, figures.images)


def choose(base: Run, checkpoints: Mapping[int, Run], split: Split) -> Choice:
    """The checkpoint that is best on the selection prompts: quality kept, then the error rate, then quality, then step.

    Rates count by their difference from the base's on the pairs that both could judge. Each checkpoint's rank depends
    on itself and the base alone, so that a later checkpoint never makes an earlier one come before another.
    """
    narrowed = [split.narrow(run, "selection") for run in (base, *checkpoints.values())]
    versus = dict(zip(checkpoints, compare_runs(narrowed).versus, strict=True))
    step = min(versus, key=lambda step: (*rank(versus[step]), step))
    headline = versus[step].metrics[0]
    kept = all(fall(one) <= 1 for one in _quality(versus[step]))
    better = headline.verdict == "better"
    return Choice(step, better, kept, _sentence(step, headline, better, kept, len(versus)))


def rank(versus: Versus) -> tuple[bool, float, float]:
    """What checkpoints are ordered by, the best first: quality not kept, headline, mean fall of the quality scores."""
    falls = [fall(one) for one in _quality(versus)]
    headline = versus.metrics[0]
    moved = headline.difference.estimate
    worse = float("inf") if moved is None else moved if headline.role == "anatomy" else fall(headline)
    return any(one > 1 for one in falls), worse, sum(falls) / len(falls) if falls else 0.0


def fall(one: MetricComparison) -> float:
    """How far a quality score's mean went the wrong way, in margins; for one without a direction, how far it went."""
    moved = one.difference.estimate
    if moved is None or one.equivalence is None or not one.equivalence.margin:
        return 0.0
    signed = moved if one.higher_is_better is False else -moved if one.higher_is_better else abs(moved)
    return signed / one.equivalence.margin


def _quality(versus: Versus) -> list[MetricComparison]:
    return [one for one in versus.metrics[1:] if one.role == "quality"]


def _sentence(step: int, headline: MetricComparison, better: bool, kept: bool, count: int) -> str:
    among = (
        f"the best of {count} checkpoints on the selection prompts; there"
        if count > 1
        else "the only checkpoint that was scored; on the selection prompts"
    )
    found, write = headline.difference, percent if headline.role == "anatomy" else number
    moved = f"{headline.name} {write(found.baseline)} to {write(found.candidate)}, p {p_value(headline.corrected_p)}"
    shown = "shown to be better than the base" if better else "not shown to be better than the base"
    quality = "" if kept else "; its quality fell by more than the margin"
    return f"Step {step} is {among} it is {shown} ({moved}){quality}."


def held_out(base: Run, checkpoint: Run, split: Split) -> Versus:
    """The comparison that is reported, on the prompts that had no part in the choice."""
    return compare_runs([split.narrow(run, "held-out") for run in (base, checkpoint)]).versus[0]


def judge(model: str, fit: Path, base: Run, runs: Mapping[int, Run], split: Split) -> tuple[Scores, Versus]:
    """Choose on the selection prompts and compare on the others; `runs` are those of checkpoints by step."""
    choice = choose(base, runs, split)
    versus = held_out(base, runs[choice.step], split)
    points = [point for step, run in {0: base, **runs}.items() for point in points_of(step, run, split)]
    suite = base.manifest.suite
    scores = Scores(
        model=model,
        suite=suite.name if suite else "",
        seeds=suite.seeds if suite else 1,
        split=split,
        base=os.path.relpath(base.folder.resolve(), fit.resolve()),
        points=tuple(points),
        choice=choice,
        pairs=versus.shared.pairs,
        prompts=versus.shared.prompts,
        reported=tuple(figures_of(versus)),
    )
    return scores, versus


VERDICTS: Mapping[str, str] = {
    "better": "is better than the base",
    "worse": "is worse than the base",
    "kept": "is shown to be as good as the base",
    "changed": "differs from the base",
    "identical": "has the same verdicts as the base on every image",
    "judged unevenly": "cannot be told from the base, since other images of it could be judged",
    "not shown": "is not shown to differ from the base",
    "too little to tell": "cannot be told from the base with so few prompts",
}
"""How a verdict of hafbench's comparison is said of a checkpoint."""
QUALITY: Mapping[str, str] = {"not shown": "neither shown to be kept nor to differ"}


def verdict_of(step: int, prompts: int, figures: Sequence[Figure]) -> str:
    """What is reported, in a sentence: the headline, then what became of quality."""
    first, quality = figures[0], [one for one in figures[1:] if one.role == "quality"]
    write = percent if first.role == "anatomy" else number
    beside = "".join(f"; {one.metric}: {QUALITY.get(one.verdict, one.verdict)}" for one in quality)
    return (
        f"On {prompts} held-out prompts step {step} {VERDICTS[first.verdict]}: {first.metric} {write(first.base)} to "
        f"{write(first.checkpoint)}, p {p_value(first.p)}{beside}."
    )


def figures_of(versus: Versus) -> list[Figure]:
    """The reported figures, the headline first."""
    return [_figure(one) for one in versus.metrics]


def _figure(one: MetricComparison) -> Figure:
    found, counted = one.difference, one.win_tie_loss
    figure = Figure(
        *(one.name, one.role, found.baseline, found.candidate, found.estimate, found.low, found.high),
        one.corrected_p,
        one.verdict,
    )
    if counted is None:
        return figure
    rsi, low, high = (_finite(value) for value in (counted.rsi, counted.rsi_low, counted.rsi_high))
    return replace(figure, win=counted.win, tie=counted.tie, lose=counted.lose, rsi=rsi, rsi_low=low, rsi_high=high)


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) != float("inf") else None
