"""A hand: its pose for a gesture, and its digits as points and radii that errors can change."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hafbench.mannequin.attributes import RAISED, Gesture, Side
from hafbench.mannequin.skeleton import (
    ANATOMY,
    DIGITS,
    FINGER_LIMITS,
    THUMB_LIMITS,
    WRIST_LIMITS,
    Array,
    digit_points,
)


@dataclass(frozen=True)
class Digit:
    """Four joints from base to tip (4, 3) and radii (4,), in the hand's frame.

    `twin` is a second end (k, 3) that grows from the digit (a forked tip, the partner of a fused digit).
    """

    name: str
    points: Array
    radii: Array
    raised: bool
    defect: str | None = None
    twin: Array | None = None


@dataclass(frozen=True)
class Hand:
    """A posed hand: `place` (3,), `turn` (3, 3) and `scale` bring its frame into the scene.

    `angles` (5, 4) are the joint angles it was posed with; `wrist` turns it on the forearm: deviation and flexion.
    """

    side: Side
    gesture: Gesture
    angles: Array
    digits: tuple[Digit, ...]
    wrist: tuple[float, float] = (0.0, 0.0)
    place: Array = field(default_factory=lambda: np.zeros(3))
    turn: Array = field(default_factory=lambda: np.eye(3))
    scale: float = 1.0
    girth: float = 1.0
    defect: str | None = None

    def world(self, points: Array) -> Array:
        """Points (n, 3) of the hand's frame in the scene."""
        from hafbench.mannequin.skeleton import rotation

        mirror = np.array([1.0 if self.side == "right" else -1.0, 1.0, 1.0])
        turned = rotation(2, self.wrist[0]) @ rotation(0, self.wrist[1])
        moved: Array = (points * mirror) @ (self.turn @ turned).T * self.scale + self.place
        return moved


# Angles drawn uniformly from these; the first of a finger is a factor of its share of the spread.
_RAISED_FINGER = ((0.55, 1.05), (-6.0, 14.0), (0.0, 16.0), (0.0, 12.0))
_FOLDED_FINGER = ((0.0, 0.3), (68.0, 86.0), (90.0, 108.0), (40.0, 70.0))
_GRIP_FINGER = ((0.0, 0.3), (42.0, 58.0), (72.0, 92.0), (38.0, 56.0))
_RAISED_THUMB = ((42.0, 64.0), (4.0, 20.0), (0.0, 14.0), (-8.0, 16.0))
_FOLDED_THUMB = ((6.0, 20.0), (34.0, 48.0), (38.0, 58.0), (38.0, 70.0))
_GRIP_THUMB = ((20.0, 34.0), (30.0, 44.0), (20.0, 40.0), (20.0, 50.0))
_RELAXED_FINGER = ((0.1, 0.7), (8.0, 30.0), (10.0, 35.0), (5.0, 20.0))
_SPREAD = {"index": 11.0, "middle": 2.0, "ring": -8.0, "little": -15.0}


def pose_angles(gesture: Gesture, rng: np.random.Generator, relaxed: bool = False) -> Array:
    """Joint angles (5, 4) of a gesture, within human limits, a little different at each draw."""
    rows = []
    folded_finger, folded_thumb = (_GRIP_FINGER, _GRIP_THUMB) if gesture == "grip" else (_FOLDED_FINGER, _FOLDED_THUMB)
    raised_finger = _RELAXED_FINGER if relaxed else _RAISED_FINGER
    # Fingers fold together, each a little on its own.
    common = rng.uniform(0, 1, 3)
    for name, up in zip(DIGITS, RAISED[gesture], strict=True):
        table = (_RAISED_THUMB if up else folded_thumb) if name == "thumb" else raised_finger if up else folded_finger
        limits = THUMB_LIMITS if name == "thumb" else FINGER_LIMITS
        share = np.concatenate([rng.uniform(0, 1, 1), 0.6 * common + 0.4 * rng.uniform(0, 1, 3)])
        row = [low + part * (high - low) for (low, high), part in zip(table, share, strict=True)]
        if name != "thumb":
            row[0] *= _SPREAD[name]
        rows.append([float(np.clip(v, *limit)) for v, limit in zip(row, limits.values(), strict=True)])
    return np.array(rows)


def make_hand(side: Side, gesture: Gesture, rng: np.random.Generator, relaxed: bool = False) -> Hand:
    """A correct hand in a gesture, at the origin."""
    angles = pose_angles(gesture, rng, relaxed)
    girth, slender = rng.uniform(0.92, 1.08), rng.uniform(0.94, 1.06)
    digits = []
    for name, row, up in zip(DIGITS, angles, RAISED[gesture], strict=True):
        points = digit_points(name, row)
        points = points[0] + (points - points[0]) * slender
        digits.append(Digit(name, points, np.array(ANATOMY[name].radii) * girth, up))
    spread = [(high - low) * 0.4 for low, high in WRIST_LIMITS.values()]
    wrist = tuple(float(v) for v in rng.uniform(-0.5, 0.5, 2) * spread)
    return Hand(side, gesture, angles, tuple(digits), (wrist[0], wrist[1]), girth=girth)
