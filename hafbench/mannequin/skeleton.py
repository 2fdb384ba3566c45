"""The bones: lengths, joint limits and forward kinematics of hands and bodies.

A hand's own frame: the wrist at the origin, y towards the fingers, z out of the palm, x to the thumb's side (right
hand; a left hand is its mirror image). Its unit is the hand's length. A body's frame: y up, z to the front, x to the
person's left; its unit is the body's height. Angles are degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DIGITS = ("thumb", "index", "middle", "ring", "little")

# A finger's row of angles; the thumb's first two are its own.
FINGER_LIMITS = {"abduction": (-25.0, 25.0), "mcp": (-20.0, 95.0), "pip": (0.0, 110.0), "dip": (0.0, 80.0)}
THUMB_LIMITS = {"abduction": (0.0, 70.0), "opposition": (0.0, 60.0), "mcp": (-10.0, 70.0), "ip": (-15.0, 85.0)}
WRIST_LIMITS = {"deviation": (-25.0, 25.0), "flexion": (-35.0, 35.0)}
BODY_LIMITS = {"elbow": (0.0, 150.0), "knee": (0.0, 140.0), "shoulder": (0.0, 178.0), "hip": (0.0, 60.0)}


@dataclass(frozen=True)
class Anatomy:
    """One digit's base (3,), bone lengths (3,), radii at its four joints and resting angle in the palm's plane."""

    base: tuple[float, float, float]
    lengths: tuple[float, float, float]
    radii: tuple[float, float, float, float]
    rest: float


_FINGER = (0.063, 0.058, 0.052, 0.043)
ANATOMY: dict[str, Anatomy] = {
    "thumb": Anatomy((0.11, 0.13, 0.03), (0.20, 0.17, 0.14), (0.080, 0.070, 0.062, 0.050), 0.0),
    "index": Anatomy((0.155, 0.50, 0.0), (0.245, 0.145, 0.10), _FINGER, 4.0),
    "middle": Anatomy((0.045, 0.53, 0.0), (0.27, 0.165, 0.105), _FINGER, 0.0),
    "ring": Anatomy((-0.065, 0.505, 0.0), (0.245, 0.155, 0.10), (0.060, 0.055, 0.050, 0.041), -4.0),
    "little": Anatomy((-0.16, 0.455, 0.0), (0.19, 0.11, 0.09), (0.054, 0.049, 0.044, 0.036), -9.0),
}


def unit(vector: Array) -> Array:
    """The vector at length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def rotation(axis: int, degrees: float) -> Array:
    """The 3 x 3 matrix that turns about x (0), y (1) or z (2), right-handed."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def finger_points(anatomy: Anatomy, angles: Array) -> Array:
    """The four joints (4, 3) of a finger bent by (abduction, mcp, pip, dip)."""
    side = math.radians(anatomy.rest + angles[0])
    points = [np.array(anatomy.base)]
    bend = 0.0
    for length, angle in zip(anatomy.lengths, angles[1:], strict=True):
        bend += math.radians(angle)
        along = np.array([math.sin(side) * math.cos(bend), math.cos(side) * math.cos(bend), math.sin(bend)])
        points.append(points[-1] + length * along)
    return np.array(points)


def thumb_points(anatomy: Anatomy, angles: Array) -> Array:
    """The four joints (4, 3) of a thumb bent by (abduction, opposition, mcp, ip)."""
    out, opposed = math.radians(angles[0]), math.radians(angles[1])
    first = unit(np.array([math.sin(out), math.cos(out), math.tan(opposed)]))
    across = np.array([-1.0, 0.2, 0.35])
    across = unit(across - first * float(across @ first))
    points = [np.array(anatomy.base), np.array(anatomy.base) + anatomy.lengths[0] * first]
    bend = 0.0
    for length, angle in zip(anatomy.lengths[1:], angles[2:], strict=True):
        bend += math.radians(angle)
        points.append(points[-1] + length * (math.cos(bend) * first + math.sin(bend) * across))
    return np.array(points)


def digit_points(name: str, angles: Array) -> Array:
    """The four joints (4, 3) of a digit in the hand's frame, from base to tip."""
    return (thumb_points if name == "thumb" else finger_points)(ANATOMY[name], angles)


def within_limits(angles: Array) -> bool:
    """Whether a hand's (5, 4) angles are ones that a human hand can take."""
    tables = [THUMB_LIMITS] + [FINGER_LIMITS] * 4
    return all(
        low - 1e-9 <= value <= high + 1e-9
        for row, table in zip(angles, tables, strict=True)
        for value, (low, high) in zip(row, table.values(), strict=True)
    )


def reach(start: Array, target: Array, pole: Array, upper: float, lower: float) -> tuple[Array, Array]:
    """Middle joint and end of a two-bone limb that reaches for `target`, bent towards `pole` (law of cosines)."""
    line = target - start
    distance = float(np.clip(np.linalg.norm(line), abs(upper - lower) + 1e-3, (upper + lower) * 0.999))
    along = unit(line)
    bent = unit(pole - along * float(pole @ along))
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    sine = math.sqrt(max(0.0, 1 - cosine**2))
    return start + upper * (cosine * along + sine * bent), start + distance * along


def flexion(points: Array) -> float:
    """The bend at the middle of three joints (3, 3), in degrees: 0 is straight."""
    first, second = unit(points[1] - points[0]), unit(points[2] - points[1])
    return math.degrees(math.acos(float(np.clip(first @ second, -1, 1))))
