"""What people's labels say of a run and of a comparison: their rate alone, and with the verdicts of all images.

The labels of a part of the images stand for all of them by the chances with which plans drew them (`drawn.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.comparison.pair_figures import JudgedPairs, PeopleVersus, figures_of_gains
from hafbench.errors import HafError
from hafbench.figures import metrics_of
from hafbench.labelling.answers import Label
from hafbench.labelling.consensus import Consensus, consensus
from hafbench.labelling.drawn import Drawn, Plan, drawn_of, weights_of
from hafbench.labelling.store import LabelStore
from hafbench.statistics import (
    LabelledImages,
    LabelledRate,
    labelled_difference,
    labelled_rate,
)

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.comparison import Comparison
    from hafbench.runs import Run

IMPORTED = "imported labels, taken as a random part"


@dataclass(frozen=True)
class Labels:
    """What a store says: one label an item, all answers, and how their items were drawn."""

    agreed: Mapping[str, Consensus]
    answers: tuple[Label, ...]
    drawn: Drawn


def read_store(path: Path) -> Labels:
    """All that a store holds; raises HafError where it holds no label."""
    with closing(LabelStore(path, must_exist=True)) as store:
        answers = store.labels()
        drawn = drawn_of(store, answers)
    if not answers:
        raise HafError(f"{path} holds no label yet; give some with `hafbench label`.")
    return Labels(consensus(answers), tuple(answers), drawn)


@dataclass(frozen=True)
class PeopleFigures:
    """What people say of a run's images.

    `images` could have been labelled; of the labelled ones that stand for the run `clear` have a label, `errors` of
    them are in error, `unsure` and `disputed` have none. `raters` gave so many answers each to them. `human` is the
    rate by their labels alone, `powered` that with the verdicts of each anatomy measure, the headline first. `kinds`
    count the errors by region and kind. `chosen` says how images were drawn, `seconds` is the median time for one,
    `not_blind` were labelled with the verdicts in sight.
    """

    images: int
    clear: int
    errors: int
    unsure: int
    disputed: int
    not_blind: int
    raters: Mapping[str, int]
    human: LabelledRate
    powered: Mapping[str, LabelledRate]
    kinds: tuple[tuple[str, str, int], ...]
    chosen: tuple[str, ...]
    seconds: float | None

    @property
    def gained(self) -> float | None:
        """How many labels the verdicts are worth: the effective number with them less that of the labels alone."""
        first = next(iter(self.powered.values()), None)
        if first is None or first.effective is None or self.human.effective is None:
            return None
        return first.effective - self.human.effective


@dataclass(frozen=True)
class RunLabels:
    """The labels of a run's images in the order of its rows: True for an error, NaN without.

    `chances` in (0, 1] are those with which the labelled images were drawn, up to a factor; of the others their mean.
    Labels, `agreed` and `answers` are of the images that stand for the run, not of others that were labelled as well.
    """

    rows: pd.DataFrame
    bad: np.ndarray
    chances: np.ndarray
    agreed: Mapping[str, Consensus]
    answers: tuple[Label, ...]
    plans: tuple[Plan, ...]

    def images(self, verdicts: Any = None, clusters: Any = None) -> LabelledImages:
        """What the statistics take."""
        keys = self.rows["prompt_id"] if clusters is None else clusters
        return LabelledImages(self.bad, keys, verdicts, self.chances)


def labels_of(run: Run, stores: Sequence[Path], among: Set[str] | None = None) -> RunLabels:
    """The labels of a run in these stores that stand for its images `among` these (SHA-256), or for all of them.

    Raises HafError where there is no label of the run, or none that was drawn from all of these images.
    """
    rows = run.records.drop_duplicates("image").reset_index(drop=True)
    images = rows["sha256"].astype(object).where(rows["sha256"].notna(), "").tolist()
    there = set(images)
    agreed: dict[str, Consensus] = {}
    answers: list[Label] = []
    plans: list[Plan] = []
    equal: dict[str, float] = {}
    partly = False
    wanted = (there if among is None else there & among) - {""}
    for path in stores:
        read = read_store(path)
        own = {item: one for item, one in read.agreed.items() if item in there}
        agreed = {**own, **agreed}
        answers += [one for one in read.answers if one.item in there]
        drawn = read.drawn.standing_for(wanted)
        plans += [plan for plan in drawn.plans if not there.isdisjoint(plan.reached)]
        equal |= dict.fromkeys(drawn.equal & there, 1.0)
        partly |= len(drawn.plans) < len(read.drawn.plans)
    names = ", ".join(map(str, stores))
    if not agreed:
        raise HafError(
            f"{names}: no image of {run.address} has a label; give some with `hafbench label {run.address}`."
        )
    if partly and not plans and not equal:
        raise HafError(
            f"{names}: the labels of {run.address} were drawn from a part of its images and say nothing of the others; "
            f"go on with `hafbench label {run.address}`, which keeps them."
        )
    said = [one.bad if (one := agreed.get(image)) is not None else None for image in images]
    bad = np.array([np.nan if one is None else one for one in said], dtype=np.float64)
    samples = [equal, *(plan.reached for plan in plans if plan.active)]
    weights = weights_of(images, np.isfinite(bad), samples)
    # Of no sample are answers that stand for a part of the run only, and one to settle what was undone since.
    bad = np.where(weights > 0, bad, np.nan)
    sampled: set[str] = set().union(*samples)
    agreed = {item: one for item, one in agreed.items() if item in sampled}
    answers = [one for one in answers if one.item in sampled]
    share = weights.sum() / len(weights)
    chances = np.divide(share, weights, out=np.full(len(weights), share), where=weights > 0)
    chances /= max(1.0, chances.max())
    return RunLabels(rows, bad, chances, agreed, tuple(answers), tuple(plans))


def people_figures(run: Run, stores: Sequence[Path]) -> PeopleFigures:
    """What people's labels say of a run; raises HafError where there is none of its images."""
    found = labels_of(run, stores)
    agreed = list(found.agreed.values())
    first = [one for one in found.answers if one.turn == "first"]
    powered = {}
    for name, metric in metrics_of(run).items():
        if metric.facts.role == "anatomy" and metric.rows["is_error"].notna().any():
            verdicts = metric.rows.set_index("image")["is_error"].reindex(found.rows["image"]).astype("Float64")
            powered[name] = labelled_rate(found.images(verdicts))
    marks = [mark for one in agreed if one.bad for mark in one.marks if mark.region or mark.kind]
    kinds = Counter((mark.region or "any", mark.kind or "any") for mark in marks)
    times = [one.seconds for one in first if one.seconds is not None]
    return PeopleFigures(
        images=len(found.rows),
        clear=int(np.isfinite(found.bad).sum()),
        errors=sum(one.bad is True for one in agreed),
        unsure=sum(one.answer == "unsure" for one in agreed),
        disputed=sum(one.disputed for one in agreed),
        not_blind=sum(not one.blind for one in agreed),
        raters=dict(Counter(one.rater for one in found.answers if one.turn != "again")),
        human=labelled_rate(found.images()),
        powered=powered,
        kinds=tuple((region, kind, count) for (region, kind), count in kinds.most_common()),
        chosen=tuple(dict.fromkeys(_how(found))),
        seconds=median(times) if times else None,
    )


def _how(found: RunLabels) -> Iterable[str]:
    """In words how the labelled images were drawn."""
    words = {"all": "all images, in a random order", "random": "drawn at random"}
    for plan in found.plans:
        active = f"drawn more often where {plan.spec.scorer or 'the scorers'} had doubts"
        yield words.get(plan.spec.choose, active)
    if any(one.plan is None for one in found.answers):
        yield IMPORTED


def compare_labels(comparison: Comparison, stores: Sequence[Path]) -> tuple[PeopleVersus, ...]:
    """What people's labels say of each candidate; raises HafError where there are none of either kind at all."""
    read = [read_store(path) for path in stores]
    found = []
    for versus in comparison.versus:
        table = versus.tables[versus.metrics[0].name]
        human = powered = None
        one = _shared_labels(comparison.baseline, stores, table["sha256_a"])
        other = _shared_labels(versus.candidate, stores, table["sha256_b"])
        if one and other:
            human = labelled_difference(_side(one, table, "a", False), _side(other, table, "b", False))
            if versus.metrics[0].role == "anatomy":
                powered = labelled_difference(_side(one, table, "a", True), _side(other, table, "b", True))
        found.append(PeopleVersus(versus.label, human, powered, *_pairs(table, read)))
    if not any(one.human or one.pairs for one in found):
        names = ", ".join(map(str, stores))
        raise HafError(f"{names}: there are neither labels of both runs, nor of pairs of theirs.")
    return tuple(found)


def _shared_labels(run: Run, stores: Sequence[Path], images: pd.Series[str]) -> RunLabels | None:
    """The labels that stand for the images of a run that are compared, if there are any."""
    try:
        return labels_of(run, stores, set(images.dropna()))
    except HafError:
        return None


def _side(found: RunLabels, table: pd.DataFrame, end: str, verdicts: bool) -> LabelledImages:
    """The labels of one run's images that are shared, with the metric's verdicts."""
    rows = table.dropna(subset=[f"sha256_{end}"])
    place = {image: index for index, image in enumerate(found.rows["image"])}
    order = [place[image] for image in rows[f"image_{end}"]]
    said = rows[f"is_error_{end}"].astype("Float64") if verdicts else None
    return LabelledImages(found.bad[order], rows["key"], said, found.chances[order])


def _pairs(table: pd.DataFrame, read: Sequence[Labels]) -> tuple[JudgedPairs | None, float | None]:
    """The figures of the pairs that people compared, and how often they chose the left image of those they decided."""
    if not bool(table["paired"].all()):
        return None, None
    agreed: dict[str, Consensus] = {}
    answers: list[Label] = []
    for one in read:
        agreed = {**one.agreed, **agreed}
        answers += [label for label in one.answers if label.turn != "settled"]
    items = [f"{a}-{b}" for a, b in zip(table["sha256_a"], table["sha256_b"], strict=True)]
    # Pairs may have been shown with the other run as the baseline.
    turned = {f"{item[65:]}-{item[:64]}": one for item, one in agreed.items() if len(item) > 64}
    signed = [(agreed.get(item), 1) if item in agreed else (turned.get(item), -1) for item in items]
    gains = [None if one is None or one.gain is None else sign * one.gain for one, sign in signed]
    kept = [index for index, (one, _) in enumerate(signed) if one is not None]
    if not kept:
        return None, None
    shown = {one.item for one, _ in signed if one is not None}
    own = [one for one in answers if one.item in shown and one.answer in ("baseline", "candidate")]
    left = sum((one.answer == "candidate") == one.swapped for one in own) / len(own) if own else None
    raters = len({one.rater for one in answers if one.item in shown})
    name = f"pairs ({raters} {'rater' if raters == 1 else 'raters'})"
    keys = [str(table["key"].iloc[index]) for index in kept]
    return figures_of_gains([gains[index] for index in kept], keys, name, "labels"), left
