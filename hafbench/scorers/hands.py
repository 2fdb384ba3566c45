"""The `hands` scorer: how much the hand nets doubt the hands of an image. A detectability anomaly, no finger count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench import registry
from hafbench.detectors import hand_nets as nets
from hafbench.detectors.hand_nets import Roi
from hafbench.scorers.card import SHIPPED, Card, Evidence, evidence_of, load_card, mean_logit
from hafbench.types import Finding, Role, Score

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
BELIEVED, CLOSE_UP_BELIEVED, WORTH_A_LOOK = 1.5, -1.5, -2.0
# Further hands count by a logistic curve of their belief.
HALF_BELIEVED, HALF_SLOPE = 3.0, 1.5
CLOSE_UP = 0.25
"""A hand that is this share of the image's longer side is likely what the picture is of: less belief suffices."""
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


class HandNets:
    """The five nets together: find the hands of an image, measure a hand. Not thread-safe: one for each scorer."""

    def __init__(self) -> None:
        from hafbench.weights import locate

        self.files = {name: locate(name) for name in FILES}
        palm, full, lite, person, body = (nets.Net(path) for path in self.files.values())
        self._palm = nets.Detector(palm, 192, nets.PALM_STRIDES)
        self._person = nets.Detector(person, 224, nets.POSE_STRIDES)
        self._body = nets.BodyNet(body)
        self._full, self._lite = nets.HandNet(full), nets.HandNet(lite)

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
        whole = [(nets.whole(image).turned(turn, 1.3), 0.0) for turn in (0, 90, 180, 270)]
        for some in (guesses, whole):
            hands = [self._hand_at(image, roi, palm, wrists, heads) for roi, palm in some]
            worth = [hand for hand in hands if _inside(hand.roi, image) and hand.hope > WORTH_A_LOOK]
            if worth:
                return _distinct(worth)[:MOST_HANDS]
        return []

    def _bodies(self, image: Pixels) -> list[nets.BodyPoints]:
        people = self._person.detect(image, nets.whole(image), PERSON)
        bodies = [self._body(image, nets.roi_of_person(person)) for person in people]
        return [body for body in bodies if body.presence > 0.5]

    def _hand_at(
        self,
        image: Pixels,
        roi: Roi,
        palm: float,
        wrists: Sequence[Roi],
        heads: Sequence[tuple[float, float, float]],
    ) -> Hand:
        seen = self._full(image, roi)
        if seen.presence >= 0.1:  # the hand's own points give a better square than the palm or the wrist
            roi = nets.roi_of_hand(seen.points)
        presence = max(self._full(image, roi).presence, self._lite(image, roi).presence)
        wrist = any(np.hypot(roi.x - w.x, roi.y - w.y) < 0.5 * max(roi.side, w.side) for w in wrists)
        head = any(np.hypot(roi.x - x, roi.y - y) < radius for x, y, radius in heads)
        return Hand(roi, palm, presence, wrist, head)

    def measure(self, image: Pixels, hand: Hand) -> Evidence:
        """Ten views of a hand through both landmark nets, three through the palm detector."""
        views = [(hand.roi.turned(degrees, scale), flip) for degrees, scale in VIEWS for flip in (False, True)]
        full, lite = ([net(image, roi, flip) for roi, flip in views] for net in (self._full, self._lite))
        palms = [self._palm_at(image, hand.roi, wider) for wider in PALM_VIEWS]
        return evidence_of(full, lite, palms, hand.roi.side)

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
    return bool(0 <= roi.x < width and 0 <= roi.y < height)


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
    """A hand, its evidence, how surely it is there, and with which share in [0, 1] it counts."""

    hand: Hand
    evidence: Evidence
    belief: float
    share: float = 0.0


def look(found: HandNets, image: Pixels) -> list[Seen]:
    """Find and measure what may be hands, likeliest first; nothing if not even the likeliest is believed.

    The likeliest counts in full. The others count by their belief, gradually, so that one that comes and goes with
    a little noise does not decide the image.
    """
    seen = []
    for hand in found.find(image):
        evidence = found.measure(image, hand)
        seen.append(Seen(hand, evidence, hand.belief(evidence.presence)))
    seen.sort(key=lambda one: -one.belief)
    large = CLOSE_UP * max(image.shape[:2])
    first = next(
        (one for one in seen if one.belief >= (CLOSE_UP_BELIEVED if one.evidence.pixels >= large else BELIEVED)), None
    )
    if first is None:
        return []
    others = [replace(one, share=_share(one.belief)) for one in seen if one is not first]
    return [replace(first, share=1.0), *others]


def _share(belief: float) -> float:
    return float(1 / (1 + np.exp(-HALF_SLOPE * (belief - HALF_BELIEVED))))


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
        from hafbench.weights import WEIGHTS

        self._nets, self._card = HandNets(), card
        self.version = f"2-card-{card.version}"
        self.settings: Mapping[str, Any] = {
            "card": {"version": card.version, "threshold": card.threshold, "fitted_on": card.fitted_on},
            "smallest": SMALLEST,
            "views": 2 * len(VIEWS),
            "weights": {name: WEIGHTS[name].sha256 for name in FILES},
        }

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """Score an RGB image (height, width, 3); unknown where no hand is found, or all are too small."""
        seen = look(self._nets, image)
        hands = [one for one in seen if one.share >= 0.5]
        large = [one for one in seen if one.evidence.pixels >= SMALLEST]
        judged = [one for one in hands if one.evidence.pixels >= SMALLEST]
        counts = {"hands": float(len(hands)), "hands_judged": float(len(judged))}
        if not hands:
            return Score("unknown", reason="No hand was found.", measures=counts)
        if not judged:
            pixels = max(one.evidence.pixels for one in hands)
            reason = f"The largest hand is {pixels:.0f} pixels long; below {SMALLEST} a hand cannot be judged."
            return Score("unknown", reason=reason, measures={**counts, "pixels": pixels})
        longest = max(one.evidence.pixels for one in judged)
        chances = [
            one.share
            * size_share(one.evidence.pixels, longest)
            * self._card.probability(one.evidence.features_for(self._card))
            for one in large
        ]
        value = max(chances)
        worst = large[chances.index(value)]
        measures = {**counts, **worst.evidence.features_for(self._card), **quality(image, worst)}
        findings = [_finding(image, one, p) for one, p in zip(large, chances, strict=True) if p >= self._card.threshold]
        findings.sort(key=lambda finding: -finding.score)
        return Score("scored", value, value >= self._card.threshold, findings=tuple(findings), measures=measures)


def size_share(pixels: float, longest: float) -> float:
    """With which share in [0, 1] a hand counts beside a longer one: none at SMALLEST, in full a quarter above it.

    So a small hand that crosses the limit with a little noise does not decide an image that shows a larger one.
    """
    return 1.0 if pixels >= longest else min(1.0, (pixels - SMALLEST) / (SMALLEST / 4))


def quality(image: Pixels, seen: Seen) -> dict[str, float]:
    """What the card must not look at: the hand's size, and the log variance of its Laplacian at a fixed size."""
    import cv2

    grey = cv2.cvtColor(seen.hand.roi.turned(scale=0.6).crop(image, 112), cv2.COLOR_RGB2GRAY)
    sharpness = float(np.log(cv2.Laplacian(grey, cv2.CV_32F).var() + 1e-6))
    return {"pixels": seen.evidence.pixels, "sharpness": sharpness, "belief": seen.belief}


def _finding(image: Pixels, seen: Seen, chance: float) -> Finding:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = seen.evidence.box
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    return Finding("hands", "configuration", "detectability", chance, box, seen.evidence.keypoints)


class Options(registry.Options):
    """`card` is a logistic card of one's own; None is the one that comes with hafbench."""

    card: Path | None = None


def load(options: Options, device: str) -> HandsScorer:
    """Build the scorer; raises Unavailable for weights that are not here, HafError for a bad card."""
    return HandsScorer(load_card(options.card or SHIPPED))
