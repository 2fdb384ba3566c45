"""The detector of the built-in world: hands with their digits, people with their limbs, malformed ones by name.

One ultralytics pose model, trained on renders with other seeds and another error setting than anything that tunes a
model (recipes/mannequin/detectors.py). It knows nothing of photographs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

Floats = NDArray[np.float64]

CLASSES = (
    *("hand_countable", "hand_partial", "hand_turned", "hand_small", "person_full", "person_upper"),
    *("digit", "thumb", "digit_fused", "digit_forked", "digit_bent", "digit_long", "digit_short"),
    *("arm", "arm_detached", "arm_long", "arm_short", "leg", "leg_detached", "leg_long", "leg_short"),
)
"""hand_countable: every digit that it has is in view. hand_small: a figure's, too small for its digits to be seen."""

GROUPS = np.repeat(["hand", "person", "digit", "arm", "leg"], [4, 2, 7, 4, 4])
"""The group of each class: what is detected is one class of its group."""
POINTS: Mapping[str, int] = {"hand": 21, "person": 17, "digit": 4, "arm": 3, "leg": 3}
"""How many points each group has; the net gives 21 for all."""

SIDES = (224, 256)
"""Pictures are enlarged to each: the finest of the detector's three grids has a cell every 8 pixels of such a size."""
MIN_CONFIDENCE = 0.02
"""Of a class of a box, to be proposed at all."""
SAME = 0.5
"""Two boxes of a group with a larger intersection over union are of the same object."""
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 points in the order of a mirrored person, whose left is right."""


@dataclass(frozen=True)
class DetectedHand:
    """A hand (one row) and its digits, surest first."""

    hand: sv.Detections
    digits: sv.Detections


@dataclass(frozen=True)
class DetectedPerson:
    """A person (one row) with arms and legs, surest first."""

    person: sv.Detections
    arms: sv.Detections
    legs: sv.Detections


@dataclass(frozen=True)
class Detected:
    """All that is detected in a picture, each surest first."""

    hands: tuple[DetectedHand, ...]
    people: tuple[DetectedPerson, ...]


def detections(xyxy: Floats, chances: Floats, keypoints: Floats) -> sv.Detections:
    """Detections by their boxes (n, 4), the confidence of each of CLASSES (n, 21) and points (n, 21, 3).

    `confidence` is that something of the group is there, whichever class, in [0, 1]; `class_id` the likeliest class.
    `data` has its `class_name`, and `chances` and `keypoints` as given.
    """
    import supervision as sv

    likeliest = chances.argmax(1)
    data = {"class_name": np.array(CLASSES)[likeliest], "chances": chances, "keypoints": keypoints}
    return sv.Detections(xyxy=xyxy, confidence=np.minimum(1.0, chances.sum(1)), class_id=likeliest, data=data)


def chance(found: sv.Detections, name: str) -> Floats:
    """The confidence (n,) in a class."""
    return np.asarray(found.data["chances"][:, CLASSES.index(name)])


def share(found: sv.Detections, name: str) -> Floats:
    """How much of the confidence is for a class, in [0, 1] (n,)."""
    return np.asarray(chance(found, name) / found.data["chances"].sum(1))


def keypoints_of(found: sv.Detections) -> Floats:
    """The points (k, 3) of a single row: x, y, confidence."""
    return np.asarray(found.data["keypoints"][0, : POINTS[GROUPS[found.class_id[0]]]])


def proposals(result: Any) -> sv.Detections:
    """An ultralytics result, one row for each class of a box, with `data["keypoints"]` (n, 21, 3)."""
    import supervision as sv

    boxes = result.boxes.data.cpu().numpy().astype(np.float64)
    points = result.keypoints.data.cpu().numpy().astype(np.float64).reshape(-1, 21, 3)
    return sv.Detections(boxes[:, :4], None, boxes[:, 4], boxes[:, 5].astype(np.int64), data={"keypoints": points})


def mirror(found: sv.Detections, width: float) -> sv.Detections:
    """What was proposed in a mirrored image, as it lies in the image."""
    x1, y1, x2, y2 = found.xyxy.T
    points = found.data["keypoints"] * (-1, 1, 1) + (width, 0, 0)
    people = GROUPS[found.class_id] == "person"
    points[people, :17] = points[people][:, MIRRORED]
    return replace(found, xyxy=np.stack([width - x2, y1, width - x1, y2], 1), data={"keypoints": points})


def overlap(one: sv.Detections, other: sv.Detections) -> Floats:
    """Intersection over union (n, m) within a group; 0 between groups."""
    import supervision as sv

    same_group = GROUPS[one.class_id][:, None] == GROUPS[other.class_id]
    return np.asarray(sv.box_iou_batch(one.xyxy, other.xyxy) * same_group)


def merge(found: sv.Detections) -> sv.Detections:
    """One row for each set of a group's boxes that lie on each other, surest first (non-maximum suppression)."""
    import supervision as sv

    found = found[np.argsort(-found.confidence, kind="stable")]
    groups = np.unique(GROUPS, return_inverse=True)[1][found.class_id]
    kept = sv.box_non_max_suppression(np.column_stack([found.xyxy, found.confidence, groups]), SAME)
    same = overlap(found, found[kept]) > SAME
    same[kept] |= np.eye(kept.sum(), dtype=bool)  # a box without an area overlaps nothing, not even itself
    chances = np.zeros((kept.sum(), len(CLASSES)))
    if len(found):
        np.maximum.at(chances, (same.argmax(1), found.class_id), found.confidence)
    return _surest_first(detections(found.xyxy[kept], chances, found.data["keypoints"][kept]))


def average(views: Sequence[sv.Detections]) -> sv.Detections:
    """What is seen in several views of an image, surest first: the mean chances, 0 from a view without the object.

    Box and points are from the first view that has it.
    """
    known = detections(np.zeros((0, 4)), np.zeros((0, len(CLASSES))), np.zeros((0, 21, 3)))
    for view in views:
        chances = view.data["chances"] / len(views)
        same = overlap(view, known)
        new = np.ones(len(view), dtype=bool)
        for row in range(len(view)) if len(known) else ():
            best = same[row].argmax()
            if same[row, best] > SAME:
                known.data["chances"][best] += chances[row]
                same[:, best] = 0.0  # two objects in one view stay two
                new[row] = False
        known = detections(
            np.concatenate([known.xyxy, view.xyxy[new]]),
            np.concatenate([known.data["chances"], chances[new]]),
            np.concatenate([known.data["keypoints"], view.data["keypoints"][new]]),
        )
    return _surest_first(known)


def _surest_first(found: sv.Detections) -> sv.Detections:
    return found[np.argsort(-found.confidence, kind="stable")]


def _owners(parts: sv.Detections, owners: sv.Detections) -> NDArray[np.int64]:
    """Which hand or person each digit or limb lies in most, or the surest of those (n,)."""
    import supervision as sv

    shares = sv.box_iou_batch(parts.xyxy, owners.xyxy, sv.OverlapMetric.IOS)
    return np.asarray(shares.round(2).argmax(1))


def assign_parts(found: sv.Detections, min_confidence: float = 0.3) -> Detected:
    """Digits to their hands and limbs to their people, surest first; fainter hands and people are dropped."""
    hands, people, digits, arms, legs = (found[GROUPS[found.class_id] == group] for group in POINTS)
    hands, people = (owners[owners.confidence >= min_confidence] for owners in (hands, people))
    return Detected(
        tuple(DetectedHand(hands[i], digits[_owners(digits, hands) == i]) for i in range(len(hands))),
        tuple(
            DetectedPerson(people[i], arms[_owners(arms, people) == i], legs[_owners(legs, people) == i])
            for i in range(len(people))
        ),
    )


class MannequinDetector:
    """Detects the hands and people of the built-in world; from any thread, one at a time.

    It averages what it sees in the image at each size of `sides`, in pixels, and with `mirrored` in its mirror image.
    """

    name = "mannequin"

    def __init__(
        self, path: Path, device: str = "auto", *, sides: Sequence[int] = SIDES, mirrored: bool = True
    ) -> None:
        from hafbench.detectors.ultralytics import every_class, load_yolo
        from hafbench.images import sha256_of

        self._model = load_yolo(path)
        self.weights: Mapping[str, str] = {path.name: sha256_of(path)}
        self._sides, self._mirrored = tuple(sides), mirrored
        self._last: tuple[tuple[tuple[int, ...], bytes], Detected] | None = None
        # A model of ultralytics keeps the size of its pictures and its last results in itself.
        self._lock = threading.Lock()
        # Its own suppression only drops the very same box of a class; `merge` does the rest.
        self._options: dict[str, Any] = {"conf": MIN_CONFIDENCE, "iou": 0.8, "verbose": False}
        self._options |= {"device": None if device == "auto" else device, "predictor": every_class()}

    def detect(self, image: Pixels) -> Detected:
        """Hands and people in an RGB image of shape (height, width, 3); boxes and points in its pixels."""
        # Two scorers ask about the same image, one after the other.
        pixels = image.shape, image.tobytes()
        with self._lock:
            if self._last is None or self._last[0] != pixels:
                self._last = (pixels, self._detect(image))
            return self._last[1]

    def _detect(self, image: Pixels) -> Detected:
        # What the net sees in the mirrored image, or in another size, errs elsewhere; the mean is nearer to the truth.
        shown = (image, image[:, ::-1]) if self._mirrored else (image,)
        flipped = [np.ascontiguousarray(view[..., ::-1]) for view in shown]
        views = []
        for side in self._sides:
            plain, *mirrored = map(proposals, self._model.predict(flipped, imgsz=side, **self._options))
            views += [merge(plain), *(merge(mirror(one, float(image.shape[1]))) for one in mirrored)]
        return assign_parts(average(views))


def load_mannequin_detector(device: str = "auto", path: Path | None = None) -> MannequinDetector:
    """The detector that comes with hafbench, or the one in a file of its format; loaded once by all that ask for it.

    Raises Unavailable if this installation lacks it, HafError for a file that is no such detector.
    """
    from hafbench.worlds import built_in

    weights = path or built_in("detector.pt")
    return _loaded(weights, weights.stat().st_mtime_ns if weights.exists() else 0, device)


@lru_cache(maxsize=2)
def _loaded(path: Path, _written: int, device: str) -> MannequinDetector:
    return MannequinDetector(path, device)
