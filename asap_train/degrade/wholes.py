"""Errors of a whole hand or foot: mirrored, turned about the wrist, too large, too small, doubled, or gone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.cutout import Bones, Crop, Cutout, Matte, cut
from asap_train.degrade.digits import Hand
from asap_train.degrade.fill import fill
from asap_train.degrade.lines import Floats

SOLE = 0.24
"""Half a foot's width over its length."""


@dataclass(frozen=True)
class Foot:
    """A cut-out foot."""

    cutout: Cutout


def cut_foot(pixels: NDArray[np.uint8], points: Floats) -> Foot | None:
    """Cut a foot with its ankle, heel and toe (3, 2) out of a photo."""
    thickness = SOLE * float(max(np.hypot(*(points[2] - points[1])), np.hypot(*(points[2] - points[0]))))
    lines = (points[[0, 2]], points[[0, 1]])
    cutout = cut(pixels, points, Bones(lines, (points,), thickness), 5 * thickness)
    return None if cutout is None else Foot(cutout)


def _axis(part: Hand | Foot) -> tuple[Floats, Floats]:
    """Where the part is joined to the limb, and its far end: wrist and middle knuckle, or ankle and toe."""
    points = part.cutout.points
    return points[0], points[9 if isinstance(part, Hand) else 2]


def _gone(cutout: Cutout, joint: Floats, end: Floats) -> Crop:
    """The crop without the part; at the joint the limb ends round."""
    hole, part = _hole(cutout, joint, end)
    filled = fill(cutout.pixels, hole > 0.02, part)
    return np.asarray(cutout.pixels * (1 - hole[..., None]) + filled * hole[..., None], np.float32)


def _hole(cutout: Cutout, joint: Floats, end: Floats) -> tuple[Matte, NDArray[np.bool_]]:
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(2, round(0.45 * cutout.thickness)) + 1,) * 2)
    part = cv2.dilate((cutout.matte > 0.1).astype(np.uint8), brush)
    height, width = cutout.matte.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = (end - joint) / max(1e-6, float(np.hypot(*(end - joint))))
    beyond = np.clip((x - joint[0]) * along[0] + (y - joint[1]) * along[1] + 0.5, 0, 1)
    return np.asarray(cv2.blur(part.astype(np.float32), (3, 3)) * beyond, np.float32), part > 0


def _moved(part: Hand | Foot, linear: Floats) -> Crop:
    """The part taken through a linear map (2, 2) about its joint, and what was behind it filled in."""
    cutout, (joint, end) = part.cutout, _axis(part)
    height, width = cutout.matte.shape
    affine = np.column_stack([linear, joint - linear @ joint])
    pixels = cv2.warpAffine(cutout.pixels, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
    matte = cv2.warpAffine(cutout.matte, affine, (width, height))
    return np.asarray(_gone(cutout, joint, end) * (1 - matte[..., None]) + pixels * matte[..., None], np.float32)


def mirrored(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """A left one in a right one's place: mirrored across its long axis."""
    joint, end = _axis(part)
    x, y = (end - joint) / max(1e-6, float(np.hypot(*(end - joint))))
    return _moved(part, np.array([[x * x - y * y, 2 * x * y], [2 * x * y, y * y - x * x]]))


def turned(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """Turned sideways about its joint, further than the joint goes."""
    angle = np.radians(rng.uniform(75, 130) * rng.choice((-1, 1)))
    return _moved(part, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def large(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """Half as large again, or more."""
    return _moved(part, rng.uniform(1.45, 1.8) * np.eye(2))


def small(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """About half as large as it was."""
    return _moved(part, rng.uniform(0.45, 0.6) * np.eye(2))


def doubled(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """A second one grows from the same joint, behind the first."""
    cutout, (joint, _) = part.cutout, _axis(part)
    angle = np.radians(rng.uniform(60, 110) * rng.choice((-1, 1)))
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    height, width = cutout.matte.shape
    affine = np.column_stack([linear, joint - linear @ joint])
    pixels = cv2.warpAffine(cutout.pixels, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
    matte = cv2.warpAffine(cutout.matte, affine, (width, height)) * (1 - cutout.matte)
    shade = 1 - 0.3 * cv2.GaussianBlur(cutout.matte, (0, 0), max(1.0, 0.5 * cutout.thickness))
    return np.asarray(cutout.pixels * (1 - matte[..., None]) + pixels * (shade * matte)[..., None], np.float32)


def missing(part: Hand | Foot, rng: np.random.Generator) -> Crop | None:
    """The limb ends at wrist or ankle."""
    return _gone(part.cutout, *_axis(part))
