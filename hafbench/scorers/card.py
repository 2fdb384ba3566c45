"""The card of the `hands` scorer: from what the nets saw in the views of a hand to one probability.

A card is a small JSON file (`cards/hands.json`) that `benchmarks/fit_hands_card.py` writes and docs/hands.md explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hafbench.detectors.hand_nets import MIDDLE_MCP, WRIST, Floats, HandPoints
from hafbench.errors import HafError, first_problem
from hafbench.types import Box, Keypoint

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

# The 20 bones of a hand as pairs of its 21 points, thumb to little finger, each from the wrist to the tip.
BONES = tuple((0 if k % 4 == 0 else k, k + 1) for k in range(20))

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


@dataclass(frozen=True)
class Evidence:
    """What the nets say of a hand: box and median keypoints in image pixels, the features, the bones."""

    box: Box
    keypoints: tuple[Keypoint, ...]
    features: Mapping[str, float]
    log_bones: Floats

    @property
    def pixels(self) -> float:
        """The longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def presence(self) -> float:
        """The mean logit of both nets that there is a hand."""
        return (self.features["presence_lite"] + self.features["presence_full"]) / 2

    def features_for(self, card: Card) -> dict[str, float]:
        """All FEATURES: `bones` is the mean distance of the log bone lengths from the card's."""
        return {**self.features, "bones": float(np.abs(self.log_bones - np.array(card.bones)).mean())}


def evidence_of(
    full: Sequence[HandPoints], lite: Sequence[HandPoints], palms: Sequence[float], side: float
) -> Evidence:
    """Sum up the views of a hand through both nets, and its palm scores; `side` of its square in pixels.

    The box is that of the keypoints with a tenth of its longer side around, since they lie inside of the hand. The
    confidence of a keypoint falls from 1 with its movement between views, to 1/e at 5 % of the square's side.
    """
    views = np.stack([one.points for one in full])
    middle = np.median(views, axis=0)
    moved = spread(views)
    apart = np.hypot(*(middle - np.median([one.points for one in lite], axis=0)).T)
    right = float(np.mean([one.handedness for one in (*full, *lite)]))
    low, high = middle.min(0), middle.max(0)
    margin = 0.1 * float((high - low).max())
    return Evidence(
        box=(
            float(low[0]) - margin,
            float(low[1]) - margin,
            float(high[0]) + margin,
            float(high[1]) + margin,
        ),
        keypoints=tuple(
            (float(x), float(y), math.exp(-m / (0.05 * side))) for (x, y), m in zip(middle, moved, strict=True)
        ),
        features={
            "presence_lite": mean_logit([one.presence for one in lite]),
            "presence_full": mean_logit([one.presence for one in full]),
            "palm": mean_logit(palms),
            "handedness": mean_logit([max(right, 1 - right)]),
            "spread": log_share(moved, middle, side),
            "disagreement": log_share(apart, middle, side),
        },
        log_bones=np.asarray(np.median([log_bones(one.world) for one in full], axis=0)),
    )


def mean_logit(probabilities: Sequence[float]) -> float:
    """The mean of the logits, each probability held to [0.001, 0.999] so that no single view decides."""
    clipped = np.clip(probabilities, 0.001, 0.999)
    return float(np.log(clipped / (1 - clipped)).mean())


def spread(views: Floats) -> Floats:
    """How far each point moves between views, in pixels: the median distance (n,) to its median, of (views, n, 2)."""
    return np.asarray(np.median(np.hypot(*np.moveaxis(views - np.median(views, axis=0), -1, 0)), axis=0))


def log_share(distances: Floats, points: Floats, side: float) -> float:
    """The log of the mean distance as a share of the palm's length, of points (21, 2) and distances (n,) in pixels.

    A twentieth of the crop's side is added to the palm, lest one that points at the camera have no length.
    """
    palm = float(np.hypot(*(points[MIDDLE_MCP] - points[WRIST]))) + 0.05 * side
    return math.log(float(np.mean(distances)) / palm + 0.01)


def log_bones(world: Floats) -> Floats:
    """The log lengths (20,) of the bones of a hand (21, 3), about their own mean: its proportions without its size."""
    ends = np.array(BONES)
    logs = np.log(np.linalg.norm(world[ends[:, 1]] - world[ends[:, 0]], axis=1) + 1e-4)
    return np.asarray(logs - logs.mean())
