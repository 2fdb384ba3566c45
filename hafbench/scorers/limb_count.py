"""The `limb_count` scorer of the built-in world: the number of arms and legs of each figure, and malformed ones.

Every arm of a mannequin is in view, and every leg of one that is shown whole, so that a limb which is not seen is
missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hafbench.detectors.mannequin import DetectedPerson, chance, share
from hafbench.scorers.absence import unseen
from hafbench.scorers.mannequin import Options, finding, load_scorer
from hafbench.scorers.mannequin_card import MannequinCard
from hafbench.types import Finding, Kind, Score

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Scorer

ABOUT = (
    "How surely a figure has a limb too many or too few, or a malformed one, by the detector of the built-in world. "
    "It cannot judge photographs."
)
LIMBS = 2
_SHAPES: Mapping[str, Kind] = {"detached": "configuration", "long": "proportion", "short": "proportion"}


def suspect(seen: DetectedPerson) -> Iterator[Finding]:
    """What may be wrong with one figure, with the detector's confidence in it."""
    whole = share(seen.person, "person_full")[0]
    for group, limbs, weight in (("arm", seen.arms, 1.0), ("leg", seen.legs, whole)):
        if len(limbs) > LIMBS:
            yield finding("limbs", "extra", f"extra_{group}", weight * limbs.confidence[LIMBS], limbs[LIMBS])
        second = limbs.confidence[LIMBS - 1] if len(limbs) >= LIMBS else 0.0
        yield finding("limbs", "missing", f"missing_{group}", weight * (1 - second), seen.person)
        for row in range(len(limbs)):
            for shape, kind in _SHAPES.items():
                suspicion = chance(limbs, f"{group}_{shape}")[row]
                if suspicion > 0:
                    yield finding("limbs", kind, f"{shape}_{group}", weight * suspicion, limbs[row])


def judge(people: tuple[DetectedPerson, ...], card: MannequinCard, prompt: Prompt | None = None) -> Score:
    """The score of a picture in which these people are detected; a picture of hands, too, has nobody in it."""
    measures = {
        "people": float(len(people)),
        "arms": float(sum((seen.arms.confidence >= card.counted).sum() for seen in people)),
        "legs": float(sum((seen.legs.confidence >= card.counted).sum() for seen in people)),
    }
    if not people:
        return Score("unknown", reason="nobody was found", measures=measures, cause=unseen(prompt, "arms"))
    return card.score((finding for seen in people for finding in suspect(seen)), measures)


def load(options: Options, device: str) -> Scorer:
    """The scorer; raises what `load_scorer` raises."""
    return load_scorer(
        "limb_count", ABOUT, "mannequin-4", lambda sight, *rest: judge(sight.people, *rest), options, device
    )
