"""The detector of the built-in world: hands with their digits, people with their limbs, malformed ones by name.

One ultralytics pose model, trained on renders with other seeds and another error setting than anything that tunes a
model (recipes/mannequin/detectors.py). It knows nothing of photographs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.types import Box, Keypoint

if TYPE_CHECKING:
    from hafbench.types import Pixels

CLASSES = (
    *("hand_countable", "hand_partial", "hand_turned", "hand_small", "person_full", "person_upper"),
    *("digit", "thumb", "digit_fused", "digit_forked", "digit_bent", "digit_long", "digit_short"),
    *("arm", "arm_detached", "arm_long", "arm_short", "leg", "leg_detached", "leg_long", "leg_short"),
)
"""hand_countable: every digit that it has is in view. hand_small: a figure's, too small for its digits to be seen."""

# A thing is seen once, as one class of its group; the points of each group.
GROUPS: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(CLASSES[:4], ("hand", 21)),
    **dict.fromkeys(CLASSES[4:6], ("person", 17)),
    **dict.fromkeys(CLASSES[6:13], ("digit", 4)),
    **dict.fromkeys(CLASSES[13:17], ("arm", 3)),
    **dict.fromkeys(CLASSES[17:], ("leg", 3)),
}

SIDES = (224, 256)
"""Pictures are enlarged to each: the finest of the detector's three grids has a cell every 8 pixels of such a size."""
FLOOR = 0.02
"""Boxes of a lower confidence are not even candidates."""
SAME = 0.5
"""Two boxes of a group with a larger intersection over union are the same thing."""
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 points in the order of a mirrored person, whose left is right."""

Candidate = tuple[str, float, Box, tuple[Keypoint, ...]]
"""A class, its confidence, box and points, as the net proposes it."""


@dataclass(frozen=True)
class Thing:
    """Something seen: the confidence of each class that was proposed for it, the best one's box and points."""

    chances: Mapping[str, float]
    box: Box
    points: tuple[Keypoint, ...]

    @property
    def name(self) -> str:
        """The likeliest class."""
        return max(self.chances, key=lambda name: self.chances[name])

    @property
    def confidence(self) -> float:
        """That something of the group is there, whichever class, in [0, 1]."""
        return min(1.0, sum(self.chances.values()))

    def share(self, name: str) -> float:
        """How much of the confidence is for a class, in [0, 1]."""
        return self.chances.get(name, 0.0) / sum(self.chances.values())


@dataclass(frozen=True)
class SeenHand:
    """A hand and its digits, surest first."""

    hand: Thing
    digits: tuple[Thing, ...]


@dataclass(frozen=True)
class SeenPerson:
    """A person with arms and legs, surest first."""

    person: Thing
    arms: tuple[Thing, ...]
    legs: tuple[Thing, ...]


@dataclass(frozen=True)
class Sight:
    """All that is seen in a picture."""

    hands: tuple[SeenHand, ...]
    people: tuple[SeenPerson, ...]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    shared = _shared(one, other)
    return shared / max(1e-9, _area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _shared(one: Box, other: Box) -> float:
    return _area((max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])))


def mirror(candidate: Candidate, width: float) -> Candidate:
    """What was proposed in a mirrored image, as it lies in the image."""
    name, confidence, (x1, y1, x2, y2), points = candidate
    points = tuple((width - x, y, v) for x, y, v in points)
    if GROUPS[name][0] == "person":
        points = tuple(points[i] for i in MIRRORED)
    return name, confidence, (width - x2, y1, width - x1, y2), points


def merge(candidates: Iterable[Candidate]) -> dict[str, list[Thing]]:
    """One Thing for each set of a group's boxes that lie on each other, surest first (non-maximum suppression)."""
    kept: dict[str, list[tuple[dict[str, float], Box, tuple[Keypoint, ...]]]] = {}
    for name, confidence, box, points in sorted(candidates, key=lambda candidate: -candidate[1]):
        group, count = GROUPS[name]
        for chances, first, _ in kept.setdefault(group, []):
            if overlap(first, box) > SAME:
                chances.setdefault(name, confidence)
                break
        else:
            kept[group].append(({name: confidence}, box, points[:count]))
    return {
        group: sorted((Thing(*thing) for thing in things), key=lambda thing: -thing.confidence)
        for group, things in kept.items()
    }


def average(views: Sequence[Mapping[str, list[Thing]]]) -> dict[str, list[Thing]]:
    """Things seen in several views of an image, surest first: the mean confidences, 0 from a view without the thing.

    Box and points are from the first view that has it.
    """
    means: dict[str, list[Thing]] = {}
    for view in views:
        for group, things in view.items():
            known = means.setdefault(group, [])
            free = set(range(len(known)))
            for thing in things:
                shares = {name: chance / len(views) for name, chance in thing.chances.items()}
                same = max(free, key=lambda i: overlap(known[i].box, thing.box), default=None)
                if same is None or overlap(known[same].box, thing.box) <= SAME:
                    known.append(Thing(shares, thing.box, thing.points))
                    continue
                free.remove(same)
                before = known[same].chances
                chances = {name: before.get(name, 0.0) + shares.get(name, 0.0) for name in {**before, **shares}}
                known[same] = replace(known[same], chances=chances)
    return {group: sorted(things, key=lambda thing: -thing.confidence) for group, things in means.items()}


def _owner(thing: Thing, homes: Sequence[Thing]) -> int:
    """Which hand or person a digit or limb lies in most."""
    shares = [_shared(thing.box, home.box) / max(1e-9, _area(thing.box)) for home in homes]
    return max(range(len(homes)), key=lambda i: (round(shares[i], 2), homes[i].confidence))


def arrange(things: Mapping[str, list[Thing]], sure: float = 0.3) -> Sight:
    """Digits to their hands and limbs to their people; hands and people below `sure` are dropped."""
    hands = [hand for hand in things.get("hand", []) if hand.confidence >= sure]
    people = [person for person in things.get("person", []) if person.confidence >= sure]
    digits: list[list[Thing]] = [[] for _ in hands]
    limbs: dict[str, list[list[Thing]]] = {"arm": [[] for _ in people], "leg": [[] for _ in people]}
    for digit in things.get("digit", []) if hands else []:
        digits[_owner(digit, hands)].append(digit)
    for group, lists in limbs.items():
        for limb in things.get(group, []) if people else []:
            lists[_owner(limb, people)].append(limb)
    return Sight(
        tuple(SeenHand(hand, tuple(own)) for hand, own in zip(hands, digits, strict=True)),
        tuple(SeenPerson(*row) for row in zip(people, map(tuple, limbs["arm"]), map(tuple, limbs["leg"]), strict=True)),
    )


def candidates(result: Any) -> Iterator[Candidate]:
    """The proposals of an ultralytics result."""
    points = result.keypoints.data.cpu().numpy().astype(float) if len(result.boxes) else []
    for row, own in zip(result.boxes.data.cpu().numpy().astype(float), points, strict=True):
        x1, y1, x2, y2, confidence, number = map(float, row)
        yield (
            CLASSES[int(number)],
            confidence,
            (x1, y1, x2, y2),
            tuple((float(x), float(y), float(v)) for x, y, v in own),
        )


class MannequinDetector:
    """Sees the hands and people of the built-in world."""

    name = "mannequin"

    def __init__(self, path: Path, device: str = "auto") -> None:
        from hafbench.detectors.ultralytics import every_class, load_yolo
        from hafbench.images import sha256_of

        self._model = load_yolo(path)
        self.weights: Mapping[str, str] = {path.name: sha256_of(path)}
        where = None if device == "auto" else device
        # Its own suppression only drops the very same box of a class; `merge` does the rest.
        self._last: tuple[bytes, Sight] | None = None
        self._options: dict[str, Any] = {"conf": FLOOR, "iou": 0.8, "verbose": False, "device": where}
        self._options["predictor"] = every_class()

    def detect(self, image: Pixels) -> Sight:
        """What is seen in an RGB image of shape (height, width, 3); boxes and points in its pixels."""
        # Two scorers ask about the same image, one after the other.
        pixels = image.tobytes()
        if self._last is None or self._last[0] != pixels:
            self._last = (pixels, self._look(image))
        return self._last[1]

    def _look(self, image: Pixels) -> Sight:
        import numpy as np

        # What the net sees in the mirrored image, or in another size, errs elsewhere; the mean is nearer to the truth.
        pair = [np.ascontiguousarray(view[..., ::-1]) for view in (image, image[:, ::-1])]
        views = []
        for side in SIDES:
            proposed, mirrored = self._model.predict(pair, imgsz=side, **self._options)
            back = (mirror(candidate, float(image.shape[1])) for candidate in candidates(mirrored))
            views += [merge(candidates(proposed)), merge(back)]
        return arrange(average(views))


@lru_cache(maxsize=1)
def load_mannequin_detector(device: str = "auto") -> MannequinDetector:
    """The detector that comes with hafbench; raises Unavailable if this installation lacks it."""
    from hafbench.worlds import built_in

    return MannequinDetector(built_in("detector.pt"), device)
