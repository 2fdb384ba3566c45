"""The `hands` scorer: how much the hand nets doubt the hands of an image. A detectability anomaly, no finger count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.detectors import hand_nets as nets
from hafbench.detectors.hand_nets import Floats, Roi
from hafbench.scorers import ScorerOptions
from hafbench.scorers.card import SHIPPED, Card, load_card, log_bones, log_share, mean_logit, spread
from hafbench.types import Box, Finding, Keypoint, Score

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Pixels

FILES = (
    "palm_detection_full.tflite",
    "hand_landmark_full.tflite",
    "hand_landmark_lite.tflite",
    "pose_detection.tflite",
    "pose_landmark_full.tflite",
)

SMALLEST = 56
"""Hands whose box has a longer side below this many pixels of the image could not be judged in our measurement."""

PALM_CANDIDATE = 0.3
PERSON, WRIST_VISIBLE = 0.4, 0.6
# Logits that a body's wrist near the hand adds to the belief in it, and that a body's head there takes away.
WRIST_BONUS, HEAD_MALUS = 1.5, 2.0
BELIEVED, WORTH_A_LOOK = 1.5, -2.0
CLOSE_UP = 0.25
"""Where no hand is believed, the likeliest is, if it is this share of the image's longer side: a picture of a hand."""
MOST_HANDS = 24

# (degrees, scale): the views of a hand; each is also seen mirrored, so that a mirrored image scores the same.
VIEWS = ((0.0, 1.0), (12.0, 1.0), (-12.0, 1.0), (0.0, 0.9), (0.0, 1.12))
# How much wider than the hand's square the palm detector looks, so that a palm has the size it was trained on.
PALM_VIEWS = (1.2, 1.6, 2.2)


@dataclass(frozen=True)
class Hand:
    """A place that may be a hand: its square, the palm score that led there, the best presence in one view,
    and whether a body's wrist, or head, is there."""

    roi: Roi
    palm: float
    presence: float
    wrist: bool
    head: bool

    def belief(self, presence_logit: float) -> float:
        """How surely there is a hand at all, well-formed or not: the logits of the independent locators, added."""
        return mean_logit([self.palm]) + presence_logit + WRIST_BONUS * self.wrist - HEAD_MALUS * self.head

    @property
    def hope(self) -> float:
        """What the belief can come to, from one view."""
        return self.belief(mean_logit([self.presence]))


@dataclass(frozen=True)
class Evidence:
    """What the nets say of a hand: box and median keypoints in image pixels, the features, the bones of the views."""

    box: Box
    keypoints: tuple[Keypoint, ...]
    features: Mapping[str, float]
    log_bones: Floats

    @property
    def pixels(self) -> float:
        """The longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def features_for(self, card: Card) -> dict[str, float]:
        """The features of a card, `bones` being the mean distance of the log bone lengths from the card's."""
        return {**self.features, "bones": float(np.abs(self.log_bones - np.array(card.bones)).mean())}


class HandNets:
    """The five nets together: find the hands of an image, measure a hand. Not thread-safe: one for each scorer."""

    def __init__(self) -> None:
        from hafbench.weights import locate

        self.files = {name: locate(name) for name in FILES}
        palm, full, lite, person, body = (nets.Net(path) for path in self.files.values())
        self._palm = nets.Detector(palm, 192, nets.PALM_STRIDES)
        self._person = nets.Detector(person, 224, nets.POSE_STRIDES)
        self._body = nets.BodyNet(body)
        self._hand = {"full": nets.HandNet(full), "lite": nets.HandNet(lite)}

    def find(self, image: Pixels) -> list[Hand]:
        """What may be hands, likeliest first: palms in the whole, in tiles and at the wrists of bodies.

        Where none of these finds anything, the whole image is tried as a hand, four ways up.
        """
        bodies = self._bodies(image)
        wrists = [square for body in bodies for square in _wrist_squares(body)]
        heads = [_head(body) for body in bodies]
        squares = [*_squares(image), *(Roi(w.x, w.y, 1.5 * w.side, 0.0) for w in wrists)]
        palms = [palm for square in squares for palm in self._palm.detect(image, square, PALM_CANDIDATE)]
        guesses = [(nets.roi_of_palm(palm), palm.score) for palm in nets.suppress(palms, 0.3)]
        guesses += [(wrist, 0.0) for wrist in wrists]
        if not guesses:
            guesses = [(nets.whole(image).turned(turn, 1.3), 0.0) for turn in (0, 90, 180, 270)]
        hands = [self._hand_at(image, roi, palm, wrists, heads) for roi, palm in guesses]
        worth = [hand for hand in hands if _inside(hand.roi, image) and hand.hope > WORTH_A_LOOK]
        return _distinct(worth)[:MOST_HANDS]

    def _bodies(self, image: Pixels) -> list[nets.BodyPoints]:
        people = self._person.detect(image, nets.whole(image), PERSON)
        bodies = [self._body(image, nets.roi_of_person(person)) for person in people]
        return [body for body in bodies if body.presence > 0.5]

    def _hand_at(
        self, image: Pixels, roi: Roi, palm: float, wrists: Sequence[Roi], heads: Sequence[tuple[float, float, float]]
    ) -> Hand:
        seen = self._hand["full"](image, roi)
        if seen.presence >= 0.1:  # the hand's own points give a better square than the palm or the wrist
            roi = nets.roi_of_hand(roi.to_image(seen.points))
        presence = max(net(image, roi).presence for net in self._hand.values())
        wrist = any(np.hypot(roi.x - w.x, roi.y - w.y) < 0.5 * max(roi.side, w.side) for w in wrists)
        head = any(np.hypot(roi.x - x, roi.y - y) < radius for x, y, radius in heads)
        return Hand(roi, palm, presence, wrist, head)

    def measure(self, image: Pixels, hand: Hand) -> Evidence:
        """Ten views of a hand through both landmark nets, three through the palm detector."""
        views = [(hand.roi.turned(degrees, scale), flip) for degrees, scale in VIEWS for flip in (False, True)]
        seen = {name: [net(image, roi, flip) for roi, flip in views] for name, net in self._hand.items()}
        points = {
            name: np.stack([roi.to_image(said.points) for (roi, _), said in zip(views, found, strict=True)])
            for name, found in seen.items()
        }
        middle = np.median(points["full"], axis=0)
        moved = spread(points["full"])
        apart = np.hypot(*(middle - np.median(points["lite"], axis=0)).T)
        right = float(np.mean([said.handedness for found in seen.values() for said in found]))
        margin = 0.1 * float((middle.max(0) - middle.min(0)).max())
        x1, y1, x2, y2 = (float(v) for v in (*(middle.min(0) - margin), *(middle.max(0) + margin)))
        sure = np.exp(-moved / (0.05 * hand.roi.side))
        return Evidence(
            box=(max(x1, 0.0), max(y1, 0.0), min(x2, float(image.shape[1])), min(y2, float(image.shape[0]))),
            keypoints=tuple((float(x), float(y), float(c)) for (x, y), c in zip(middle, sure, strict=True)),
            features={
                "presence_lite": mean_logit([said.presence for said in seen["lite"]]),
                "presence_full": mean_logit([said.presence for said in seen["full"]]),
                "palm": mean_logit([self._palm_at(image, hand.roi, wider) for wider in PALM_VIEWS]),
                "handedness": mean_logit([max(right, 1 - right)]),
                "spread": log_share(moved, middle, hand.roi.side),
                "disagreement": log_share(apart, middle, hand.roi.side),
            },
            log_bones=np.median([log_bones(said.world) for said in seen["full"]], axis=0),
        )

    def _palm_at(self, image: Pixels, hand: Roi, wider: float) -> float:
        """The best palm score near the middle of an upright square."""
        square = Roi(hand.x, hand.y, hand.side * wider, 0.0)
        found = self._palm.detect(image, square, 0.01)
        centres = [(palm.score, (palm.box[:2] + palm.box[2:]) / 2) for palm in found]
        return max((s for s, (x, y) in centres if np.hypot(x - hand.x, y - hand.y) < 0.35 * hand.side), default=0.01)


def _squares(image: Pixels) -> list[Roi]:
    """The whole image, the whole with margins (for hands that fill it), and overlapping tiles of half its length."""
    height, width = image.shape[:2]
    whole = nets.whole(image)
    squares = [whole, whole.turned(scale=1.6), whole.turned(scale=2.4)]
    side = max(height, width) / 2
    if side >= 192:  # smaller tiles would only be enlarged
        squares += [Roi(x, y, side, 0.0) for y in _steps(height, side) for x in _steps(width, side)]
    return squares


def _steps(length: float, side: float) -> list[float]:
    """Centres of tiles of `side` that cover `length` and overlap by about half."""
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [float(c) for c in np.linspace(side / 2, length - side / 2, count)]


def _inside(roi: Roi, image: Pixels) -> bool:
    height, width = image.shape[:2]
    return 0 <= roi.x < width and 0 <= roi.y < height


def _wrist_squares(body: nets.BodyPoints) -> list[Roi]:
    """Where a body's hands should be: squares about wrist, index and little finger, turned along the hand."""
    squares = []
    for wrist, little, index in ((15, 17, 19), (16, 18, 20)):
        if body.visibility[wrist] < WRIST_VISIBLE:
            continue
        knuckles = (2 * body.points[index] + body.points[little]) / 3
        middle = (body.points[wrist] + knuckles * 2) / 3
        side = 4 * float(np.hypot(*(knuckles - body.points[wrist])))
        if side > 16:
            squares.append(Roi(float(middle[0]), float(middle[1]), side, nets.upright(body.points[wrist], knuckles)))
    return squares


def _head(body: nets.BodyPoints) -> tuple[float, float, float]:
    """A circle (x, y, radius) about a body's face, from nose, outer eyes, ears and mouth."""
    face = body.points[[0, 3, 6, 7, 8, 9, 10]]
    x, y = face.mean(0)
    return float(x), float(y), 1.3 * float(np.hypot(*(face - (x, y)).T).max())


def _distinct(hands: Sequence[Hand]) -> list[Hand]:
    """One of those that are the same hand: the likeliest, with any wrist of the others."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.hope):
        for index, other in enumerate(kept):
            if np.hypot(hand.roi.x - other.roi.x, hand.roi.y - other.roi.y) < 0.3 * max(hand.roi.side, other.roi.side):
                kept[index] = replace(other, wrist=other.wrist or hand.wrist)
                break
        else:
            kept.append(hand)
    return kept


@dataclass(frozen=True)
class Seen:
    """A hand, its evidence and how surely it is there."""

    hand: Hand
    evidence: Evidence
    belief: float


def look(found: HandNets, image: Pixels) -> list[Seen]:
    """Find and measure the hands of an image; only those that are believed to be hands, likeliest first."""
    seen = []
    for hand in found.find(image):
        evidence = found.measure(image, hand)
        presence = (evidence.features["presence_lite"] + evidence.features["presence_full"]) / 2
        seen.append(Seen(hand, evidence, hand.belief(presence)))
    seen.sort(key=lambda one: -one.belief)
    sure = [one for one in seen if one.belief >= BELIEVED]
    close = [one for one in seen if one.evidence.pixels >= CLOSE_UP * max(image.shape[:2])]
    return sure or close[:1]
