"""Corrupt the skeleton of a hand or a limb, and let a ControlNet inpainting model redraw the part after it.

As in `inpaint`, the kind of a candidate is that of the skeleton that was drawn: whether the model follows it, the gates
decide. The picture for the ControlNet shows the part's own skeleton and nothing else of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field, field_validator

from asap_train.data.inpainting import Painter, load_painter
from asap_train.degrade import inpaint
from asap_train.degrade.openpose import LIMBS, Bone, Points, Skeleton, draw_skeleton, hand_skeleton, limb_skeleton
from asap_train.degrade.redraw import ErrorPrompt, Window, noise_seeds, redraw
from hafbench.errors import HafError

if TYPE_CHECKING:
    from numpy.random import Generator

    from asap_train.types import Candidate, Mask, Part, Photo
    from hafbench.types import Pixels

FLESH_OF_HAND, FLESH_OF_LIMB = 0.25, 0.35
"""How wide a bone with its flesh is in the mask, by the length of the skeleton's longest bone."""


def extra_digit(hand: Skeleton, rng: Generator) -> Skeleton:
    """A sixth digit as long as a finger: halfway to the finger after it, or beyond the little one by a whole step."""
    number = _finger(hand, rng)
    finger = _digit(number)
    beside = _digit(number + 1 if number < 4 else 3)
    step = _angle(hand.points[finger[0]] - hand.points[0], hand.points[beside[0]] - hand.points[0])
    turned = _turned(hand, finger, 0, step / 2 if number < 4 else -step)
    return _with(hand, turned.points[finger], like=4 * number)


def missing_digit(hand: Skeleton, rng: Generator) -> Skeleton:
    """One finger less; the thumb stays."""
    gone = set(_digit(_finger(hand, rng)))
    kept = [i for i in range(len(hand.points)) if i not in gone]
    number = {old: new for new, old in enumerate(kept)}
    bones = [(bone, colour) for bone, colour in zip(hand.bones, hand.colours, strict=True) if bone[1] not in gone]
    return replace(
        hand,
        points=hand.points[kept],
        bones=tuple((number[start], number[end]) for (start, end), _ in bones),
        colours=tuple(colour for _, colour in bones),
        dots=tuple(hand.dots[i] for i in kept),
    )


def crossed_digits(hand: Skeleton, rng: Generator) -> Skeleton:
    """Two neighbouring fingers exchange their ends: each middle joint goes on into the other's end."""
    first = int(rng.integers(1, 4))
    one, other = _digit(first), _digit(first + 1)
    swapped: dict[Bone, Bone] = {(one[1], one[2]): (one[1], other[2]), (other[1], other[2]): (other[1], one[2])}
    return replace(hand, bones=tuple(swapped.get(bone, bone) for bone in hand.bones))


def bent_digit(hand: Skeleton, rng: Generator) -> Skeleton:
    """A finger that turns aside at its middle joint by 70 to 120 degrees, which no joint can."""
    digit = _digit(_finger(hand, rng))
    return _turned(hand, digit[2:], digit[1], float(rng.uniform(70, 120) * rng.choice([-1, 1])))


def extra_limb(limb: Skeleton, rng: Generator) -> Skeleton:
    """A second limb from the same shoulder or hip, turned by 38 to 75 degrees, as the built-in world's."""
    turned = _turned(limb, [1, 2], 0, float(rng.uniform(38, 75) * rng.choice([-1, 1])))
    return _with(limb, turned.points[1:], like=0)


def bent_limb(limb: Skeleton, rng: Generator) -> Skeleton:
    """An elbow or knee bent to its other side, by 60 to 110 degrees or by as much as it was bent."""
    bent = _angle(limb.points[1] - limb.points[0], limb.points[2] - limb.points[1])
    side = -np.sign(bent) if abs(bent) > 5 else rng.choice([-1, 1])
    wanted = side * max(abs(bent), float(rng.uniform(60, 110)))
    return _turned(limb, [2], 1, float(wanted - bent))


@dataclass(frozen=True)
class Corruption:
    """An error, and the change of the skeleton that shows it."""

    error: ErrorPrompt
    change: Callable[[Skeleton, Generator], Skeleton]


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption(ErrorPrompt("hands", "extra", "extra_digit", "a hand with six fingers"), extra_digit),
    Corruption(ErrorPrompt("hands", "missing", "missing_digit", "a hand with four fingers"), missing_digit),
    Corruption(
        ErrorPrompt("hands", "configuration", "crossed_digits", "a hand with crossed, fused fingers"), crossed_digits
    ),
    Corruption(ErrorPrompt("hands", "configuration", "bent_digit", "a hand with a broken, bent finger"), bent_digit),
    Corruption(ErrorPrompt("limbs", "extra", "extra_limb", "a person with an extra {limb}"), extra_limb),
    Corruption(ErrorPrompt("limbs", "configuration", "bent_limb", "a broken {limb} bent the wrong way"), bent_limb),
)


@dataclass(frozen=True)
class SkeletonFamily:
    """Draws one of CORRUPTIONS at random, and paints `candidates` pictures after it, each from its own noise."""

    painter: Painter
    candidates: int = 4
    name: str = "skeleton"

    def __post_init__(self) -> None:
        if self.painter.settings.get("control") is None:
            raise HafError("Pictures are redrawn after skeletons by a model with a ControlNet; name one.")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model and the ControlNet with their files' checksums, and how many pictures are painted."""
        return {**self.painter.settings, "candidates": self.candidates}

    def degrade(self, photo: Photo, part: Part, rng: Generator) -> Iterator[Candidate]:
        """Pictures after one corrupted skeleton, in no order; none for a part without the keypoints of one."""
        sound = skeleton_of(part)
        if sound is None or not part.mask.any():
            return
        suited = [corruption for corruption in CORRUPTIONS if corruption.error.region == part.region]
        corruption = suited[int(rng.integers(len(suited)))]
        wrong = corruption.change(sound, rng)
        place = part if part.origin == "given" else replace(part, mask=part.mask | _flesh(sound, wrong, part.mask))
        settings = {"skeleton": np.round(wrong.points, 2).tolist(), "bones": [list(bone) for bone in wrong.bones]}

        def control(window: Window) -> Pixels:
            return draw_skeleton(replace(wrong, points=window.points(wrong.points)), *window.painted)

        seeds = noise_seeds(rng, self.candidates)
        yield from redraw(self.painter, photo, place, corruption.error, seeds, self.name, settings, control)


class Options(inpaint.Options):
    """`control`: a name of CONTROLS, NAME=PATH, a folder or a hub id of a ControlNet for skeletons."""

    control: str = Field(default="", validate_default=True)

    @field_validator("control")
    @classmethod
    def _named(cls, control: str) -> str:
        if not control:
            raise ValueError("name a ControlNet for skeletons: --control MODEL")
        return control


def load(options: Options, device: str) -> SkeletonFamily:
    """The family over the model and the ControlNet that `options` names; raises as `load_painter` does."""
    return SkeletonFamily(load_painter(options, device, options.control), options.candidates)


def skeleton_of(part: Part) -> Skeleton | None:
    """The skeleton of a hand of 21 points, or of an arm or a leg of 3; None for other parts."""
    if part.points is None or not np.isfinite(part.points).all():
        return None
    points = np.asarray(part.points[:, :2], np.float64)
    if part.region == "hands" and len(points) == 21:
        return hand_skeleton(points)
    limb = next((limb for limb in LIMBS if part.name.startswith(limb)), None)
    if part.region == "limbs" and len(points) == 3 and limb:
        return limb_skeleton(points, limb)
    return None


def _digit(number: int) -> list[int]:
    """The four points of a digit, from 0 for the thumb to 4 for the little finger, of 21."""
    return list(range(1 + 4 * number, 5 + 4 * number))


def _finger(hand: Skeleton, rng: Generator) -> int:
    """One of the four fingers; those that reach far are drawn more often: in a folded one an error is hardly seen."""
    reach = np.array([np.hypot(*(hand.points[_digit(i)[-1]] - hand.points[0])) for i in range(1, 5)]) ** 4 + 1e-9
    return 1 + int(rng.choice(4, p=reach / reach.sum()))


def _angle(one: Points, other: Points) -> float:
    """From one direction to another in the picture's plane, in degrees from -180 to 180."""
    return float(np.degrees(np.arctan2(one[0] * other[1] - one[1] * other[0], one @ other)))


def _with(skeleton: Skeleton, new: Points, like: int) -> Skeleton:
    """The skeleton with a further chain of bones from its first point through `new`, coloured as bone `like` and on."""
    count, length = len(skeleton.points), len(new)
    chain = [0, *range(count, count + length)]
    joints = [end for _, end in skeleton.bones[like : like + length]]
    return replace(
        skeleton,
        points=np.vstack([skeleton.points, new]),
        bones=(*skeleton.bones, *pairwise(chain)),
        colours=(*skeleton.colours, *skeleton.colours[like : like + length]),
        dots=(*skeleton.dots, *(skeleton.dots[i] for i in joints)),
    )


def _turned(skeleton: Skeleton, moved: list[int], about: int, degrees: float) -> Skeleton:
    """Points turned about one of them, in the picture's plane."""
    turn = np.radians(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = skeleton.points.copy()
    points[moved] = (points[moved] - points[about]) @ matrix.T + points[about]
    return replace(skeleton, points=points)


def _flesh(sound: Skeleton, wrong: Skeleton, mask: Mask) -> Mask:
    """Where the corrupted skeleton needs room: its bones, as wide as what clothes them."""
    longest = max(float(np.hypot(*(sound.points[end] - sound.points[start]))) for start, end in sound.bones)
    width = max(1, round((FLESH_OF_LIMB if sound.solid else FLESH_OF_HAND) * longest))
    canvas = np.zeros(mask.shape, np.uint8)
    joints = wrong.points.round().astype(int).tolist()
    for start, end in wrong.bones:
        cv2.line(canvas, joints[start], joints[end], 1, width)
    return canvas > 0
