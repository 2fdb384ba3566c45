"""The `hands` scorer: how much the hand nets doubt the hands of an image. A detectability anomaly, no finger count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hafbench import registry
from hafbench.detectors import as_keypoints, points_of
from hafbench.detectors.hand_views import hand_boxes, hand_lengths
from hafbench.detectors.hands import VIEWS, HandDetector
from hafbench.detectors.nets import Floats, Roi
from hafbench.scorers.card import SHIPPED, Card, load_card
from hafbench.types import Finding, Role, Score

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.suites import Prompt
    from hafbench.types import Pixels

SMALLEST = 56
"""Hands whose box has a longer side below this many pixels of the image could not be judged in our measurement."""


class HandsScorer:
    """Judges every hand of an image; the image's value is that of its worst hand."""

    name = "hands"
    role: Role = "anatomy"
    higher_is_better = False
    about = (
        "Probability that a hand is malformed, by how much hand detectors doubt the worst hand they find: a "
        "detectability anomaly. It does not count fingers: a well-drawn sixth finger goes unseen."
    )

    def __init__(self, card: Card) -> None:
        self._detector, self._card = HandDetector(), card
        self.version = f"2-card-{card.version}"
        self.settings: Mapping[str, Any] = {
            "card": {"version": card.version, "threshold": card.threshold, "fitted_on": card.fitted_on},
            "smallest": SMALLEST,
            "views": 2 * len(VIEWS),
            "weights": dict(self._detector.weights),
        }

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """Score an RGB image (height, width, 3); unknown where no hand is found, or all are too small."""
        hands = self._detector.detect(image)
        sure, pixels = hands.detection_confidence >= 0.5, hand_lengths(hands)
        judged = pixels[sure & (pixels >= SMALLEST)]
        counts = {"hands": float(sure.sum()), "hands_judged": float(len(judged))}
        if not sure.any():
            return Score("unknown", reason="No hand was found.", measures=counts)
        if not len(judged):
            longest = float(pixels[sure].max())
            reason = f"The largest hand is {longest:.0f} pixels long; below {SMALLEST} a hand cannot be judged."
            return Score("unknown", reason=reason, measures={**counts, "pixels": longest})
        hands, pixels = hands[pixels >= SMALLEST], pixels[pixels >= SMALLEST]
        features = [self._card.features_of(hands, row) for row in range(len(hands))]
        chances = hands.detection_confidence * size_share(pixels, judged.max())
        chances = [float(c) * self._card.probability(own) for c, own in zip(chances, features, strict=True)]
        value = max(chances)
        worst = chances.index(value)
        findings = [
            _finding(image, hands, row, chance) for row, chance in enumerate(chances) if chance >= self._card.threshold
        ]
        findings.sort(key=lambda finding: -finding.score)
        measures = {**counts, **features[worst], **quality(image, hands, worst)}
        return Score("scored", value, value >= self._card.threshold, findings=tuple(findings), measures=measures)


def size_share(pixels: Floats, longest: float) -> Floats:
    """With which share in [0, 1] a hand counts beside a longer one: none at SMALLEST, in full a quarter above it.

    So a small hand that crosses the limit with a little noise does not decide an image that shows a larger one.
    """
    return np.where(pixels >= longest, 1.0, np.minimum(1.0, (pixels - SMALLEST) / (SMALLEST / 4)))


def quality(image: Pixels, hands: sv.KeyPoints, row: int) -> dict[str, float]:
    """What the card must not look at: the hand's size, and the log variance of its Laplacian at a fixed size."""
    crop = Roi(*hands.data["roi"][row].tolist()).turned(scale=0.6).crop(image, 112)
    sharpness = float(np.log(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var() + 1e-6))
    return {
        "pixels": float(hand_lengths(hands)[row]),
        "sharpness": sharpness,
        "existence_logit": float(hands.data["existence_logit"][row]),
    }


def _finding(image: Pixels, hands: sv.KeyPoints, row: int, chance: float) -> Finding:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = hand_boxes(hands)[row].tolist()
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return Finding("hands", "configuration", "detectability", chance, box, as_keypoints(points_of(hands)[row]))


class Options(registry.Options):
    """`card` is a logistic card of one's own; None is the one that comes with hafbench."""

    card: Path | None = None


def load(options: Options, device: str) -> HandsScorer:
    """Build the scorer; raises Unavailable for weights that are not here, HafError for a bad card."""
    return HandsScorer(load_card(options.card or SHIPPED))
