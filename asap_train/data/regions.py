"""Where errors can be put in a photo: its hands, feet, faces, limbs and torsos, each with a mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from asap_train.types import Part
from hafbench.scorers.hands import SMALLEST as SMALLEST_HAND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.types import Mask, Points
    from hafbench.registry import Home
    from hafbench.types import Box, Pixels, Region, Score, Scorer

SMALLEST: Mapping[str, int] = {"hands": SMALLEST_HAND, "feet": 48, "face": 56, "limbs": 80, "torso": 80}
"""Parts whose box has a longer side below this many pixels are left out: errors in them would hardly be seen."""
MIN_HAND_CONFIDENCE = 0.5
SAME = 0.1
"""A given mask is of the found part that it overlaps most, if by more than this (intersection over union)."""

_SIDES = ("left", "right")
_33: Mapping[str, int] = {
    **dict(zip(("nose", "left_eye", "right_eye", "left_mouth", "right_mouth"), (0, 2, 5, 9, 10), strict=True)),
    **{
        f"{side}_{joint}": first + number
        for joint, first in (("shoulder", 11), ("elbow", 13), ("wrist", 15), ("hip", 23), ("knee", 25), ("ankle", 27))
        for number, side in enumerate(_SIDES)
    },
    **{f"{side}_{at}": n + i for at, n in (("heel", 29), ("toe", 31)) for i, side in enumerate(_SIDES)},
}
"""The points of MediaPipe's 33-point body that parts are made of."""


@dataclass(frozen=True)
class Shape:
    """How the mask of a part of a body is drawn about its points.

    `hull`: their convex hull; `chain`: bones from each to the next; `oval`: a circle that holds them. `margin` is added
    all around, as a share of the points' extent.
    """

    region: Region
    points: tuple[str, ...]
    form: Literal["hull", "chain", "oval"]
    margin: float
    sure: float = 0.6
    """The least confidence of each point. The body net is too sure of feet that it has not found."""


PARTS: Mapping[str, Shape] = {
    "face": Shape("face", ("nose", "left_eye", "right_eye", "left_mouth", "right_mouth"), "oval", 1.0),
    "torso": Shape("torso", ("left_shoulder", "right_shoulder", "right_hip", "left_hip"), "hull", 0.06),
    **{f"{s}_arm": Shape("limbs", (f"{s}_shoulder", f"{s}_elbow", f"{s}_wrist"), "chain", 0.09) for s in _SIDES},
    **{f"{s}_leg": Shape("limbs", (f"{s}_hip", f"{s}_knee", f"{s}_ankle"), "chain", 0.1) for s in _SIDES},
    **{f"{s}_foot": Shape("feet", (f"{s}_ankle", f"{s}_heel", f"{s}_toe"), "hull", 0.25, 0.8) for s in _SIDES},
}


@dataclass(frozen=True)
class Found:
    """The parts of a photo, largest first, and why what else was looked for is not among them."""

    parts: tuple[Part, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Finder:
    """Finds parts by hafbench's detectors of photographs, or of the built-in world.

    It holds names only, so that it can be sent to a worker process; each process loads the models when it first needs
    them. `segmenter` and `text_boxes` are folders or hub ids of SAM 2 and Grounding DINO, both optional.
    """

    home: Home = "photographs"
    segmenter: str | None = None
    text_boxes: str | None = None

    @property
    def weights(self) -> Mapping[str, str]:
        """The SHA-256 of every file that finds parts, by its name; loads what is not loaded yet."""
        found = dict(_detectors(self.home).weights)
        for model in (self.segmenter and _segmenter(self.segmenter), self.text_boxes and _text_boxes(self.text_boxes)):
            found |= model.weights if model else {}
        return found

    def find(self, pixels: Pixels, mask: Mask | None = None, region: Region | None = None) -> Found:
        """The parts of an RGB photo (height, width, 3).

        A `mask` given by the user wins: it is then the only part. Its region is `region`, else that of the found part
        that it overlaps most, whose keypoints it takes over, else hands. Raises Unavailable where weights are missing.
        """
        parts, left_out = _detectors(self.home).find(pixels)
        if self.text_boxes:
            parts += _boxed(parts, _text_boxes(self.text_boxes).find(pixels), pixels.shape)
        if mask is not None:
            parts, left_out = [_given(mask, parts, region)], []
        elif self.segmenter:
            parts = [_segmenter(self.segmenter).refine(pixels, part) for part in parts]
        large = [part for part in parts if _length(part) >= SMALLEST[part.region]]
        small = [part for part in parts if _length(part) < SMALLEST[part.region]]
        left_out += [f"{part.name}: smaller than {SMALLEST[part.region]} pixels." for part in small]
        return Found(tuple(sorted(large, key=lambda part: -int(part.mask.sum()))), tuple(left_out))


def doubts(pixels: Pixels, scorers: Mapping[str, Scorer], scores: dict[str, Score]) -> str | None:
    """Why a photo is no example of sound anatomy: what the first anatomy scorer that sees an error says, or None.

    What they say is put into `scores`, by their names: `Gates.apply` asks for it again.
    """
    for name, scorer in scorers.items():
        if scorer.role != "anatomy":
            continue
        score = scores[name] = scorer.score(pixels, None)
        if score.is_error:
            details = sorted({finding.detail for finding in score.findings})
            return f"The scorer {scorer.name} sees an error in the photo itself ({', '.join(details) or 'no detail'})."
    return None


class _Photographs:
    """People by MediaPipe's 33-point body, hands by its hand nets."""

    def __init__(self) -> None:
        from hafbench.detectors.bodies import PoseNets
        from hafbench.detectors.hands import HandDetector

        self._hands, self._bodies = HandDetector(), PoseNets()
        self.weights = dict(self._hands.weights)

    def find(self, image: Pixels) -> tuple[list[Part], list[str]]:
        from hafbench.detectors import points_of

        tables = points_of(self._bodies.detect_again(image))
        bodies = [{name: table[index] for name, index in _33.items()} for table in tables]
        hands = self._hands.detect(image)
        return _parts(bodies, [*points_of(hands[hands.detection_confidence >= MIN_HAND_CONFIDENCE])], image.shape)


class _Mannequins:
    """People and hands of the built-in world by its own detector."""

    def __init__(self) -> None:
        from hafbench.detectors.mannequin import load_mannequin_detector

        self._detector = load_mannequin_detector()
        self.weights = dict(self._detector.weights)

    def find(self, image: Pixels) -> tuple[list[Part], list[str]]:
        from hafbench.detectors import COCO_POINTS
        from hafbench.detectors.mannequin import keypoints_of

        found = self._detector.detect(image)
        bodies = [dict(zip(COCO_POINTS, keypoints_of(one.person), strict=True)) for one in found.people]
        hands = [keypoints_of(one.hand) for one in found.hands if one.hand.data["class_name"][0] != "hand_small"]
        return _parts(bodies, hands, image.shape)


@lru_cache(maxsize=2)
def _detectors(home: Home) -> Any:
    return _Mannequins() if home == "mannequins" else _Photographs()


@lru_cache(maxsize=1)
def _segmenter(source: str) -> Any:
    from asap_train.data.segment import Segmenter

    return Segmenter(source)


@lru_cache(maxsize=1)
def _text_boxes(source: str) -> Any:
    from asap_train.data.segment import TextBoxes

    return TextBoxes(source)


def _parts(
    bodies: list[dict[str, NDArray[Any]]], hands: list[Points], shape: tuple[int, ...]
) -> tuple[list[Part], list[str]]:
    """Parts of bodies (points by name) and of hands (21 points each), and what was not in view."""
    parts = [_hand(points, bodies, shape) for points in hands]
    left_out = [] if bodies else ["person: none was found."]
    left_out += [] if hands else ["hand: none was found."]
    for number, body in enumerate(bodies, 1):
        for name, form in PARTS.items():
            if not all(point in body for point in form.points):
                continue  # this detector knows no such points
            points = np.array([body[point] for point in form.points])
            if _in_view(points, form.sure, shape):
                parts.append(Part(form.region, _numbered(name, number), _drawn(points, form, shape), points))
            else:
                left_out.append(f"{_numbered(name, number)}: not wholly in view.")
    return parts, left_out


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def _in_view(points: Points, sure: float, shape: tuple[int, ...]) -> bool:
    height, width = shape[:2]
    inside = (points[:, :2] >= 0).all() and (points[:, :2] < (width, height)).all()
    return bool(inside and (points[:, 2] >= sure).all())


def _hand(points: Points, bodies: list[dict[str, NDArray[Any]]], shape: tuple[int, ...]) -> Part:
    """A hand, named by the wrist of a body that it is nearest to, if there is one as near as the hand is long."""
    reach = float(np.hypot(*(points[9, :2] - points[0, :2])))
    wrists = [
        (float(np.hypot(*(body[f"{side}_wrist"][:2] - points[0, :2]))), _numbered(f"{side}_hand", number))
        for number, body in enumerate(bodies, 1)
        for side in _SIDES
    ]
    nearest = min(wrists, default=(np.inf, ""))
    mask = _drawn(points, Shape("hands", (), "hull", 0.12), shape)
    return Part("hands", nearest[1] if nearest[0] < reach else "hand", mask, points)


def _drawn(points: Points, shape: Shape, size: tuple[int, ...]) -> Mask:
    """The mask (height, width) of a part about its points."""
    canvas = np.zeros(size[:2], np.uint8)
    flat = points[:, :2].astype(np.float32)
    if shape.form == "oval":
        (x, y), (length, height), turn = cv2.minAreaRect(flat)
        side = (1 + shape.margin) * max(length, height)
        cv2.ellipse(canvas, ((x, y), (1.2 * side, 1.2 * side), turn), 1, -1)
        return canvas > 0
    around = max(1, round(2 * shape.margin * float(np.hypot(*np.diff(flat, axis=0).T).sum())))
    if shape.form == "hull":
        flat = cv2.convexHull(flat).reshape(-1, 2)
        around = max(1, round(2 * shape.margin * float(np.ptp(flat, axis=0).max())))
        cv2.fillConvexPoly(canvas, flat.round().astype(np.int32), 1)
    cv2.polylines(canvas, [flat.round().astype(np.int32)], shape.form == "hull", 1, around)
    return canvas > 0


def _length(part: Part) -> int:
    """The longer side of a part's box in pixels: of a hand's keypoints, as hafbench has it, else of the mask."""
    if part.points is not None and part.region == "hands" and part.origin != "given":
        return round(1.2 * float(np.ptp(part.points[:, :2], axis=0).max()))
    y, x = np.nonzero(part.mask)
    return int(max(np.ptp(x), np.ptp(y)) + 1) if len(x) else 0


def _boxed(parts: list[Part], boxes: list[tuple[Region, Box]], shape: tuple[int, ...]) -> list[Part]:
    """Parts from boxes, where no part of that region lies: the ellipse in the box is the mask."""
    return [
        part
        for part in _ellipses(boxes, shape)
        if not any(_overlap(part.mask, other.mask) for other in parts if other.region == part.region)
    ]


def _ellipses(boxes: list[tuple[Region, Box]], shape: tuple[int, ...]) -> Iterator[Part]:
    for number, (region, (x1, y1, x2, y2)) in enumerate(boxes, 1):
        canvas = np.zeros(shape[:2], np.uint8)
        cv2.ellipse(canvas, (((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1), 0.0), 1, -1)
        yield Part(region, f"{region}_box_{number}", canvas > 0, origin="segmentation")


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _given(mask: Mask, parts: list[Part], region: Region | None) -> Part:
    """The user's mask as a part."""
    likely = [part for part in parts if region in (None, part.region)]
    best = max(likely, key=lambda part: _overlap(part.mask, mask), default=None)
    if best is not None and _overlap(best.mask, mask) > SAME:
        return replace(best, mask=mask, origin="given")
    return Part(region or "hands", "given", mask, origin="given")
