"""Which labelled images stand for all of them, and with what chances: what a store's plans drew, as far as they got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hafbench.labelling.answers import Label
from hafbench.labelling.sampling import PlanSpec
from hafbench.labelling.store import Entry, LabelStore

if TYPE_CHECKING:
    from hafbench.statistics.clusters import Floats


@dataclass(frozen=True)
class Plan:
    """A plan of a store. `reached` has the chance of each of its items up to where its raters got, all answered.

    `frame` are the images that it could draw: its labels stand for these, or for some of them, and for no others.
    """

    spec: PlanSpec
    reached: Mapping[str, float]
    frame: Set[str]

    @property
    def active(self) -> bool:
        """Whether the scorers' doubts chose the images, and so the chances differ."""
        return self.spec.choose == "active"


@dataclass(frozen=True)
class Drawn:
    """The plans of a store, and the items whose labels were imported, which are taken as a random part."""

    plans: tuple[Plan, ...]
    imported: Set[str] = field(default_factory=frozenset)

    def standing_for(self, images: Set[str]) -> Drawn:
        """The same with only those plans that could draw each of these images."""
        return replace(self, plans=tuple(plan for plan in self.plans if images <= plan.frame))

    @property
    def equal(self) -> set[str]:
        """The items that were drawn with equal chances: a random part of all, whoever's session asked for them."""
        return set(self.imported).union(*(plan.reached for plan in self.plans if not plan.active))

    def choice(self, item: str) -> tuple[str, float | None]:
        """How an item was drawn (all, random, active, imported), and its chance; an equal one before an active one."""
        for plan in sorted(self.plans, key=lambda plan: plan.active):
            if item in plan.reached and not (plan.active and item in self.imported):
                return plan.spec.choose, plan.reached[item]
        return "imported", None


def drawn_of(store: LabelStore, labels: Sequence[Label]) -> Drawn:
    """What the plans of a store drew; `labels` are all of it."""
    answered = {one.item for one in labels}
    own: dict[str, set[str]] = {}
    for one in labels:
        if one.turn == "first" and one.plan is not None:
            own.setdefault(one.plan, set()).add(one.item)
    specs = {name: PlanSpec.model_validate_json(text) for name, text in store.plans().items()}
    return Drawn(
        tuple(
            Plan(spec, reached(store.entries(name), own.get(name, set()), answered), store.frame(name))
            for name, spec in specs.items()
        ),
        frozenset(one.item for one in labels if one.plan is None),
    )


def reached(entries: Iterable[Entry], own: Set[str], answered: Set[str]) -> dict[str, float]:
    """The chances of a plan's items (in their random order) before the first that nobody answered; none if none is.

    A session passes over what was answered for another plan, and those items differ from the rest where that plan's
    choice was active: all items of the plan that have an answer would hold too many of them, and those of its own
    session too few. Its order is random, so a beginning of it is a random part of what it drew. `own` are the items
    answered in its session: an earlier one that is open was left, or is being looked at by somebody.
    """
    listed = list(entries)
    last = max((place for place, one in enumerate(listed) if one.item in own), default=-1)
    end = next((place for place, one in enumerate(listed) if place > last and one.item not in answered), len(listed))
    # Without an answer of its own a plan has a beginning only where all of it was answered.
    if last < 0 and end < len(listed):
        return {}
    return {one.item: one.probability for one in listed[:end] if one.item in answered}


def weights_of(images: Sequence[str], labelled: np.ndarray, samples: Iterable[Mapping[str, float]]) -> Floats:
    """How much each label counts (n,), 0 for images of no sample.

    A sample has the chances of the images it reached. Its labels, weighted by the inverse of their chances and
    normalized (Hajek 1971), estimate a rate of all images; the estimates of several samples are averaged in proportion
    to their numbers of labels, which does not depend on what the labels say (as for surveys with several frames:
    Hartley 1962, Proceedings of the Social Statistics Section, ASA, 203-206). An image of two samples counts in both.
    """
    total = np.zeros(len(images))
    for sample in samples:
        own = np.array([1 / sample[image] if image in sample else 0.0 for image in images]) * labelled
        if own.any():
            total += own * np.count_nonzero(own) / own.sum()
    return total
