"""What a judge looks at: a whole picture, or the hands, feet, faces and people that detectors find in it, enlarged."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from hafbench.judges.protocols import PARTS
from hafbench.judges.questions import Picture

if TYPE_CHECKING:
    from hafbench.types import Box, Pixels

SMALLEST_SIDE, LARGEST_SIDE = 512, 1536
"""Of what a judge is shown, in pixels: such models see little in smaller pictures, and shrink larger ones."""
MARGIN = 0.3
"""What is shown around a part, as a share of its longer side: a hand is judged by where its arm is."""
MOST = 6
"""Parts of one kind in a picture; the largest are taken."""
SAME = 0.4
"""Two boxes of a kind with a larger intersection over the smaller one are shown together."""
VISIBLE = 0.5
HAND_LOGIT = 0.0
"""Of a hand's existence: lower than for the scorer `hands`, since the judge may say that there is none."""


@dataclass(frozen=True)
class Part:
    """Something to ask about: which question, what is shown, and where it lies in the image; None for the whole.

    `size` is (height, width) of the image.
    """

    name: str
    picture: Picture
    size: tuple[int, int]
    box: Box | None = None

    @property
    def place(self) -> Literal["crop", "whole"]:
        """How the question calls it."""
        return "whole" if self.box is None else "crop"


class PartFinder(Protocol):
    """Finds parts of bodies. Not thread-safe."""

    name: str
    weights: Mapping[str, str]
    most: int
    """How many of them may work at once, each in a thread of its own."""
    parts: tuple[str, ...]
    """Names of the parts that these pictures can have."""

    def find(self, image: Pixels) -> list[tuple[str, Box]]:
        """The name of each part and its box in pixels of an RGB image of shape (height, width, 3)."""
        ...


class PhotographParts:
    """Hands by MediaPipe's hand nets; feet, faces and people by its body net."""

    name = "mediapipe"
    most = 8
    parts: tuple[str, ...] = PARTS

    def __init__(self) -> None:
        from hafbench.detectors.bodies import PoseNets
        from hafbench.detectors.hands import HandDetector

        self._hands, self._bodies = HandDetector(), PoseNets()
        self.weights: Mapping[str, str] = dict(self._hands.weights)

    def find(self, image: Pixels) -> list[tuple[str, Box]]:
        """Parts whose points are visible; a body's head and feet by its 33 points."""
        found: list[tuple[str, Box]] = []
        for hand in self._hands.find(image):
            if hand.max_existence_logit >= HAND_LOGIT:
                half, x, y = hand.roi.side / 2, hand.roi.x, hand.roi.y
                found.append(("hands", (x - half, y - half, x + half, y + half)))
        bodies = self._bodies.detect(image)
        for points, visible in zip(bodies.xy, np.asarray(bodies.keypoint_confidence) >= VISIBLE, strict=True):
            found.append(("person", _about(points[visible] if visible.any() else points)))
            for name, places in (("face", list(range(11))), ("feet", [27, 29, 31]), ("feet", [28, 30, 32])):
                if visible[places].all():
                    found.append((name, _about(points[places])))
        return found


class MannequinParts:
    """Hands and people by the detector of the built-in world, whose figures have neither toes nor faces."""

    name = "mannequin"
    most = 1  # its net is the one that the scorers of mannequins have, too
    parts: tuple[str, ...] = ("hands", "person")

    def __init__(self, device: str = "auto") -> None:
        from hafbench.detectors.mannequin import load_mannequin_detector

        self._detector = load_mannequin_detector(device)
        self.weights: Mapping[str, str] = dict(self._detector.weights)

    def find(self, image: Pixels) -> list[tuple[str, Box]]:
        """Every hand and person that is detected."""
        seen = self._detector.detect(image)
        rows = [("hands", one.hand) for one in seen.hands] + [("person", one.person) for one in seen.people]
        return [(name, _box(row.xyxy[0])) for name, row in rows]


class PartFinders:
    """As many finders as threads ask at the same time: one for each core, at most `most` of the kind."""

    def __init__(self, make: Callable[[], PartFinder]) -> None:
        self._make, first = make, make()
        self.name, self.weights, self.parts = first.name, first.weights, first.parts
        self._places = threading.Semaphore(min(first.most, os.cpu_count() or 1))
        self._idle = deque([first])

    def find(self, image: Pixels) -> list[tuple[str, Box]]:
        """As `PartFinder.find`; from any thread."""
        with self._places:
            try:
                finder = self._idle.pop()
            except IndexError:
                finder = self._make()
            try:
                return finder.find(image)
            finally:
                self._idle.append(finder)


def load_parts(detector: Literal["photographs", "mannequins"], device: str = "auto") -> PartFinders:
    """The finders for pictures of that kind; raises Unavailable if their weights are not on this machine."""
    return PartFinders(partial(MannequinParts, device) if detector == "mannequins" else PhotographParts)


def _box(values: Any) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _about(points: Any) -> Box:
    return _box([*points.min(0), *points.max(0)])


def cut(image: Pixels, found: Sequence[tuple[str, Box]], names: Sequence[str]) -> list[Part]:
    """What is asked about: each part that was found, enlarged, and the whole image for names without any."""
    parts: list[Part] = []
    size, whole = (image.shape[0], image.shape[1]), shown(image)
    for name in names:
        boxes = _merged([box for own, box in found if own == name])
        around = [_around(box, image) for box in boxes]
        parts += [Part(name, shown(_pixels(image, box)), size, box) for box in around] or [Part(name, whole, size)]
    return parts


def _merged(boxes: Sequence[Box]) -> list[Box]:
    """The largest MOST; those that mostly lie on each other as one."""
    kept: list[Box] = []
    for box in sorted(boxes, key=_area, reverse=True):
        for index, other in enumerate(kept):
            inside = _area((max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])))
            if inside > SAME * max(1e-9, min(_area(box), _area(other))):
                kept[index] = (*np.minimum(box[:2], other[:2]).tolist(), *np.maximum(box[2:], other[2:]).tolist())
                break
        else:
            kept.append(box)
    return kept[:MOST]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _around(box: Box, image: Pixels) -> Box:
    """The box with its margin, in whole pixels of the image; at least 8 pixels a side."""
    height, width = image.shape[:2]
    margin = max(8.0, MARGIN * max(box[2] - box[0], box[3] - box[1]))
    left, top = (int(np.clip(box[i] - margin, 0, size - 8)) for i, size in ((0, width), (1, height)))
    right, bottom = (int(np.clip(np.ceil(box[i] + margin), 8, size)) for i, size in ((2, width), (3, height)))
    return float(left), float(top), float(max(right, left + 8)), float(max(bottom, top + 8))


def _pixels(image: Pixels, box: Box) -> Pixels:
    left, top, right, bottom = (int(value) for value in box)
    return image[top:bottom, left:right]


def shown(pixels: Pixels) -> Picture:
    """As a judge is shown it: a small one enlarged until its longer side is SMALLEST_SIDE, a large one made smaller."""
    from PIL import Image

    height, width = pixels.shape[:2]
    longer = max(height, width)
    scale = max(1.0, SMALLEST_SIDE / longer) * min(1.0, LARGEST_SIDE / longer)
    if scale == 1.0:
        return Picture(np.ascontiguousarray(pixels))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Picture(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)))
