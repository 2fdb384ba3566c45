"""The `hands` scorer: whether, how and where hands are malformed, by a critic trained on localized errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.detectors.critic import Look
from hafbench.detectors.hands import HandDetector, SeenHand
from hafbench.scorers.absence import unseen
from hafbench.types import Box, Finding, Kind, Role, Score

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Pixels

SMALLEST = 56
"""Hands of which the longer side is below this many pixels of the image are not judged."""

# The critic's kinds of errors in the published taxonomy, and what findings call them.
KINDS: Mapping[str | None, tuple[Kind, str]] = {
    "extra": ("extra", "extra_digit"),
    "missing": ("missing", "missing_digit"),
    "fused": ("configuration", "fused_digits"),
    "shape": ("configuration", "malformed"),
    "bent": ("configuration", "bent_digit"),
    "proportion": ("proportion", "digit_length"),
    None: ("configuration", "malformed"),
}


class HandsScorer:
    """Judges every hand of an image; the image's value is that of its worst hand."""

    name = "hands"
    role: Role = "anatomy"
    higher_is_better = False
    about = (
        "Probability that a hand is malformed (digits extra, missing, fused, bent or of wrong length, and melted "
        "shapes), for the worst hand of the image, by a critic trained on localized errors in photographs, in rendered "
        "people and in labelled AI-made pictures."
    )

    def __init__(self) -> None:
        self._detector = HandDetector()
        trained = self._detector.critic.trained
        self._threshold = trained.threshold
        self.version = f"3-critic-{trained.version}"
        self.settings: Mapping[str, Any] = {
            "critic": {
                "version": trained.version,
                "threshold": trained.threshold,
                "present_threshold": trained.present_threshold,
            },
            "smallest": SMALLEST,
            "weights": dict(self._detector.weights),
        }

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """Score an RGB image (height, width, 3); unknown where no hand is found, or all are too small.

        No hand is absent, unless the prompt says that hands are visible: then it is there, and cannot be judged.
        """
        hands = self._detector.see(image)
        if not hands:
            return Score(
                "unknown",
                reason="No hand was found.",
                measures={"hands": 0.0, "hands_judged": 0.0},
                cause=unseen(prompt, "hands"),
            )
        judged = [hand for hand in hands if hand.length >= SMALLEST]
        counts = {"hands": float(len(hands)), "hands_judged": float(len(judged))}
        longest = max(hand.length for hand in hands)
        if not judged:
            reason = f"The largest hand is {longest:.0f} pixels long; below {SMALLEST} a hand cannot be judged."
            return Score("unknown", reason=reason, measures={**counts, "pixels": longest}, cause="unjudgeable")
        chances = [
            (hand.look.error * present_share(hand.look.present) * size_share(hand.length, longest), hand)
            for hand in judged
        ]
        chances.sort(key=lambda pair: -pair[0])
        value, worst = chances[0]
        findings = tuple(_finding(image, hand, chance) for chance, hand in chances if chance >= self._threshold)
        measures = {**counts, "pixels": worst.length, "present": worst.look.present}
        measures |= {f"kind_{name}": share for name, share in worst.look.kinds.items()}
        return Score("scored", value, value >= self._threshold, findings=findings, measures=measures)


def size_share(pixels: float, longest: float) -> float:
    """With which share in [0, 1] a hand counts beside a longer one: none at SMALLEST, in full a quarter above it.

    So a small hand that crosses the limit with a little noise does not decide an image that shows a larger one.
    """
    return 1.0 if pixels >= longest else min(1.0, (pixels - SMALLEST) / (SMALLEST / 4))


def present_share(present: float) -> float:
    """With which share in [0, 1] a hand counts that is there with this probability: in full from one half.

    A malformed hand is less surely a hand, so that the probability itself would hide the worst ones.
    """
    return min(1.0, 2 * present)


def worst_place(look: Look) -> Box:
    """The box of where the critic sees the error: the connected cells about the hottest one that are half as hot."""
    import cv2

    heat = look.heat
    hot = (heat >= heat.max() / 2).astype(np.uint8)
    _, labels = cv2.connectedComponents(hot, connectivity=8)
    rows, columns = np.nonzero(labels == labels[np.unravel_index(heat.argmax(), heat.shape)])
    height, width = heat.shape
    low, high = (columns.min() / width, rows.min() / height), ((columns.max() + 1) / width, (rows.max() + 1) / height)
    corners = look.roi.to_image(np.array([low, (high[0], low[1]), high, (low[0], high[1])]))
    (x1, y1), (x2, y2) = corners.min(0), corners.max(0)
    return float(x1), float(y1), float(x2), float(y2)


def within(box: Sequence[float], image: Pixels) -> Box:
    """The part of a box that lies in an image, a pixel wide and high at least."""
    height, width = image.shape[:2]
    x1, y1 = (min(max(low, 0.0), size - 1.0) for low, size in zip(box[:2], (width, height), strict=True))
    x2, y2 = (min(high, float(size)) for high, size in zip(box[2:], (width, height), strict=True))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _finding(image: Pixels, hand: SeenHand, chance: float) -> Finding:
    kind, detail = KINDS[hand.look.kind]
    return Finding("hands", kind, detail, chance, within(worst_place(hand.look), image))


def load(options: object, device: str) -> HandsScorer:
    """Build the scorer; raises Unavailable for weights that are not on this machine."""
    return HandsScorer()
