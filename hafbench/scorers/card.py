"""The card of the `detectability` scorer: from what the nets saw in the views of a hand to one probability.

A card is a small JSON file (`cards/hands.json`) that `recipes/hands/fit_card.py` writes; see
docs/studies/detectability.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hafbench.detectors.hand_views import BONES
from hafbench.errors import HafError, first_problem

if TYPE_CHECKING:
    import supervision as sv

SHIPPED = Path(__file__).parent / "cards" / "hands.json"

# +1: a high value speaks for a malformed hand. The signs are those of the published measurement, and hold in any fit.
FEATURES: dict[str, int] = {
    "presence_lite": -1,
    "presence_full": -1,
    "palm": -1,
    "handedness": -1,
    "spread": +1,
    "disagreement": +1,
    "bones": +1,
}

# A feature further than this many standard deviations from the good hands' mean says no more than one that is there.
Z_LIMIT = 4.0


class Feature(BaseModel):
    """One line of the logistic model: coefficient x (value - mean) / scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    scale: float = Field(gt=0)
    coefficient: float


class Card(BaseModel):
    """A logistic model of "this hand is malformed", with what it was fitted on and how well it did there.

    `threshold` is the probability from which a hand counts as an error; `bones` are the 20 mean log bone lengths of
    real hands about their own mean; `measured` holds AUROCs with intervals and counts, for people to read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    date: str
    features: Mapping[str, Feature]
    bones: tuple[float, ...] = Field(min_length=len(BONES), max_length=len(BONES))
    intercept: float
    threshold: float = Field(gt=0, lt=1)
    fitted_on: str
    n: Mapping[str, int]
    measured: Mapping[str, Any]

    def features_of(self, hands: sv.KeyPoints, row: int) -> dict[str, float]:
        """All FEATURES of a measured hand: `bones` is the mean distance of its log bone lengths from the card's."""
        bones = float(np.abs(hands.data["log_bones"][row] - np.array(self.bones)).mean())
        return {name: bones if name == "bones" else float(hands.data[name][row]) for name in FEATURES}

    def probability(self, features: Mapping[str, float]) -> float:
        """The probability in [0, 1] that the hand with these features is malformed, for the fit's mix of classes."""
        logit = self.intercept
        for name, feature in self.features.items():
            z = (features[name] - feature.mean) / feature.scale
            logit += feature.coefficient * min(max(z, -Z_LIMIT), Z_LIMIT)
        return 1 / (1 + math.exp(-logit))


def load_card(path: Path = SHIPPED) -> Card:
    """Read a card; raises HafError if it is not one, or asks for a feature that this version does not measure."""
    try:
        card = Card.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HafError(f"{path}: the card cannot be read ({error}).") from error
    except ValidationError as error:
        raise HafError(f"{path} is not a card of the hands scorer: {first_problem(error)}.") from error
    for name, feature in card.features.items():
        if name not in FEATURES:
            raise HafError(f"{path}: there is no feature '{name}'; known: {', '.join(FEATURES)}.")
        if feature.coefficient * FEATURES[name] < 0:
            raise HafError(f"{path}: the coefficient of '{name}' has the wrong sign; fit the card again.")
    return card
