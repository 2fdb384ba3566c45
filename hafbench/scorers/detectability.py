"""The `detectability` scorer: how much the hand nets doubt the hands of an image. It counts no fingers."""

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
from hafbench.detectors.nets import Roi
from hafbench.scorers.absence import unseen
from hafbench.scorers.card import SHIPPED, Card, load_card
from hafbench.scorers.hands import SMALLEST, size_share, within
from hafbench.types import Finding, Role, Score

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.suites import Prompt
    from hafbench.types import Pixels


class DetectabilityScorer:
    """Judges every hand of an image; the image's value is that of its worst hand."""

    name = "detectability"
    role: Role = "anatomy"
    higher_is_better = False
    about = (
        "Probability that a hand is malformed, by how much hand detectors doubt the worst hand they find: a "
        "detectability anomaly. It does not count fingers: a well-drawn sixth finger goes unseen."
    )

    def __init__(self, card: Card) -> None:
        self._detector, self._card = HandDetector(), card
        self.version = f"3-card-{card.version}"
        self.settings: Mapping[str, Any] = {
            "card": {"version": card.version, "threshold": card.threshold, "fitted_on": card.fitted_on},
            "smallest": SMALLEST,
            "views": 2 * len(VIEWS),
            "weights": dict(self._detector.weights),
        }

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """Score an RGB image (height, width, 3); unknown where no hand is found, or all are too small.

        No hand is absent, unless the prompt says that hands are visible: then it is there, and cannot be judged.
        """
        hands = self._detector.detect(image)
        pixels = hand_lengths(hands)
        judged = pixels[pixels >= SMALLEST]
        counts = {"hands": float(len(pixels)), "hands_judged": float(len(judged))}
        if not len(pixels):
            return Score("unknown", reason="No hand was found.", measures=counts, cause=unseen(prompt, "hands"))
        if not len(judged):
            longest = float(pixels.max())
            reason = f"The largest hand is {longest:.0f} pixels long; below {SMALLEST} a hand cannot be judged."
            return Score("unknown", reason=reason, measures={**counts, "pixels": longest}, cause="unjudgeable")
        hands, pixels = hands[pixels >= SMALLEST], pixels[pixels >= SMALLEST]
        features = [self._card.features_of(hands, row) for row in range(len(hands))]
        sizes = np.array([size_share(float(each), float(judged.max())) for each in pixels])
        chances = hands.detection_confidence * sizes
        chances = [float(c) * self._card.probability(own) for c, own in zip(chances, features, strict=True)]
        value = max(chances)
        worst = chances.index(value)
        findings = [
            _finding(image, hands, row, chance) for row, chance in enumerate(chances) if chance >= self._card.threshold
        ]
        findings.sort(key=lambda finding: -finding.score)
        measures = {**counts, **features[worst], **quality(image, hands, worst)}
        return Score("scored", value, value >= self._card.threshold, findings=tuple(findings), measures=measures)


def quality(image: Pixels, hands: sv.KeyPoints, row: int) -> dict[str, float]:
    """What the card must not look at: the hand's size, and the log variance of its Laplacian at a fixed size."""
    crop = Roi(*hands.data["roi"][row].tolist()).turned(scale=0.6).crop(image, 112)
    sharpness = float(np.log(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var() + 1e-6))
    return {
        "pixels": float(hand_lengths(hands)[row]),
        "sharpness": sharpness,
    }


def _finding(image: Pixels, hands: sv.KeyPoints, row: int, chance: float) -> Finding:
    box = within(hand_boxes(hands)[row].tolist(), image)
    return Finding("hands", "configuration", "detectability", chance, box, as_keypoints(points_of(hands)[row]))


class Options(registry.Options):
    """`card` is a logistic card of one's own; None is the one that comes with hafbench."""

    card: Path | None = None


def load(options: Options, device: str) -> DetectabilityScorer:
    """Build the scorer; raises Unavailable for weights that are not here, HafError for a bad card."""
    return DetectabilityScorer(load_card(options.card or SHIPPED))
