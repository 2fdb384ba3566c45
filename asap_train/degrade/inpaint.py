"""Redraw a part with an inpainting model that is asked for an error.

A model need not do as it is told: the kind of a candidate is what was asked for. Whether there is an error at all, the
gates decide, by what changed and by what the scorers see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from asap_train.data.inpainting import Painter, PainterOptions, load_painter
from asap_train.degrade.redraw import ErrorPrompt, noise_seeds, redraw

if TYPE_CHECKING:
    from asap_train.types import Candidate, Part, Photo

ERROR_PROMPTS: tuple[ErrorPrompt, ...] = (
    ErrorPrompt("hands", "extra", "extra_digit", "a hand with six fingers, one finger too many"),
    ErrorPrompt("hands", "missing", "missing_digit", "a hand with only four fingers, one finger is missing"),
    ErrorPrompt("hands", "configuration", "fused_digits", "a deformed hand, fingers fused and grown together"),
    ErrorPrompt("hands", "orientation", "turned_hand", "a hand twisted backwards at the wrist"),
    ErrorPrompt("hands", "proportion", "long_digit", "a hand with fingers far too long"),
    ErrorPrompt("feet", "extra", "extra_toe", "a foot with six toes, one toe too many"),
    ErrorPrompt("feet", "missing", "missing_toe", "a foot with only three toes, toes are missing"),
    ErrorPrompt("feet", "configuration", "fused_toes", "a deformed foot, toes fused and grown together"),
    ErrorPrompt("feet", "orientation", "turned_foot", "a foot that points backwards"),
    ErrorPrompt("feet", "proportion", "large_foot", "a foot far too large for its leg"),
    ErrorPrompt("face", "extra", "extra_eye", "a face with three eyes"),
    ErrorPrompt("face", "missing", "missing_eye", "a face with one eye only, the other eye is missing"),
    ErrorPrompt("face", "configuration", "displaced_features", "a deformed face, eyes and mouth in the wrong places"),
    ErrorPrompt("face", "orientation", "turned_feature", "a face with its mouth upside down"),
    ErrorPrompt("face", "proportion", "large_eye", "a face with one eye twice as large as the other"),
    ErrorPrompt("limbs", "extra", "extra_limb", "a person with an extra {limb} growing out of the body"),
    ErrorPrompt("limbs", "missing", "missing_limb", "a person whose {limb} ends in a stump"),
    ErrorPrompt("limbs", "configuration", "bent_limb", "a broken {limb} bent the wrong way, with a joint too many"),
    ErrorPrompt("limbs", "orientation", "turned_limb", "a person with the {limb} attached backwards"),
    ErrorPrompt("limbs", "proportion", "long_limb", "a person with one {limb} far too long"),
    ErrorPrompt("torso", "configuration", "twisted_torso", "a person with a twisted, disjointed torso"),
    ErrorPrompt("torso", "proportion", "long_torso", "a person with a torso far too long"),
)


@dataclass(frozen=True)
class InpaintFamily:
    """Asks for an error of ERROR_PROMPTS, drawn at random, and paints `candidates` pictures, each of its own noise."""

    painter: Painter
    candidates: int = 4
    name: str = "inpaint"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model with its files' checksums, and how many pictures are painted."""
        return {**self.painter.settings, "candidates": self.candidates}

    def degrade(self, photo: Photo, part: Part, rng: np.random.Generator) -> Iterator[Candidate]:
        """Pictures for one error, in no order; none for an empty mask."""
        suited = [error for error in ERROR_PROMPTS if error.region == part.region]
        error = suited[int(rng.integers(len(suited)))]
        seeds = noise_seeds(rng, self.candidates)
        if part.mask.any():
            yield from redraw(self.painter, photo, part, error, seeds, self.name, {})


class Options(PainterOptions):
    """The model, and how many pictures it paints of one error."""

    candidates: int = Field(default=4, ge=1)


def load(options: Options, device: str) -> InpaintFamily:
    """The family over the model that `options` names; raises as `load_painter` does."""
    return InpaintFamily(load_painter(options, device), options.candidates)
