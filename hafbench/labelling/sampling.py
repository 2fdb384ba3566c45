"""Which images to label: all, a random part, or those that narrow an interval most, with the chance of each.

The last is active inference (Zrnic & Candes 2024, arXiv 2403.03208): images of which the scorer is in doubt are drawn
more often, and count less. How often its intervals hold the truth, and how many labels it saves stands in
docs/studies/labels.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hafbench.labelling.frame import Item
from hafbench.labelling.store import Entry
from hafbench.provenance import sha256_of_json

if TYPE_CHECKING:
    from hafbench.statistics.clusters import Floats, Ints

Choose = Literal["all", "random", "active"]
Target = Literal["rate", "difference"]
FLOOR = 0.5
"""The share of the labels that is drawn whatever the scorer says: it may be wrong where it has no doubt."""
MOST_DOUBT = 0.5
"""The standard deviation of a verdict of which nothing is known."""


class PlanSpec(BaseModel):
    """What was asked for; the same again is the same plan, which goes on. `frame` is a hash of all that could be drawn.

    `shared` is the share of images that every rater labels, `again` the share that comes to the same rater twice.
    `target` is what the active choice is for: each run's rate, or the difference of two, where images are drawn in
    pairs of the same prompt and seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["images", "pairs"] = "images"
    choose: Choose = "all"
    number: int | None = Field(default=None, ge=1)
    target: Target = "rate"
    scorer: str | None = None
    shared: float = Field(default=0.1, ge=0, le=1)
    again: float = Field(default=0.05, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    frame: str

    @property
    def name(self) -> str:
        """The plan's name in the store."""
        return sha256_of_json(self.model_dump())[:16]


def frame_hash(keys: Sequence[str]) -> str:
    """A hash of what can be drawn, whatever its order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def draw_plan(spec: PlanSpec, items: Sequence[Item]) -> list[Entry]:
    """The entries of a plan in a random order. A pair drawn for a difference is two entries, of the same chance."""
    rng = np.random.default_rng([spec.seed, 26])
    chances: dict[str, float] = {}
    by_group: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda one: one.key):
        by_group.setdefault(item.group, []).append(item)
    for group, number in zip(by_group.values(), _shares(spec, by_group), strict=True):
        probabilities = inclusion(_weights(spec, group), number)
        for place in draw(probabilities, rng):
            item = group[place]
            single = spec.task == "images"
            for key in [one.sha256 for one in item.pictures] if single else [item.key]:
                chances[key] = float(probabilities[place])
    keys = sorted(chances)
    order = rng.permutation(len(keys))
    shared, again = (
        set(rng.permutation(len(keys))[: round(part * len(keys))].tolist()) for part in (spec.shared, spec.again)
    )
    return [
        Entry(keys[index], place, chances[keys[index]], place in shared, place in again)
        for place, index in enumerate(order.tolist())
    ]


def _shares(spec: PlanSpec, groups: Mapping[str, Sequence[Item]]) -> list[int]:
    """How many units to draw of each run: in proportion to their images."""
    sizes = np.array([len(own) for own in groups.values()])
    if spec.choose == "all" or spec.number is None:
        return [int(size) for size in sizes]
    images = len(next(iter(groups.values()))[0].pictures) if spec.task == "images" else 1
    wanted = min(max(1, spec.number // images), int(sizes.sum()))
    exact = wanted * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    # The largest remainders get what rounding left.
    shares[np.argsort(shares - exact, kind="stable")[: wanted - shares.sum()]] += 1
    return [int(share) for share in shares]


def _weights(spec: PlanSpec, items: Sequence[Item]) -> Floats:
    if spec.choose != "active":
        return np.ones(len(items))
    return doubt([item.chances for item in items])


def doubt(chances: Sequence[Sequence[float | None]], floor: float = FLOOR) -> Floats:
    """How often to draw each unit, on average 1: its standard deviation by the scorer, with `floor` of equal chance.

    `chances` are the probabilities of an error of a unit's images, None where the scorer could not tell.
    """
    variance = [[MOST_DOUBT**2 if p is None else p * (1 - p) for p in unit] for unit in chances]
    spread = np.array([sum(unit) ** 0.5 for unit in variance])
    mean = spread.mean()
    return floor + (1 - floor) * spread / mean if mean > 0 else np.ones(len(spread))


def inclusion(weights: Floats, number: int) -> Floats:
    """Chances (n,) in proportion to the weights, at most 1, that add up to `number`."""
    chances = np.zeros(len(weights))
    certain = np.zeros(len(weights), dtype=bool)
    if number >= len(weights):
        return np.ones(len(weights))
    while True:
        rest = number - certain.sum()
        chances = np.where(certain, 1.0, weights * rest / weights[~certain].sum())
        above = (chances >= 1) & ~certain
        if not above.any():
            return chances
        certain |= above


def draw(probabilities: Floats, rng: np.random.Generator) -> Ints:
    """Places drawn with these chances, exactly as many as they add up to: systematic sampling in a random order.

    Hartley & Rao 1962, Annals of Mathematical Statistics 33, 350-374.
    """
    order = rng.permutation(len(probabilities))
    ends = np.cumsum(probabilities[order])
    number = round(float(ends[-1])) if len(ends) else 0
    ends *= number / ends[-1] if number else 1.0  # rounding must not lose the last one
    ticks = rng.random() + np.arange(number)
    return np.sort(order[np.searchsorted(ends, ticks, side="right").clip(max=len(order) - 1)])
