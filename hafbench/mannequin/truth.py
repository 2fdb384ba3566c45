"""Ground truth: what a rendered picture shows, as known from the scene that it was rendered from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hafbench.mannequin.skeleton import Array
from hafbench.types import Box, Keypoint

if TYPE_CHECKING:
    from hafbench.mannequin.figure import Figure, Limb
    from hafbench.mannequin.hand import Hand
    from hafbench.mannequin.scene import Scene
    from hafbench.mannequin.shapes import Capsules

# A digit counts as well visible from this share of it on, in the picture and not hidden.
VISIBLE_SHARE = 0.45
# And from this many pixels on, in a picture 128 pixels wide.
VISIBLE_PIXELS = 14


@dataclass(frozen=True)
class DigitTruth:
    """A digit in pixels: four joints from base to tip, the box of what is seen of it.

    visible: the share of what lies in the picture that nothing hides. inside: the share of its length in the picture.
    """

    name: str
    box: Box
    points: tuple[Keypoint, ...]
    points_3d: tuple[tuple[float, float, float], ...]
    visible: float
    inside: float
    pixels: int
    raised: bool
    defect: str | None
    part: str


@dataclass(frozen=True)
class HandTruth:
    """A hand; `keypoints` are MediaPipe's 21 (zeros where a digit is missing). Countable: every digit is well seen."""

    box: Box
    side: str
    countable: bool
    keypoints: tuple[Keypoint, ...]
    digits: tuple[DigitTruth, ...]
    defect: str | None
    part: str


@dataclass(frozen=True)
class LimbTruth:
    """An arm or a leg: shoulder / hip, elbow / knee, wrist / ankle."""

    name: str
    box: Box
    points: tuple[Keypoint, ...]
    visible: float
    pixels: int
    defect: str | None


@dataclass(frozen=True)
class PersonTruth:
    """A figure; `keypoints` are COCO's 17 (zeros where there is none)."""

    box: Box
    keypoints: tuple[Keypoint, ...]
    limbs: tuple[LimbTruth, ...]


@dataclass(frozen=True)
class Truth:
    """Everything known about a picture. `parts` (height, width) holds 1 + the index into `names`, 0 for background.

    `masks` are what each hand, digit and limb would cover with nothing before it.
    """

    hands: tuple[HandTruth, ...]
    people: tuple[PersonTruth, ...]
    parts: NDArray[np.int16]
    names: tuple[str, ...]
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def mask(self, prefix: str) -> NDArray[np.bool_]:
        """Where a part, or all parts of a hand (`hand0`) or limb (`left_arm`), can be seen (height, width)."""
        chosen = [i + 1 for i, name in enumerate(self.names) if name == prefix or name.startswith(prefix + ".")]
        return np.isin(self.parts, chosen)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The box round a mask, zeros for an empty one."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def project(scene: Scene, points: Array, size: int) -> Array:
    """Points (n, 3) of the scene in pixels of its picture, z towards the viewer."""
    turn, centre, zoom = scene.camera
    seen: Array = (points - centre) @ turn.T * zoom * size
    seen[:, 1] *= -1
    seen[:, :2] += size / 2
    return seen


def inside_share(points: Array, size: int) -> float:
    """The share in 0..1 of the length of a line through `points` (n, 3) that lies in the picture."""
    bones = points[1:, :2] - points[:-1, :2]
    lengths = np.hypot(*bones.T)
    steps = (np.arange(32) + 0.5) / 32
    along = points[:-1, None, :2] + steps[:, None] * bones[:, None]
    within = ((along >= 0) & (along < size)).all(-1).mean(1)
    return float((within * lengths).sum() / max(1e-9, float(lengths.sum())))


class _Seen:
    """The scene as the camera sees it: says which points are visible."""

    def __init__(self, scene: Scene, parts: NDArray[np.int16], names: tuple[str, ...]) -> None:
        self.scene, self.parts, self.names, self.size = scene, parts, names, parts.shape[0]

    def visible(self, xy: Array, owners: tuple[str, ...]) -> float:
        column, row = int(np.floor(xy[0])), int(np.floor(xy[1]))
        if not (0 <= column < self.size and 0 <= row < self.size) or self.parts[row, column] == 0:
            return 0.0
        name = self.names[self.parts[row, column] - 1]
        return 1.0 if any(name == owner or name.startswith(owner + ".") for owner in owners) else 0.0

    def keypoints(self, points: Array, owners: tuple[str, ...]) -> tuple[Keypoint, ...]:
        return tuple(
            (float(p[0]), float(p[1]), self.visible(p, owners)) for p in project(self.scene, points, self.size)
        )


_FIRST_POINT = {"thumb": 1, "index": 5, "middle": 9, "ring": 13, "little": 17}
_NOWHERE: Keypoint = (0.0, 0.0, 0.0)


def _hand_truth(seen: _Seen, hand: Hand, name: str, truth: Truth) -> HandTruth:
    keypoints = [_NOWHERE] * 21
    keypoints[0] = seen.keypoints(hand.place[None], (name, f"{name}.forearm", name.removesuffix(".hand")))[0]
    digits = []
    for number, digit in enumerate(hand.digits):
        part = f"{name}.{number}"
        world = hand.world(digit.points)
        points = seen.keypoints(world, (part, f"{name}.palm"))[:4]
        shown, whole = truth.mask(part), truth.masks.get(part)
        pixels = int(shown.sum())
        share = pixels / max(1, int(whole.sum())) if whole is not None else 0.0
        flat = project(seen.scene, world, seen.size)
        digits.append(
            DigitTruth(
                digit.name, box_of(shown), points, tuple((float(x), float(y), float(z)) for x, y, z in flat),
                round(min(1.0, share), 3), round(inside_share(flat, seen.size), 3), pixels,
                digit.raised, digit.defect, part,
            )
        )  # fmt: skip
        if digit.name in _FIRST_POINT and digit.defect != "two_thumbs":
            first = _FIRST_POINT[digit.name]
            keypoints[first : first + 4] = points
    enough = VISIBLE_PIXELS * (seen.size / 128) ** 2
    countable = bool(digits) and all(d.visible * d.inside >= VISIBLE_SHARE and d.pixels >= enough for d in digits)
    mask = truth.mask(name) & ~truth.mask(f"{name}.forearm")
    return HandTruth(box_of(mask), hand.side, countable, tuple(keypoints), tuple(digits), hand.defect, name)


def _limb_truth(seen: _Seen, limb: Limb, truth: Truth) -> LimbTruth:
    shift = np.zeros((3, 3)) if limb.shift is None else np.array([np.zeros(3), np.zeros(3), limb.shift])
    shown, whole = truth.mask(limb.name), truth.masks.get(limb.name)
    own = (truth.parts == truth.names.index(limb.name) + 1) if limb.name in truth.names else np.zeros_like(shown)
    share = int(own.sum()) / max(1, int(whole.sum())) if whole is not None else 0.0
    points = seen.keypoints(limb.points + shift, (limb.name, "torso"))
    return LimbTruth(limb.name, box_of(shown), points, round(min(1.0, share), 3), int(own.sum()), limb.defect)


_FACE = ((0, 0.915, 0.08), (0.026, 0.945, 0.07), (-0.026, 0.945, 0.07), (0.066, 0.935, 0), (-0.066, 0.935, 0))


def _person_truth(seen: _Seen, figure: Figure, truth: Truth) -> PersonTruth:
    keypoints = [*seen.keypoints(np.array(_FACE, dtype=float), ("head",)), *([_NOWHERE] * 12)]
    limbs = {limb.name: limb for limb in figure.limbs}
    for name, first in (("left_arm", 5), ("right_arm", 6), ("left_leg", 11), ("right_leg", 12)):
        limb = limbs.get(name)
        if limb is not None and limb.stump is None:
            for step, point in enumerate(_limb_truth(seen, limb, truth).points):
                keypoints[first + 2 * step] = point
    people = ("torso", "head", *limbs)
    mask = np.any([truth.mask(name) for name in people], axis=0)
    whole = tuple(_limb_truth(seen, limb, truth) for limb in figure.limbs if limb.stump is None)
    return PersonTruth(box_of(mask), tuple(keypoints), whole)


def truth_of(scene: Scene, capsules: Capsules, bone: NDArray[np.int64], size: int) -> Truth:
    """The truth of a scene rendered as `bone` (size, size): the index of the capsule each pixel sees, or -1."""
    from hafbench.mannequin.render import Bones, bones, silhouettes

    owner = np.array([*capsules.part, -1], dtype=np.int16)
    parts = (owner[bone] + 1).astype(np.int16)
    wanted = {limb.name for limb in scene.figure.limbs} if scene.figure else None
    chosen = [
        i
        for i, part in enumerate(capsules.part)
        if (capsules.names[part] in wanted if wanted is not None else capsules.names[part].split(".")[-1].isdigit())
    ]
    masks: dict[str, NDArray[np.bool_]] = {}
    if chosen:
        every = bones(capsules, scene.camera, size)
        covered = silhouettes(Bones(every.start[chosen], every.end[chosen], every.radii[chosen]), size).numpy()
        for i, mask in zip(chosen, covered, strict=True):
            name = capsules.names[capsules.part[i]]
            masks[name] = masks[name] | mask if name in masks else mask
    bare = Truth((), (), parts, tuple(capsules.names), masks)
    seen = _Seen(scene, parts, bare.names)
    hands = [_hand_truth(seen, hand, f"hand{i}", bare) for i, hand in enumerate(scene.hands)]
    people = ()
    if scene.figure is not None:
        people = (_person_truth(seen, scene.figure, bare),)  # type: ignore[assignment]
        for limb in scene.figure.limbs:
            if (hand := limb.shown_hand) is not None:
                hands.append(_hand_truth(seen, hand, f"{limb.name}.hand", bare))
    return Truth(tuple(hands), people, parts, bare.names, masks)


def as_json(truth: Truth) -> dict[str, Any]:
    """Hands and people as JSON values, rounded to a hundredth of a pixel."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 2)
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        return [short(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {
        "hands": [short(asdict(hand)) for hand in truth.hands],
        "people": [short(asdict(person)) for person in truth.people],
    }
