"""Hands by MediaPipe's palm, hand and pose nets: where they may be, and what the nets see in several views of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hafbench.detectors import bodies, nets
from hafbench.detectors.critic import Critic, Look
from hafbench.detectors.hand_views import mean_logit, summarize
from hafbench.detectors.nets import Floats, Roi
from hafbench.weights import WEIGHTS, locate

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

HAND_FILES = ("palm_detection_full.tflite", "hand_landmark_full.tflite", "hand_landmark_lite.tflite")
FILES = (*HAND_FILES, *bodies.FILES)

MIN_PALM, MIN_PERSON, MIN_WRIST_VISIBILITY = 0.3, 0.4, 0.6
# Logits that a body's wrist near the hand adds to that of its existence, and that a body's head there takes away.
WRIST_LOGIT, HEAD_LOGIT = 1.5, -2.0
MIN_LOGIT = -2.0
"""Candidates that cannot reach this existence logit are not shown to the critic, which says what is a hand."""
MAX_HANDS = 24

# (degrees, scale): the views of a hand; each is also seen mirrored, so that a mirrored image scores the same.
VIEWS = ((0.0, 1.0), (12.0, 1.0), (-12.0, 1.0), (0.0, 0.9), (0.0, 1.12))
# How much wider than the hand's square the palm detector looks, so that a palm has the size it was trained on.
PALM_VIEWS = (1.2, 1.6, 2.2)


@dataclass(frozen=True)
class Candidate:
    """A place that may be a hand: its square, the palm score that led there, the best presence in one view,
    and whether a body's wrist, or head, is there."""

    roi: Roi
    palm: float
    presence: float
    wrist: bool
    head: bool

    def existence_logit(self, presence_logit: float) -> float:
        """How surely there is a hand at all, well-formed or not: the logits of the independent locators, added."""
        return mean_logit([self.palm]) + presence_logit + WRIST_LOGIT * self.wrist + HEAD_LOGIT * self.head

    @property
    def max_existence_logit(self) -> float:
        """What the existence logit can reach, from one view."""
        return self.existence_logit(mean_logit([self.presence]))


@dataclass(frozen=True)
class SeenHand:
    """A candidate that the critic takes for a hand, and what it sees there."""

    candidate: Candidate
    look: Look

    @property
    def length(self) -> float:
        """The longer side of the hand's box in pixels (see `hand_views.hand_boxes`), by that of its square."""
        return 0.6 * self.candidate.roi.side


class HandDetector:
    """The five nets and the critic together. Not thread-safe: one for each scorer."""

    def __init__(self) -> None:
        palm, full, lite = (nets.Net(locate(name)) for name in HAND_FILES)
        self._palm = nets.Detector(palm, 192, nets.PALM_STRIDES)
        self._full, self._lite = nets.HandNet(full), nets.HandNet(lite)
        self._bodies = bodies.PoseNets()
        self.critic = Critic("hands")
        self.weights: Mapping[str, str] = {
            **{name: WEIGHTS[name].sha256 for name in FILES},
            **self.critic.weights,
        }

    def see(self, image: Pixels) -> list[SeenHand]:
        """The hands of an RGB image that the critic takes for hands, likeliest first."""
        candidates = self.find(image)
        looks = self.critic.look(image, [candidate.roi for candidate in candidates])
        least = self.critic.trained.present_threshold
        seen = [SeenHand(one, look) for one, look in zip(candidates, looks, strict=True) if look.present >= least]
        return sorted(seen, key=lambda hand: -hand.look.present)

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """The hands of `see`, measured in several views by the landmark nets.

        xy (n, 21, 2) with `keypoint_confidence`; `detection_confidence` is the critic's probability that it is a hand.
        `data` holds the columns of `hand_views.summarize`.
        """
        import supervision as sv

        seen = self.see(image)
        if not seen:
            return _no_hands()
        hands = sv.KeyPoints.merge([self.measure(image, hand.candidate.roi) for hand in seen])
        hands.detection_confidence = np.array([hand.look.present for hand in seen])
        return hands

    def find(self, image: Pixels) -> list[Candidate]:
        """What may be hands, likeliest first: palms in the whole, in tiles and at the wrists of bodies.

        Where none of these finds anything, the whole image is tried as a hand, four ways up.
        """
        import supervision as sv

        people = self._bodies.detect(image, MIN_PERSON)
        wrists = [
            square
            for points, visibility in zip(people.xy, people.keypoint_confidence, strict=True)
            for square in _wrist_squares(points, visibility)
        ]
        heads = [_head(points) for points in people.xy]
        squares = [*_squares(image), *(Roi(w.x, w.y, 1.5 * w.side, 0.0) for w in wrists)]
        palms = sv.Detections.merge([self._palm.detect(image, square, MIN_PALM) for square in squares])
        guesses = [
            (nets.roi_of_palm(box, data["keypoints"]), float(score))
            for box, _, score, _, _, data in nets.weighted_nms(palms, 0.3)
        ]
        guesses += [(wrist, 0.0) for wrist in wrists]
        whole = [(nets.whole(image).turned(turn, 1.3), 0.0) for turn in (0, 90, 180, 270)]
        for some in (guesses, whole):
            candidates = [self._candidate(image, roi, palm, wrists, heads) for roi, palm in some]
            kept = [one for one in candidates if _inside(one.roi, image) and one.max_existence_logit > MIN_LOGIT]
            if kept:
                return _distinct(kept)[:MAX_HANDS]
        return []

    def _candidate(
        self,
        image: Pixels,
        roi: Roi,
        palm: float,
        wrists: Sequence[Roi],
        heads: Sequence[tuple[float, float, float]],
    ) -> Candidate:
        seen = self._full(image, [(roi, False)])
        if seen.detection_confidence[0] >= 0.1:  # the hand's own points give a better square than the palm or the wrist
            roi = nets.roi_of_hand(seen.xy[0])
        presence = max(float(net(image, [(roi, False)]).detection_confidence[0]) for net in (self._full, self._lite))
        wrist = any(np.hypot(roi.x - w.x, roi.y - w.y) < 0.5 * max(roi.side, w.side) for w in wrists)
        head = any(np.hypot(roi.x - x, roi.y - y) < radius for x, y, radius in heads)
        return Candidate(roi, palm, presence, wrist, head)

    def measure(self, image: Pixels, roi: Roi) -> sv.KeyPoints:
        """Ten views of a hand through both landmark nets, three through the palm detector."""
        views = [(roi.turned(degrees, scale), flip) for degrees, scale in VIEWS for flip in (False, True)]
        palms = [self._palm_at(image, roi, wider) for wider in PALM_VIEWS]
        return summarize(self._full(image, views), self._lite(image, views), palms, roi)

    def _palm_at(self, image: Pixels, hand: Roi, wider: float) -> float:
        """The best palm score near the middle of an upright square."""
        found = self._palm.detect(image, Roi(hand.x, hand.y, hand.side * wider, 0.0), 0.01)
        x, y = ((found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2).T
        near = np.hypot(x - hand.x, y - hand.y) < 0.35 * hand.side
        return float(found.confidence[near].max(initial=0.01))


def _no_hands() -> sv.KeyPoints:
    import supervision as sv

    return sv.KeyPoints(
        xy=np.zeros((0, 21, 2)), keypoint_confidence=np.zeros((0, 21)), detection_confidence=np.zeros(0)
    )


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
    return bool(0 <= roi.x < width and 0 <= roi.y < height)


def _wrist_squares(points: Floats, visibility: Floats) -> list[Roi]:
    """Where a body's hands should be: squares about wrist, index and little finger, turned along the hand."""
    squares = []
    for wrist, little, index in ((15, 17, 19), (16, 18, 20)):
        if visibility[wrist] < MIN_WRIST_VISIBILITY:
            continue
        knuckles = (2 * points[index] + points[little]) / 3
        middle = (points[wrist] + knuckles * 2) / 3
        side = 4 * float(np.hypot(*(knuckles - points[wrist])))
        if side > 16:
            squares.append(Roi(float(middle[0]), float(middle[1]), side, nets.upright(points[wrist], knuckles)))
    return squares


def _head(points: Floats) -> tuple[float, float, float]:
    """A circle (x, y, radius) about a body's face, from nose, outer eyes, ears and mouth."""
    face = points[[0, 3, 6, 7, 8, 9, 10]]
    x, y = face.mean(0)
    return float(x), float(y), 1.3 * float(np.hypot(*(face - (x, y)).T).max())


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """One of those that are the same hand: the likeliest, with any wrist of the others."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda candidate: -candidate.max_existence_logit):
        for index, other in enumerate(kept):
            if np.hypot(one.roi.x - other.roi.x, one.roi.y - other.roi.y) < 0.3 * max(one.roi.side, other.roi.side):
                kept[index] = replace(other, wrist=other.wrist or one.wrist)
                break
        else:
            kept.append(one)
    return kept
