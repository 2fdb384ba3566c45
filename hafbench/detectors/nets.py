"""MediaPipe's palm, hand and pose nets, run bare: the Tasks API hides the confidences that carry our information.

The nets come as TensorFlow Lite files (`weights.py`) and run in LiteRT on one thread, so that a score is repeatable.
Anchors, box decoding and regions follow MediaPipe's published graphs (palm_detection, hand_landmark, pose_detection,
pose_landmark; Bazarevsky & Zhang 2019; Zhang et al., arXiv 2006.10214; Bazarevsky et al., arXiv 2006.10204).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hafbench.processes import stderr_closed

if TYPE_CHECKING:
    import supervision as sv
    from ai_edge_litert.interpreter import Interpreter

    from hafbench.types import Pixels

Floats = NDArray[np.float64]

PALM_STRIDES = (8, 16, 16, 16)
POSE_STRIDES = (8, 16, 32, 32, 32)

WRIST, MIDDLE_MCP = 0, 9
PALM_WRIST, PALM_MIDDLE_MCP = 0, 2


@dataclass(frozen=True)
class Roi:
    """A rotated square of an image: centre and side in pixels, rotation in radians, clockwise on the screen."""

    x: float
    y: float
    side: float
    rotation: float

    def to_image(self, points: Floats) -> Floats:
        """Points of the unit square (..., 2) in pixels of the image."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        x, y = np.moveaxis((points - 0.5) * self.side, -1, 0)
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], -1)

    def crop(self, image: Pixels, size: int, border: int = cv2.BORDER_REPLICATE) -> NDArray[np.float32]:
        """The square as (size, size, 3) float32 in [0, 1]; what lies outside the image repeats its border."""
        corners = self.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).astype(np.float32)
        target = np.array([[0, 0], [size, 0], [0, size]], dtype=np.float32)
        shrink = self.side / size
        if shrink > 2:  # a bilinear warp that shrinks more than twice would skip pixels
            size_now = [max(1, round(n * 2 / shrink)) for n in image.shape[1::-1]]
            image = cv2.resize(image, size_now, interpolation=cv2.INTER_AREA)
            corners *= 2 / shrink
        warp = cv2.getAffineTransform(corners - 0.5, target - 0.5)
        crop = cv2.warpAffine(image, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(crop, dtype=np.float32) / np.float32(255)

    def turned(self, degrees: float = 0.0, scale: float = 1.0) -> Roi:
        """The same centre, turned and scaled."""
        return Roi(self.x, self.y, self.side * scale, self.rotation + math.radians(degrees))


def interpreter_of(model: bytes) -> Interpreter:
    """A TensorFlow Lite net, ready to run on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    with stderr_closed():  # LiteRT announces its delegate and unaligned tensors there
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


class Net:
    """A TensorFlow Lite file, run on one thread."""

    def __init__(self, path: Path) -> None:
        self._interpreter = interpreter_of(path.read_bytes())
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = self._interpreter.get_output_details()
        self._outputs = [item["index"] for item in sorted(outputs, key=lambda item: item["name"])]

    def __call__(self, crop: NDArray[np.float32]) -> list[NDArray[Any]]:
        """The outputs (first of the batch) by their names' order, for a crop (size, size, 3)."""
        self._interpreter.set_tensor(self._input, crop[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


def anchors(size: int, strides: Sequence[int]) -> Floats:
    """Centres (n, 2) of the unit anchors, two for each cell and stride; equal strides share their cells."""
    centres: list[Floats] = []
    for stride in dict.fromkeys(strides):
        cells = size // stride
        y, x = np.mgrid[:cells, :cells]
        cell = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        centres.append(np.repeat(cell, 2 * strides.count(stride), axis=0))
    return np.concatenate(centres)


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, its argument held to +-100 as in MediaPipe's decoder."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -100, 100))))


class Detector:
    """A single-shot detector of palms or people."""

    def __init__(self, net: Net, size: int, strides: Sequence[int]) -> None:
        self._net, self._size = net, size
        self._anchors = anchors(size, strides)

    def detect(self, image: Pixels, roi: Roi, threshold: float) -> sv.Detections:
        """What scores `threshold` or more within an upright square of the image, best first, without duplicates.

        Boxes in pixels of the image, confidence in [0, 1]; `data["keypoints"]` (n, k, 2) in pixels of the image.
        """
        import supervision as sv

        raw, logits = self._net(roi.crop(image, self._size, cv2.BORDER_CONSTANT))
        scores = sigmoid(logits[:, 0].astype(np.float64))
        chosen = np.flatnonzero(scores >= threshold)
        raw = raw[chosen].astype(np.float64) / self._size
        points = raw[:, 4:].reshape(len(raw), (raw.shape[1] - 4) // 2, 2) + self._anchors[chosen, None]
        centre, half = raw[:, :2] + self._anchors[chosen], raw[:, 2:4] / 2
        corners = np.stack([centre - half, centre + half], 1)
        found = sv.Detections(
            xyxy=roi.to_image(corners).reshape(-1, 4),
            confidence=scores[chosen],
            data={"keypoints": roi.to_image(points)},
        )
        return weighted_nms(found, 0.3)


def weighted_nms(found: sv.Detections, threshold: float) -> sv.Detections:
    """Non-maximum suppression, best first: each kept box is the score-weighted mean of those it covers (BlazeFace).

    A box covers those with a larger intersection over union than `threshold`. `data["keypoints"]` is averaged alike.
    """
    import supervision as sv

    found = found[np.argsort(-found.confidence, kind="stable")]
    covers = (sv.box_iou_batch(found.xyxy, found.xyxy) > threshold) | np.eye(len(found), dtype=bool)
    left = np.ones(len(found), dtype=bool)
    kept = np.zeros(len(found), dtype=bool)
    for best in range(len(found)):
        if left[best]:
            group = covers[best] & left
            weight = found.confidence[group] / found.confidence[group].sum()
            found.xyxy[best] = np.einsum("i,ij->j", weight, found.xyxy[group])
            found.data["keypoints"][best] = np.einsum("i,ijk->jk", weight, found.data["keypoints"][group])
            kept[best], left = True, left & ~group
    return found[kept]


def whole(image: Pixels) -> Roi:
    """The square that holds the whole image, letterboxed."""
    height, width = image.shape[:2]
    return Roi(width / 2, height / 2, max(height, width), 0.0)


def upright(start: Floats, end: Floats) -> float:
    """The rotation by which the direction from `start` to `end` points up in the crop."""
    x, y = end - start
    turn = math.pi / 2 - math.atan2(-y, x)
    return turn - 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))


def _shifted(centre: Floats, side: float, rotation: float, shift: float) -> Roi:
    """A square whose centre is moved by `shift` along its own downward axis."""
    x, y = centre
    return Roi(float(x - shift * math.sin(rotation)), float(y + shift * math.cos(rotation)), side, rotation)


def roi_of_palm(box: Floats, points: Floats) -> Roi:
    """The hand's square from a palm's box (4,) and points (7, 2).

    Turned wrist-down, 2.6 times the palm's side, half a palm towards the fingers.
    """
    rotation = upright(points[PALM_WRIST], points[PALM_MIDDLE_MCP])
    size = box[2:] - box[:2]
    return _shifted((box[:2] + box[2:]) / 2, 2.6 * float(size.max()), rotation, -0.5 * float(size[1]))


def roi_of_hand(points: Floats) -> Roi:
    """The hand's square from its own 21 points (n, 2): twice their upright bounding box's longer side."""
    knuckles = (points[5] + 2 * points[9] + points[13]) / 4
    rotation = upright(points[WRIST], knuckles)
    cos, sin = math.cos(-rotation), math.sin(-rotation)
    turned = points @ np.array([[cos, sin], [-sin, cos]])
    low, high = turned.min(0), turned.max(0)
    centre = (low + high) / 2 @ np.array([[cos, -sin], [sin, cos]])
    size = high - low
    return _shifted(centre, 2.0 * float(size.max()), rotation, -0.1 * float(size[1]))


def roi_of_person(points: Floats) -> Roi:
    """The person's square from the detector's points (4, 2), which begin with the hip centre and a scale point."""
    hips, top = points[0], points[1]
    return Roi(float(hips[0]), float(hips[1]), 2.5 * float(np.hypot(*(top - hips))), upright(hips, top))


class HandNet:
    """A hand landmark net (lite or full)."""

    SIZE = 224

    def __init__(self, net: Net) -> None:
        self._net = net

    def __call__(self, image: Pixels, views: Sequence[tuple[Roi, bool]]) -> sv.KeyPoints:
        """One row for each view: a square of the image, and whether its crop is mirrored (the answer is mirrored back).

        xy (n, 21, 2) in pixels of the image; `detection_confidence` (n,) is the presence of a hand in [0, 1].
        `data["world"]` (n, 21, 3) in metres about the hand's centre; `data["handedness"]` (n,) in [0, 1]: near 1 for a
        right hand in an image that is not mirrored, by the net's own label.
        """
        import supervision as sv

        xy, world, presence, handedness = map(np.array, zip(*(self._view(image, *view) for view in views), strict=True))
        return sv.KeyPoints(xy=xy, detection_confidence=presence, data={"world": world, "handedness": handedness})

    def _view(self, image: Pixels, roi: Roi, flip: bool) -> tuple[Floats, Floats, float, float]:
        crop = roi.crop(image, self.SIZE)
        points, presence, handedness, world = self._net(np.ascontiguousarray(crop[:, ::-1]) if flip else crop)
        points = points.reshape(21, 3)[:, :2].astype(np.float64) / self.SIZE
        world = world.reshape(21, 3).astype(np.float64)
        right = float(handedness[0])
        if flip:
            points[:, 0] = 1 - points[:, 0]
            world = world * np.array([-1.0, 1.0, 1.0])
            right = 1 - right
        return roi.to_image(points), world, float(presence[0]), right


class BodyNet:
    """The pose landmark net."""

    SIZE = 256
    MIRRORED = (0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(point + 1 - 2 * (point % 2 == 0) for point in range(11, 33)))
    """Of each of the 33 points the one of the other side."""

    def __init__(self, net: Net) -> None:
        self._net = net

    def __call__(self, image: Pixels, rois: Sequence[Roi], mirrored: bool = False) -> sv.KeyPoints:
        """One row for each square: xy (n, 33, 2) in pixels of the image, visibility (n, 33) and presence (n,).

        Visibility is the `keypoint_confidence`, presence the `detection_confidence`, both in [0, 1]. `data["person"]`
        (n, 2, 2) are the points that `roi_of_person` takes. With `mirrored` the net sees the square mirrored; its
        answer is mirrored back.
        """
        import supervision as sv

        crops = [roi.crop(image, self.SIZE, cv2.BORDER_CONSTANT) for roi in rois]
        outputs = [self._net(np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop) for crop in crops]
        tables = np.array([output[0] for output in outputs], dtype=np.float64).reshape(-1, 39, 5)
        if mirrored:
            tables[..., 0] = self.SIZE - tables[..., 0]
            tables[:, :33] = tables[:, self.MIRRORED]
        points = [roi.to_image(table[:, :2] / self.SIZE) for roi, table in zip(rois, tables, strict=True)]
        xy = np.array(points).reshape(-1, 39, 2)
        return sv.KeyPoints(
            xy=xy[:, :33],
            keypoint_confidence=sigmoid(tables[:, :33, 3:].min(-1)),
            detection_confidence=np.array([output[1][0] for output in outputs], dtype=np.float64),
            data={"person": xy[:, 33:35]},
        )
