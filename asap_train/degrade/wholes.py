"""Errors of a whole hand or foot: mirrored, turned about the wrist, too large, too small, doubled, or gone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.cutout import Bones, Crop, Cutout, Matte, cut
from asap_train.degrade.digits import hand_bones
from asap_train.degrade.fill import fill, grown
from asap_train.degrade.lines import Floats

SOLE = 0.24
"""Half a foot's width over its length."""


@dataclass(frozen=True)
class Whole:
    """A cut-out hand or foot: where it is joined to the limb, and its far end, (x, y) in the crop.

    `across` is the unit vector that points the other way in a mirrored one: from the little finger to the thumb, from
    heel to toe.
    """

    cutout: Cutout
    joint: Floats
    end: Floats
    across: Floats


def cut_whole_hand(pixels: NDArray[np.uint8], points: Floats) -> Whole | None:
    """Cut a hand with 21 points (21, 2) out of a photo, with room to turn it about the wrist."""
    return _cut(pixels, points, hand_bones(points), 9, (points[9] - points[0])[::-1] * (-1, 1))


def cut_foot(pixels: NDArray[np.uint8], points: Floats) -> Whole | None:
    """Cut a foot with its ankle, heel and toe (3, 2) out of a photo, likewise."""
    thickness = SOLE * float(max(np.hypot(*(points[2] - points[1])), np.hypot(*(points[2] - points[0]))))
    return _cut(pixels, points, Bones((points[[0, 2]], points[[0, 1]]), (points,), thickness), 2, points[2] - points[1])


def _cut(pixels: NDArray[np.uint8], points: Floats, bones: Bones, end: int, across: Floats) -> Whole | None:
    from_joint = points - points[0]
    reach = float(np.hypot(*from_joint.T).max())
    around = points[0] + reach * np.array([[-1, -1], [1, 1]])
    cutout = cut(pixels, np.array([*points, *around, *(points[0] + 1.6 * from_joint)]), bones, 3 * bones.thickness)
    unit = across / max(1e-6, float(np.hypot(*across)))
    return None if cutout is None else Whole(cutout, cutout.points[0], cutout.points[end], unit)


def _gone(whole: Whole) -> Crop:
    """The crop without the part, from the joint on."""
    cutout, joint = whole.cutout, whole.joint
    part = grown(cutout.matte > 0.1, max(2.0, 0.45 * cutout.thickness))
    height, width = cutout.matte.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = (whole.end - joint) / max(1e-6, float(np.hypot(*(whole.end - joint))))
    beyond = np.clip((x - joint[0]) * along[0] + (y - joint[1]) * along[1] + 0.5, 0, 1)
    hole = np.asarray(cv2.blur(part.astype(np.float32), (3, 3)) * beyond, np.float32)
    return _blended(cutout.pixels, fill(cutout.pixels, hole > 0.02, part), hole)


def _blended(below: Crop, above: Crop, matte: Matte) -> Crop:
    return np.asarray(below * (1 - matte[..., None]) + above * matte[..., None], np.float32)


def _mapped(whole: Whole, linear: Floats) -> tuple[Crop, Matte] | None:
    """The part's pixels and matte through a linear map (2, 2) about its joint; None if it would leave the crop."""
    cutout, joint = whole.cutout, whole.joint
    affine, size = np.column_stack([linear, joint - linear @ joint]), cutout.matte.shape[::-1]
    matte = np.asarray(cv2.warpAffine(cutout.matte, affine, size), np.float32)
    edges = (matte[0], matte[-1], matte[:, 0], matte[:, -1])
    if max(float(edge.max()) for edge in edges) > 0.5:
        return None
    return np.asarray(cv2.warpAffine(cutout.pixels, affine, size, borderMode=cv2.BORDER_REPLICATE), np.float32), matte


def _moved(whole: Whole, linear: Floats) -> Crop | None:
    """The part taken through a linear map about its joint, and what was behind it filled in."""
    mapped = _mapped(whole, linear)
    return None if mapped is None else _blended(_gone(whole), *mapped)


def _turn(degrees: float) -> Floats:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def mirrored(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """A left hand in a right one's place; a foot that points backwards."""
    return _moved(whole, np.eye(2) - 2 * np.outer(whole.across, whole.across))


def turned(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """Turned sideways about its joint, further than the joint goes."""
    return _moved(whole, _turn(rng.uniform(75, 130) * rng.choice((-1, 1))))


def large(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """Half as large again, or more."""
    return _moved(whole, rng.uniform(1.45, 1.8) * np.eye(2))


def small(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """About half as large as it was."""
    return _moved(whole, rng.uniform(0.45, 0.6) * np.eye(2))


def doubled(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """A second one grows from the same joint, behind the first."""
    cutout = whole.cutout
    mapped = _mapped(whole, _turn(rng.uniform(60, 110) * rng.choice((-1, 1))))
    if mapped is None:
        return None
    shade = 1 - 0.3 * cv2.GaussianBlur(cutout.matte, (0, 0), max(1.0, 0.5 * cutout.thickness))
    return _blended(cutout.pixels, mapped[0] * shade[..., None], mapped[1] * (1 - cutout.matte))


def missing(whole: Whole, rng: np.random.Generator) -> Crop | None:
    """The limb ends at wrist or ankle."""
    return _gone(whole)
