"""Skeletons as ControlNets know them: the points and colours of OpenPose and DWPose, drawn on black.

The convention is that of the pictures which pose ControlNets were trained on: hands as bones in the hues of a circle
with blue dots, bodies as ellipses in the colours of the 18-point model at 0.6 of their brightness with dots at full.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hafbench.types import Pixels

Points = NDArray[np.float64]
RGB = tuple[int, int, int]
Bone = tuple[int, int]

DRAWN_AT = 512
"""Line widths below are those of a picture this many pixels long."""
BONE, STICK, DOT = 2, 4, 4
"""Width of a hand's bone, half the width of a limb, radius of a joint, in pixels."""
DOT_OF_HAND: RGB = (0, 0, 255)
HAND_BONES: tuple[Bone, ...] = tuple(
    (0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21)
)  # wrist to tip, thumb first: the order of MediaPipe and of OpenPose
# The 18 colours of bodies: bone i and point i each have colour i.
COLOURS: tuple[RGB, ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
# A limb's first point (shoulder, hip) and first bone in OpenPose's 18-point body; left is the person's own.
LIMBS: dict[str, tuple[int, int]] = {
    "right_arm": (2, 2),
    "left_arm": (5, 4),
    "right_leg": (8, 7),
    "left_leg": (11, 10),
}


@dataclass(frozen=True)
class Skeleton:
    """Joints and bones of a hand or a limb: points (n, 2) in pixels, bones between them, and what each is drawn in.

    `solid` bones are a limb's ellipses; others are lines.
    """

    points: Points
    bones: tuple[Bone, ...]
    colours: tuple[RGB, ...]
    dots: tuple[RGB, ...]
    solid: bool

    def tips(self) -> list[int]:
        """The points that one bone ends in, and none begins: the ends of digits or limbs."""
        starts = {start for start, _ in self.bones}
        return [end for _, end in self.bones if end not in starts]


def hand_skeleton(points: Points) -> Skeleton:
    """A hand of 21 points (21, 2)."""
    hues = (colorsys.hsv_to_rgb(i / len(HAND_BONES), 1.0, 1.0) for i in range(len(HAND_BONES)))
    colours: tuple[RGB, ...] = tuple((int(255 * r), int(255 * g), int(255 * b)) for r, g, b in hues)
    return Skeleton(points, HAND_BONES, colours, (DOT_OF_HAND,) * 21, solid=False)


def limb_skeleton(points: Points, limb: str) -> Skeleton:
    """A limb of three points (3, 2), in the colours of a key of LIMBS."""
    point, bone = LIMBS[limb]
    return Skeleton(points, ((0, 1), (1, 2)), COLOURS[bone : bone + 2], COLOURS[point : point + 3], solid=True)


def draw_skeleton(skeleton: Skeleton, width: int, height: int) -> Pixels:
    """RGB (height, width, 3) on black; what lies outside is cut off."""
    canvas = np.zeros((height, width, 3), np.uint8)
    scale = max(width, height) / DRAWN_AT
    joints = skeleton.points.round().astype(int).tolist()
    for (start, end), colour in zip(skeleton.bones, skeleton.colours, strict=True):
        if skeleton.solid:
            cv2.fillConvexPoly(canvas, _ellipse(joints[start], joints[end], max(1, round(STICK * scale))), colour)
        else:
            cv2.line(canvas, joints[start], joints[end], colour, max(1, round(BONE * scale)))
    if skeleton.solid:
        canvas = (canvas * 0.6).astype(np.uint8)
    for joint, colour in zip(joints, skeleton.dots, strict=True):
        cv2.circle(canvas, joint, max(1, round(DOT * scale)), colour, -1)
    return canvas


def _ellipse(start: list[int], end: list[int], half_width: int) -> NDArray[np.int32]:
    (x0, y0), (x1, y1) = start, end
    middle = ((x0 + x1) // 2, (y0 + y1) // 2)
    length, turn = np.hypot(x1 - x0, y1 - y0), np.degrees(np.arctan2(y1 - y0, x1 - x0))
    return np.asarray(cv2.ellipse2Poly(middle, (int(length / 2), half_width), int(turn), 0, 360, 1))
