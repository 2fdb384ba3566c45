"""Find the hands of an image, and measure how sure the nets are of each from nine views of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hafbench.detectors import hand_nets as nets
from hafbench.detectors.hand_nets import Candidate, Floats, Roi

if TYPE_CHECKING:
    from hafbench.types import Box, Keypoint, Pixels

FILES = (
    "palm_detection_full.tflite",
    "hand_landmark_full.tflite",
    "hand_landmark_lite.tflite",
    "pose_detection.tflite",
    "pose_landmark_full.tflite",
)

PALM_THRESHOLD = 0.3
PERSON_THRESHOLD = 0.4
WRIST_VISIBILITY = 0.6

# (degrees, scale, mirrored): the nine views of a hand
VIEWS = (
    *((0.0, 1.0, False), (0.0, 1.0, True), (12.0, 1.0, False), (-12.0, 1.0, False), (12.0, 1.0, True)),
    *((-12.0, 1.0, True), (0.0, 0.9, False), (0.0, 1.12, False), (0.0, 1.12, True)),
)
# How much wider than the hand's square the palm detector looks, so that a palm has the size that it was trained on.
PALM_CONTEXT = (1.2, 1.6, 2.2)

# The 20 bones of a hand as pairs of its 21 points.
BONES = tuple((0 if k % 4 == 0 else k, k + 1) for k in range(20))


@dataclass(frozen=True)
class Hand:
    """A located hand: its square, the best palm score that found it, and whether a wrist of a body lies in it."""

    roi: Roi
    palm: float
    wrist: bool

    @property
    def pixels(self) -> float:
        """Length of the hand in pixels: its square is twice as long."""
        return self.roi.side / 2


@dataclass(frozen=True)
class HandEvidence:
    """What the nets say of a hand: median keypoints in image pixels (their confidence falls with their spread over
    the views), median presence, features, and relative log bone lengths (20,).
    """

    box: Box
    keypoints: tuple[Keypoint, ...]
    presence: float
    features: Mapping[str, float]
    bones: Floats


class HandFinder:
    """The five nets together. Not thread-safe: one for each scorer."""

    def __init__(self) -> None:
        from hafbench.weights import locate

        palm, full, lite, person, body = (nets.Net(locate(name)) for name in FILES)
        self._palm = nets.Detector(palm, 192, nets.PALM_STRIDES)
        self._person = nets.Detector(person, 224, nets.POSE_STRIDES)
        self._body = nets.BodyNet(body)
        self._hand = {"full": nets.HandNet(full), "lite": nets.HandNet(lite)}

    def find(self, image: Pixels) -> list[Hand]:
        """The hands of an RGB image: palms in the whole, in tiles and around the wrists of bodies; best first."""
        wrists = [wrist for body in self.bodies(image) for wrist in _wrist_squares(body)]
        palms = [palm for square in _squares(image) for palm in self._palm.detect(image, square, PALM_THRESHOLD)]
        for wrist in wrists:
            palms += self._palm.detect(image, Roi(wrist.x, wrist.y, 1.5 * wrist.side, 0.0), PALM_THRESHOLD)
        palms = nets.suppress([palm for palm in palms if _inside(palm, image)], 0.3)
        guesses = [(nets.roi_of_palm(palm), palm.score) for palm in palms] + [(wrist, 0.0) for wrist in wrists]
        hands = [self._refined(image, roi, score, wrists) for roi, score in guesses]
        return _distinct([hand for hand in hands if hand is not None])

    def bodies(self, image: Pixels) -> list[nets.BodyPoints]:
        """The bodies of an image that the pose nets are sure of."""
        people = self._person.detect(image, nets.whole(image), PERSON_THRESHOLD)
        bodies = [self._body(image, nets.roi_of_person(person)) for person in people]
        return [body for body in bodies if body.presence > 0.5]

    def _refined(self, image: Pixels, roi: Roi, palm: float, wrists: Sequence[Roi]) -> Hand | None:
        """The square that the hand's own points give, if the net sees a hand there or a palm was sure."""
        seen = self._hand["full"](image, roi)
        if seen.presence < 0.1 and palm < 0.8:
            return None
        if seen.presence >= 0.1:
            roi = nets.roi_of_hand(roi.to_image(seen.points))
        near = any(np.hypot(roi.x - wrist.x, roi.y - wrist.y) < 0.5 * max(roi.side, wrist.side) for wrist in wrists)
        return Hand(roi, palm, near)

    def measure(self, image: Pixels, hand: Hand) -> HandEvidence:
        """Nine views of a hand through both landmark nets, three through the palm detector."""
        views = [(hand.roi.turned(degrees, scale), flip) for degrees, scale, flip in VIEWS]
        seen = {name: [net(image, roi, flip) for roi, flip in views] for name, net in self._hand.items()}
        points = {
            name: np.stack(
                [roi.to_image(hand_points.points) for (roi, _), hand_points in zip(views, found, strict=True)]
            )
            for name, found in seen.items()
        }
        middle = np.median(points["full"], axis=0)
        palm_size = float(np.hypot(*(middle[nets.MIDDLE_MCP] - middle[nets.WRIST]))) + 0.05 * hand.roi.side
        spread = np.median(np.hypot(*np.moveaxis(points["full"] - middle, -1, 0)), axis=0) / palm_size
        apart = np.hypot(*(middle - np.median(points["lite"], axis=0)).T) / palm_size
        right = np.array([found.handedness for name in seen for found in seen[name]])
        low, high = middle.min(0), middle.max(0)
        return HandEvidence(
            box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
            keypoints=tuple(
                (float(x), float(y), float(np.exp(-4 * s))) for (x, y), s in zip(middle, spread, strict=True)
            ),
            presence=float(np.median([found.presence for found in seen["full"]])),
            features={
                "presence_full": _mean_logit([found.presence for found in seen["full"]]),
                "presence_lite": _mean_logit([found.presence for found in seen["lite"]]),
                "palm": _mean_logit([self._palm_score(image, hand.roi.turned(scale=wider)) for wider in PALM_CONTEXT]),
                "handedness": abs(float(right.mean()) - 0.5) * 2,
                "spread": float(np.log(spread.mean() + 0.01)),
                "disagreement": float(np.log(apart.mean() + 0.01)),
            },
            bones=relative_bones(np.median([found.world for found in seen["full"]], axis=0)),
        )

    def _palm_score(self, image: Pixels, square: Roi) -> float:
        """The best palm near the middle of a square."""
        found = self._palm.detect(image, Roi(square.x, square.y, square.side, 0.0), 0.01)
        near = [
            palm.score
            for palm in found
            if np.hypot(*((palm.box[:2] + palm.box[2:]) / 2 - (square.x, square.y))) < 0.35 * square.side
        ]
        return max(near, default=0.01)


def relative_bones(world: Floats) -> Floats:
    """Log lengths (20,) of a hand's bones about their own mean, so that its size drops out; `world` is (21, 3)."""
    logs = np.log([np.linalg.norm(world[b] - world[a]) + 1e-4 for a, b in BONES])
    return np.asarray(logs - logs.mean())


def _mean_logit(probabilities: Sequence[float]) -> float:
    clipped = np.clip(probabilities, 0.001, 0.999)
    return float(np.log(clipped / (1 - clipped)).mean())


def _squares(image: Pixels) -> list[Roi]:
    """The whole image, the whole with a margin (for hands that fill it), and overlapping tiles of half its length."""
    height, width = image.shape[:2]
    whole = nets.whole(image)
    squares = [whole, whole.turned(scale=1.6)]
    side = max(height, width) / 2
    if side >= 192:  # smaller tiles would only be enlarged
        for y in _steps(height, side):
            squares += [Roi(x, y, side, 0.0) for x in _steps(width, side)]
    return squares


def _steps(length: float, side: float) -> list[float]:
    """Centres of tiles of `side` that cover `length` and overlap by about half."""
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [float(c) for c in np.linspace(side / 2, length - side / 2, count)]


def _inside(palm: Candidate, image: Pixels) -> bool:
    height, width = image.shape[:2]
    x, y = (palm.box[:2] + palm.box[2:]) / 2
    return bool(0 <= x < width and 0 <= y < height)


def _wrist_squares(body: nets.BodyPoints) -> list[Roi]:
    """Where a body's hands should be: a square about wrist, index and little finger, turned along the hand."""
    squares = []
    for wrist, little, index in ((15, 17, 19), (16, 18, 20)):
        if body.visibility[wrist] < WRIST_VISIBILITY:
            continue
        knuckles = (2 * body.points[index] + body.points[little]) / 3
        side = 2 * 2.0 * float(np.hypot(*(knuckles - body.points[wrist])))
        middle = (body.points[wrist] + knuckles * 2) / 3
        if side > 16:
            squares.append(Roi(float(middle[0]), float(middle[1]), side, nets.upright(body.points[wrist], knuckles)))
    return squares


def _distinct(hands: Sequence[Hand]) -> list[Hand]:
    """One of those that are the same hand: the one with the best palm; wrists of any of them count."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.palm):
        for index, other in enumerate(kept):
            if np.hypot(hand.roi.x - other.roi.x, hand.roi.y - other.roi.y) < 0.3 * max(hand.roi.side, other.roi.side):
                kept[index] = Hand(other.roi, other.palm, other.wrist or hand.wrist)
                break
        else:
            kept.append(hand)
    return kept
