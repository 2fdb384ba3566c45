"""Ground truth of the second built-in world: what a picture of a person shows, as known from its scene."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hafbench.mannequin.truth import DigitTruth, HandTruth, LimbTruth, PersonTruth, Truth, box_of, inside_share
from hafbench.people.mesh import moved_points
from hafbench.people.shaping import EXTRA

if TYPE_CHECKING:
    from hafbench.people.hand_frame import Side
    from hafbench.people.mesh import Array
    from hafbench.people.render import Picture
    from hafbench.people.scene import Scene
    from hafbench.types import Keypoint

DIGIT_NAMES = {1: "thumb", 2: "index", 3: "middle", 4: "ring", 5: "little"}
SIDES: dict[Side, str] = {"L": "left", "R": "right"}
HAND_DEPTH, BODY_DEPTH = 0.016, 0.09
"""A joint is seen if the surface before it is at most so many metres nearer than its middle."""
COUNTABLE_SHARE, COUNTABLE_PIXELS = 0.45, 14
"""A digit counts as well seen from this share of its length and this many pixels (in a picture 128 wide) on."""
_DIGIT = re.compile(r"finger(\d)-(\d)\.([LR])")
_NOWHERE: Keypoint = (0.0, 0.0, 0.0)


def part_of(bone: str) -> str:
    """The part that a bone belongs to: `torso`, `head`, `left_arm`, `left_arm.hand.index`, `extra_left_leg.foot` ...

    The digit of an extra bone is `extra_index`, unless its whole hand is extra.
    """
    extra, name = (EXTRA, bone.removeprefix(EXTRA)) if bone.startswith(EXTRA) else ("", bone)
    stem, _, letter = name.partition(".")
    side = {"L": "left", "R": "right"}.get(letter, "")
    if digit := _DIGIT.fullmatch(name):
        return f"{extra}{side}_arm.hand.{DIGIT_NAMES[int(digit[1])]}"
    for starts, part in (
        (("wrist", "metacarpal"), "arm.hand.palm"),
        (("upperarm", "lowerarm"), "arm"),
        (("upperleg", "lowerleg"), "leg"),
        (("foot", "toe"), "leg.foot"),
    ):
        if stem.startswith(starts):
            return f"{extra}{side}_{part}"
    trunk = ("root", "spine", "pelvis", "clavicle", "shoulder", "breast")
    return "torso" if stem.startswith(trunk) else "head"


@dataclass(frozen=True)
class _Seen:
    """A picture with its scene: which points are seen, and which part each pixel shows."""

    scene: Scene
    picture: Picture
    gone: frozenset[str]
    touched: frozenset[str]
    detail: str | None

    @property
    def size(self) -> int:
        return int(self.picture.parts.shape[0])

    @property
    def names(self) -> tuple[str, ...]:
        return self.scene.person.skeleton.names

    def point(self, bone: str, end: int, before: float) -> Keypoint:
        """A bone's head (0) or tail (1): column, row, and 1 if nothing hides it, 0 if something does."""
        return self.at(self.picture.joints[self.names.index(bone), end], before)

    def at(self, place: Array, before: float) -> Keypoint:
        """The same for a column, row and depth."""
        column, row, depth = (float(value) for value in place)
        x, y = int(np.floor(column)), int(np.floor(row))
        if not (0 <= x < self.size and 0 <= y < self.size):
            return (column, row, 0.0)
        nearest = float(self.picture.depth[y, x])
        return (column, row, float(np.isfinite(nearest) and nearest > depth - before))

    def open_share(self, points: Array, before: float) -> float:
        """The share that is seen of what is in the picture of a line through points (n, 3: column, row, depth)."""
        steps = np.linspace(0, 1, 9)[:, None]
        line = np.concatenate([a + steps * (b - a) for a, b in pairwise(points)])
        inside = ((line[:, :2] >= 0) & (line[:, :2] < self.size)).all(1)
        seen = [self.at(place, before)[2] for place in line[inside]]
        return float(np.mean(seen)) if seen else 0.0

    def defect(self, bones: Iterable[str]) -> str | None:
        """The error's detail, if it is in one of these bones."""
        return self.detail if self.touched & set(bones) else None


def _parts(seen: _Seen) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    # An extra digit of a hand that is not extra itself is one of that hand's.
    whole = {name.removeprefix(EXTRA) for name in seen.names if name.startswith(f"{EXTRA}wrist")}
    owners = []
    for bone in seen.names:
        part = part_of(bone)
        side = bone.rpartition(".")[2]
        if part.startswith(EXTRA) and ".hand." in part and f"wrist.{side}" not in whole:
            head, _, digit = part.removeprefix(EXTRA).rpartition(".")
            part = f"{head}.{EXTRA}{digit}"
        owners.append(part)
    names = tuple(dict.fromkeys(owners))
    table = np.array([*(1 + names.index(part) for part in owners), 0], np.int16)
    # What is held or sat on moves with a bone, and is no part of the body.
    things = [number for number, layer in enumerate(seen.scene.person.all_layers()) if layer.kind == "object"]
    return table[np.where(np.isin(seen.picture.layers, things), -1, seen.picture.parts)], names


def _digits(seen: _Seen, truth: Truth, hand: str, side: str, extra: str) -> list[DigitTruth]:
    found = []
    # The extra digits of a side belong to its extra hand, where there is one.
    for prefix in (extra,) if f"{EXTRA}wrist.{side}" in seen.names else ("", EXTRA):
        for digit, name in DIGIT_NAMES.items():
            bones = [f"{prefix}finger{digit}-{joint}.{side}" for joint in (1, 2, 3)]
            own = [bone for bone in bones if bone in seen.names and bone not in seen.gone]
            if not own:
                continue
            numbers = [seen.names.index(bone) for bone in own]
            ends = np.array(
                [*(seen.picture.joints[number, 0] for number in numbers), seen.picture.joints[numbers[-1], 1]]
            )
            # A fork has fewer joints of its own: its first stands for those that it shares.
            ends = np.concatenate([np.repeat(ends[:1], 4 - len(ends), 0), ends])
            part = f"{hand}.{name if prefix == extra else EXTRA + name}"
            shown = truth.mask(part)
            straight = float(np.linalg.norm(ends[-1, :2] - ends[0, :2]))
            bent = float(np.linalg.norm(np.diff(ends[:, :2], axis=0), axis=1).sum())
            found.append(
                DigitTruth(
                    name if prefix == extra else "extra", box_of(shown),
                    tuple(seen.at(place, HAND_DEPTH) for place in ends),
                    tuple((float(x), float(y), float(z)) for x, y, z in ends),
                    round(seen.open_share(ends, HAND_DEPTH), 3), round(inside_share(ends, seen.size), 3),
                    int(shown.sum()), straight > 0.88 * bent, seen.defect(own), part,
                )
            )  # fmt: skip
    return found


def _hand(seen: _Seen, truth: Truth, side: Side, extra: str) -> HandTruth | None:
    name = f"{extra}{SIDES[side]}_arm.hand"
    wrist = f"{extra}wrist.{side}"
    if wrist not in seen.names or wrist in seen.gone:
        return None
    mask = truth.mask(name)
    if not mask.any():
        return None
    digits = _digits(seen, truth, name, side, extra)
    keypoints = [seen.point(wrist, 0, 0.04), *([_NOWHERE] * 20)]
    for digit in digits:
        if digit.name in DIGIT_NAMES.values():
            first = 1 + 4 * list(DIGIT_NAMES.values()).index(digit.name)
            keypoints[first : first + 4] = digit.points
    enough = COUNTABLE_PIXELS * (seen.size / 128) ** 2
    countable = bool(digits) and all(
        one.visible * one.inside >= COUNTABLE_SHARE and one.pixels >= enough for one in digits
    )
    return HandTruth(
        box_of(mask), SIDES[side], countable, tuple(keypoints), tuple(digits), seen.defect([wrist]), name
    )  # fmt: skip


_LIMBS = {"arm": ("upperarm01", "lowerarm01", "wrist"), "leg": ("upperleg01", "lowerleg01", "foot")}


def _limb(seen: _Seen, truth: Truth, side: Side, kind: str, extra: str) -> LimbTruth | None:
    """None for a limb that is missing from its middle joint on."""
    bones = [f"{extra}{bone}.{side}" for bone in _LIMBS[kind]]
    name = f"{extra}{SIDES[side]}_{kind}"
    if bones[0] not in seen.names or bones[1] in seen.gone:
        return None
    whole = bones if bones[2] not in seen.gone else bones[:2]
    points = tuple(seen.point(bone, 0, BODY_DEPTH) for bone in whole) + (_NOWHERE,) * (3 - len(whole))
    ends = seen.picture.joints[[seen.names.index(bone) for bone in whole], 0]
    shown = truth.mask(name)
    return LimbTruth(
        name, box_of(shown), points, round(seen.open_share(ends, BODY_DEPTH), 3), int(shown.sum()), seen.defect(bones)
    )


def _face(seen: _Seen) -> list[Keypoint]:
    """Nose, eyes and ears: the foremost and outermost points of the head, and the eyes' bones."""
    from hafbench.people.mesh import bone_transforms

    mesh, skeleton = seen.scene.person.mesh, seen.scene.person.skeleton
    head = skeleton.names.index("head")
    main = np.array([part_of(name) == "head" and not name.startswith("neck") for name in skeleton.names])
    own = np.nonzero(main[mesh.bones[:, 0]] & np.isin(np.arange(len(mesh.vertices)), mesh.triangles))[0]
    if not len(own):
        return [_NOWHERE] * 5
    points = mesh.vertices[own].astype(np.float64)
    middle = np.abs(points[:, 0]) < 0.01
    eyes = float(skeleton.heads[skeleton.names.index("eye.L"), 1])
    level = np.abs(points[:, 1] - eyes) < 0.03
    below = middle & (points[:, 1] < eyes) & (points[:, 1] > eyes - 0.06)
    nose = points[below][points[below][:, 2].argmax()] if below.any() else points[points[:, 2].argmax()]
    ears = [points[level][(sign * points[level][:, 0]).argmax()] if level.any() else nose for sign in (1, -1)]
    transforms = bone_transforms(skeleton, seen.scene.rotations)
    placed = moved_points(np.array([nose, *ears]), np.repeat(transforms[head][None], 3, 0))
    flat = seen.scene.camera.pixels(placed, seen.size)
    found = [seen.at(place, 0.02) for place in flat]
    return [found[0], *(seen.point(f"eye.{side}", 0, 0.03) for side in SIDES), *found[1:]]


def truth_of(
    scene: Scene,
    picture: Picture,
    detail: str | None = None,
    touched: frozenset[str] = frozenset(),
    gone: frozenset[str] = frozenset(),
) -> Truth:
    """The truth of a rendered scene; `detail` is of its error, in the bones `touched`, of which `gone` have no surface.

    Hands are those of which something is seen. Keypoints are (column, row, 1 if seen else 0).
    """
    seen = _Seen(scene, picture, gone, touched, detail)
    parts, names = _parts(seen)
    bare = Truth((), (), parts, names)
    found = [_hand(seen, bare, side, extra) for extra in ("", EXTRA) for side in SIDES]
    limbs = [_limb(seen, bare, side, kind, extra) for extra in ("", EXTRA) for kind in _LIMBS for side in SIDES]
    keypoints = [*_face(seen), *([_NOWHERE] * 12)]
    whole = tuple(limb for limb in limbs if limb is not None)
    for limb in whole:
        if not limb.name.startswith(EXTRA):
            first = {"left_arm": 5, "right_arm": 6, "left_leg": 11, "right_leg": 12}[limb.name]
            for step, point in enumerate(limb.points):
                keypoints[first + 2 * step] = point
    person = PersonTruth(box_of(parts > 0), tuple(keypoints), whole)
    hands = tuple(hand for hand in found if hand is not None)
    return Truth(hands, (person,) if scene.view == "figure" else (), parts, names)
