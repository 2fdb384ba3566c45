"""The `limb_count` scorer of the built-in world: the number of arms and legs of each figure, and malformed ones.

Every arm of a mannequin is in view, and every leg of one that is shown whole, so that a limb which is not seen is
missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hafbench.detectors.mannequin import SeenPerson, Thing
from hafbench.registry import Options
from hafbench.scorers.mannequin import load_scorer
from hafbench.scorers.mannequin_card import MannequinCard
from hafbench.types import Finding, Kind, Score

if TYPE_CHECKING:
    from hafbench.types import Scorer

ABOUT = (
    "How surely a figure has a limb too many or too few, or a malformed one, by the detector of the built-in world. "
    "Of photographs it knows nothing."
)
LIMBS = 2
_SHAPES: Mapping[str, Kind] = {"detached": "configuration", "long": "proportion", "short": "proportion"}


def _finding(kind: Kind, detail: str, suspicion: float, thing: Thing) -> Finding:
    return Finding("limbs", kind, detail, suspicion, thing.box, thing.points)


def suspect(seen: SeenPerson) -> Iterator[Finding]:
    """What may be wrong with one figure, with the detector's confidence in it."""
    for group, limbs, weight in (("arm", seen.arms, 1.0), ("leg", seen.legs, seen.person.share("person_full"))):
        if len(limbs) > LIMBS:
            yield _finding("extra", f"extra_{group}", weight * limbs[LIMBS].confidence, limbs[LIMBS])
        second = limbs[LIMBS - 1].confidence if len(limbs) >= LIMBS else 0.0
        yield _finding("missing", f"missing_{group}", weight * (1 - second), seen.person)
        for limb in limbs:
            for shape, kind in _SHAPES.items():
                if f"{group}_{shape}" in limb.chances:
                    yield _finding(kind, f"{shape}_{group}", weight * limb.chances[f"{group}_{shape}"], limb)


def judge(people: tuple[SeenPerson, ...], card: MannequinCard) -> Score:
    """The score of a picture in which these people are seen."""
    if not people:
        return Score("unknown", reason="nobody was found")
    measures = {
        "people": float(len(people)),
        "arms": float(sum(limb.confidence >= card.counted for seen in people for limb in seen.arms)),
        "legs": float(sum(limb.confidence >= card.counted for seen in people for limb in seen.legs)),
    }
    return card.score((finding for seen in people for finding in suspect(seen)), measures)


def load(options: Options, device: str) -> Scorer:
    """The scorer; raises Unavailable if the detector is not in this installation."""
    return load_scorer("limb_count", ABOUT, "mannequin-4", lambda sight, card: judge(sight.people, card), device)
