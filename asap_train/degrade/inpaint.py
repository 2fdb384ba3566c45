"""Redraw a part with an inpainting model that is asked for an error.

A model need not do as it is told: the kind of a candidate is what was asked for. Whether there is an error at all, the
gates decide, by what changed and by what the scorers see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asap_train.data.inpainting import Painter
from asap_train.degrade.redraw import Wish, noise_seeds, redraw

if TYPE_CHECKING:
    from asap_train.types import Candidate, Part, Photo

WISHES: tuple[Wish, ...] = (
    Wish("hands", "extra", "extra_digit", "a hand with six fingers, one finger too many"),
    Wish("hands", "missing", "missing_digit", "a hand with only four fingers, one finger is missing"),
    Wish("hands", "configuration", "fused_digits", "a deformed hand, fingers fused and grown together"),
    Wish("hands", "orientation", "turned_hand", "a hand twisted backwards at the wrist"),
    Wish("hands", "proportion", "long_digit", "a hand with fingers far too long"),
    Wish("feet", "extra", "extra_toe", "a foot with six toes, one toe too many"),
    Wish("feet", "missing", "missing_toe", "a foot with only three toes, toes are missing"),
    Wish("feet", "configuration", "fused_toes", "a deformed foot, toes fused and grown together"),
    Wish("feet", "orientation", "turned_foot", "a foot that points backwards"),
    Wish("feet", "proportion", "large_foot", "a foot far too large for its leg"),
    Wish("face", "extra", "extra_eye", "a face with three eyes"),
    Wish("face", "missing", "missing_eye", "a face with one eye only, the other eye is missing"),
    Wish("face", "configuration", "displaced_features", "a deformed face, eyes and mouth in the wrong places"),
    Wish("face", "orientation", "turned_feature", "a face with its mouth upside down"),
    Wish("face", "proportion", "large_eye", "a face with one eye twice as large as the other"),
    Wish("limbs", "extra", "extra_limb", "a person with an extra {limb} growing out of the body"),
    Wish("limbs", "missing", "missing_limb", "a person whose {limb} ends in a stump"),
    Wish("limbs", "configuration", "bent_limb", "a broken {limb} bent the wrong way, with a joint too many"),
    Wish("limbs", "orientation", "turned_limb", "a person with the {limb} attached backwards"),
    Wish("limbs", "proportion", "long_limb", "a person with one {limb} far too long"),
    Wish("torso", "configuration", "twisted_torso", "a person with a twisted, disjointed torso"),
    Wish("torso", "proportion", "long_torso", "a person with a torso far too long"),
)


@dataclass(frozen=True)
class InpaintFamily:
    """Asks for an error of WISHES, drawn at random, and paints `candidates` pictures of it, each from its own noise."""

    painter: Painter
    candidates: int = 4
    name: str = "inpaint"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model with its files' checksums, and how many pictures are painted."""
        return {**self.painter.settings, "candidates": self.candidates}

    def degrade(self, photo: Photo, part: Part, rng: np.random.Generator) -> Iterator[Candidate]:
        """Pictures for one error, in no order; none for an empty mask."""
        wishes = [wish for wish in WISHES if wish.region == part.region]
        wish = wishes[int(rng.integers(len(wishes)))]
        seeds = noise_seeds(rng, self.candidates)
        if part.mask.any():
            yield from redraw(self.painter, photo, part, wish, seeds, self.name, {})
