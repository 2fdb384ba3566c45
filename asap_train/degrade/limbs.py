"""Errors of arms and legs: one more, one less, one too short, or bent where there is no joint.

A limb that is bent sharply at elbow or knee is treated as its lower half only: a forearm that grows from the elbow.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.branches import Branch, freedom_of, replaced, within, without
from asap_train.degrade.cutout import Bones, Crop, Cutout, box_about, cut, laid, over
from asap_train.degrade.lines import Floats, line_through

THICKNESS = 0.17
"""Half a clothed limb's width, over the length of its longer bone."""
EXTREMITY = 0.55
"""How far hand or foot reach beyond wrist or ankle, over the length of the lower bone."""
STRAIGHT = 0.9
"""The distance from shoulder to wrist over the length of both bones; a limb of a lower one is bent sharply."""
LEAST_FREEDOM = 0.4


@dataclass(frozen=True)
class Limb:
    """A cut-out arm or leg, or the lower half of one, with its hand or foot."""

    cutout: Cutout
    branch: Branch


def cut_limb(pixels: NDArray[np.uint8], points: Floats) -> Limb | None:
    """Cut a limb with its three joints (3, 2) out of a photo; None where it does not stand out."""
    bones = np.hypot(*np.diff(points, axis=0).T)
    joints = points if np.hypot(*(points[2] - points[0])) >= STRAIGHT * bones.sum() else points[1:]
    thickness = THICKNESS * float(bones.max())
    joints = np.array([*joints, points[2] + EXTREMITY * (points[2] - points[1])])
    cutout = cut(pixels, joints, Bones((joints,), (), thickness), 4.5 * thickness)
    if cutout is None:
        return None
    line = line_through(cutout.points)
    root = thickness if len(joints) == 4 else 0.6 * thickness
    if not within(cutout, line) or freedom_of(cutout, line, root) < LEAST_FREEDOM:
        return None
    box = box_about(line.points, 2.5 * thickness, cutout.matte.shape)
    place = np.s_[box[1] : box[3], box[0] : box[2]]
    along, beside = line.place_box(box)
    own = np.clip(1.5 * thickness - np.abs(beside) + 0.5, 0, 1) * np.clip(2 * along / thickness, 0, 1)
    matte = np.zeros_like(cutout.matte)
    matte[place] = cutout.matte[place] * own
    return Limb(cutout, Branch(line, box, matte, np.zeros_like(matte), root))


def extra(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """A copy of the limb, turned about its first joint, comes out from behind it."""
    cutout, branch = limb.cutout, limb.branch
    for sign in rng.permutation((-1, 1)):
        made = branch.line.turned(branch.line.points[0], sign * rng.uniform(25, 55))
        if not within(cutout, made):
            continue
        (x1, y1, x2, y2), pixels, matte = laid(cutout, branch.matte, branch.line, made)
        hidden = branch.matte[y1:y2, x1:x2]
        shade = 1 - 0.3 * cv2.GaussianBlur(hidden, (0, 0), max(1.0, 0.3 * cutout.thickness))
        return over(cutout.pixels, (x1, y1, x2, y2), pixels * shade[..., None], matte * (1 - hidden))
    return None


def missing(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is taken away, but for a stump."""
    return without(limb.cutout, limb.branch, limb.branch.root + rng.uniform(0, 0.25) * limb.branch.line.length)


def short(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is about half as long as it was."""
    return replaced(limb.cutout, limb.branch, limb.branch.line.scaled(rng.uniform(0.5, 0.65)))


def bent(limb: Limb, rng: np.random.Generator) -> Crop | None:
    """The limb is bent where there is no joint, in the middle of its lower bone."""
    end, joint = limb.cutout.points[-1], limb.cutout.points[-3]
    share = 1 - 0.72 * float(np.hypot(*(end - joint))) / limb.branch.line.length
    for sign in rng.permutation((-1, 1)):
        made = replaced(limb.cutout, limb.branch, limb.branch.line.bent(share, sign * rng.uniform(50, 85)))
        if made is not None:
            return made
    return None
