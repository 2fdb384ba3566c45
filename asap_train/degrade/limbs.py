"""Errors of arms and legs: one more, one less, a part less, one too short, too long, or bent where there is no joint."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.branches import Branch, replaced, within, without
from asap_train.degrade.cutout import Bones, Crop, Cutout, box_about, cut, laid, over
from asap_train.degrade.lines import Floats, line_through

THICKNESS = 0.17
"""Half a clothed limb's width, over the length of its upper bone."""
EXTREMITY = 0.5
"""How far hand or foot reach beyond wrist or ankle, over the length of the lower bone."""


class Limb:
    """A cut-out arm or leg with its hand or foot."""

    def __init__(self, cutout: Cutout) -> None:
        self.cutout = cutout
        lower = float(np.hypot(*(cutout.points[2] - cutout.points[1])))
        line = line_through(cutout.points, after=EXTREMITY * lower)
        box = box_about(line.points, 2.5 * cutout.thickness, cutout.matte.shape)
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        along, beside = line.place_box(box)
        own = np.clip(1.6 * cutout.thickness - np.abs(beside) + 0.5, 0, 1) * np.clip(along / cutout.thickness + 0.5, 0, 1)
        matte = np.zeros_like(cutout.matte)
        matte[place] = cutout.matte[place] * own
        self.branch = Branch(line, box, matte, np.zeros_like(matte), 1.2 * cutout.thickness)


def cut_limb(pixels: NDArray[np.uint8], points: Floats) -> Limb | None:
    """Cut a limb with its three joints (3, 2) out of a photo; None where it is hardly in it."""
    upper, lower = np.hypot(*np.diff(points, axis=0).T)
    thickness = THICKNESS * float(max(upper, lower))
    end = points[2] + EXTREMITY * (points[2] - points[1])
    line = np.array([*points, end])
    cutout = cut(pixels, line, Bones((line,), (), thickness), 3.5 * thickness)
    if cutout is None:
        return None
    made = Cutout(cutout.pixels, cutout.matte, cutout.corner, cutout.points[:3], thickness)
    return Limb(made)


def extra(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """A copy of the limb, turned about its first joint, comes out from behind it."""
    cutout, branch = limb.cutout, limb.branch
    for sign in rng.permutation((-1, 1)):
        made = branch.line.turned(branch.line.points[0], sign * rng.uniform(22, 48))
        if not within(cutout, made):
            continue
        (x1, y1, x2, y2), pixels, matte = laid(cutout, branch.matte, branch.line, made)
        hidden = branch.matte[y1:y2, x1:x2]
        shade = 1 - 0.3 * cv2.GaussianBlur(hidden, (0, 0), max(1.0, 0.3 * cutout.thickness))
        return over(cutout.pixels, (x1, y1, x2, y2), pixels * shade[..., None], matte * (1 - hidden))
    return None


def missing(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is taken away from near its first or its second joint on."""
    upper = float(np.hypot(*(limb.cutout.points[1] - limb.cutout.points[0])))
    root = rng.choice((1.2 * limb.cutout.thickness, upper))
    return without(limb.cutout, limb.branch, root)


def short(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is about half as long as it was."""
    return replaced(limb.cutout, limb.branch, limb.branch.line.scaled(rng.uniform(0.5, 0.65)))


def bent(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is bent where there is no joint, in the middle of its lower bone."""
    upper, lower = np.hypot(*np.diff(limb.cutout.points, axis=0).T)
    share = float((upper + 0.45 * lower) / limb.branch.line.length)
    for sign in rng.permutation((-1, 1)):
        made = replaced(limb.cutout, limb.branch, limb.branch.line.bent(share, sign * rng.uniform(50, 85)))
        if made is not None:
            return made
    return None
