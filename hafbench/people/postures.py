"""Whole-body poses: where arms and legs point, and the bones' rotations that bring them there.

Directions are (out, up, front): out is to the limb's own side. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hafbench.people.hand_frame import Side, hand_of
from hafbench.people.mesh import Array, Skeleton, align, rotation
from hafbench.people.poses import Fingers, HandPose

Direction = tuple[float, float, float]
SIDES: tuple[Side, Side] = ("L", "R")
TWIST_LIMIT = 85.0
"""Degrees by which a forearm turns about itself from its middle."""


@dataclass(frozen=True)
class Arm:
    """Directions of the upper arm and the forearm, and out of the palm. gestures: of the hand, one is drawn.

    reach: instead of the directions, the point that the wrist goes to, in shares of the body's height from the ground.
    along: from the wrist to the fingers; if None, the forearm's direction, and the wrist bent as the hand's pose says.
    """

    upper: Direction
    fore: Direction
    palm: Direction
    gestures: tuple[str, ...] = ("relaxed",)
    reach: Direction | None = None
    along: Direction | None = None


@dataclass(frozen=True)
class Legs:
    """Directions of thighs and shins, left then right."""

    thighs: tuple[Direction, Direction]
    shins: tuple[Direction, Direction]


_SHOWN = ("open", "spread", "together", "one", "two", "three", "four", "fist", "horns", "ok")
ARMS: dict[str, Arm] = {
    "down": Arm((0.2, -1, -0.02), (0.1, -1, 0.22), (-1, 0, 0.15), ("relaxed", "relaxed", "fist")),
    "out": Arm((1, -0.06, 0), (1, 0.0, 0.06), (0, -0.7, 0.7), ("open", "together", "relaxed")),
    "up": Arm((0.42, 1, 0.05), (0.15, 1, 0.1), (0, 0, 1), ("open", "spread", "fist")),
    "wave": Arm((0.75, -0.5, 0.25), (0.35, 1, 0.3), (0, 0, 1), ("open", "spread", "two")),
    "hips": Arm((0.8, -0.7, -0.3), (-0.7, -0.5, 0.35), (-0.3, -0.5, -0.8), ("relaxed", "fist"), (0.148, 0.575, 0.04)),
    "offer": Arm((0.18, -0.9, 0.3), (0.1, 0.05, 1), (0, 1, 0.1), ("open", "relaxed", "spread")),
    "shake": Arm((0.15, -0.9, 0.35), (-0.1, 0.05, 1), (-1, 0, 0), ("together", "open")),
    "show": Arm((0.35, -0.8, 0.5), (0.1, 0.75, 0.6), (0, 0.2, 1), _SHOWN),
    "back_shown": Arm((0.35, -0.8, 0.5), (-0.1, 0.8, 0.55), (0, 0, -1), ("two", "one", "fist", "spread", "together")),
    "point": Arm((0.3, -0.35, 0.9), (0.0, 0.05, 1), (-0.3, -1, 0), ("one", "gun")),
    "point_side": Arm((0.95, -0.15, 0.3), (1, 0.05, 0.2), (0, -0.6, 0.8), ("one", "gun")),
    "thumb": Arm((0.3, -0.9, 0.3), (-0.15, 0.35, 0.9), (-1, 0, 0.1), ("thumb_up",)),
    "chin": Arm((0.3, -0.8, 0.5), (-0.3, 0.9, 0.2), (0.1, 0.4, -1), ("relaxed", "fist"), (0.03, 0.79, 0.145)),
    "cheek": Arm(
        (0.5, -0.7, 0.5), (-0.3, 0.9, 0.2), (-1, 0.1, -0.35), ("together",), (0.070, 0.81, 0.088), (-0.04, 1, -0.2)
    ),
    "chest": Arm((0.4, -0.9, 0.2), (-0.8, 0.2, 0.5), (0, 0, -1), ("together", "relaxed"), (0.05, 0.715, 0.135)),
    "folded": Arm((0.3, -0.9, 0.3), (-0.9, 0.1, 0.4), (-0.1, -0.2, -1), ("relaxed", "together"), (-0.045, 0.68, 0.155)),
    "prayer": Arm(
        (0.6, -0.8, 0.1), (-0.6, 0.5, 0.5), (-1, 0, 0), ("together",), (0.016, 0.69, 0.15), (-0.03, 1, 0.12)
    ),
    "lap": Arm((0.2, -0.9, 0.3), (-0.2, -0.4, 0.9), (0, -1, 0), ("relaxed", "together")),
    "swing_front": Arm((0.12, -0.9, 0.4), (0.02, -0.45, 0.9), (-1, 0, 0.1), ("relaxed", "fist")),
    "swing_back": Arm((0.2, -0.9, -0.45), (0.12, -1, 0.1), (-1, 0, 0), ("relaxed", "fist")),
}  # fmt: skip
LEGS: dict[str, Legs] = {
    "stand": Legs(((0.10, -1, 0.0), (0.10, -1, 0.02)), ((0.04, -1, -0.04), (0.05, -1, -0.05))),
    "apart": Legs(((0.27, -1, 0.0), (0.27, -1, 0.02)), ((0.2, -1, -0.04), (0.2, -1, -0.05))),
    "contrapposto": Legs(((0.04, -1, 0.0), (0.18, -1, 0.14)), ((0.03, -1, -0.03), (0.1, -1, -0.16))),
    "walk": Legs(((0.06, -1, 0.42), (0.06, -1, -0.28)), ((0.03, -1, 0.18), (0.03, -1, -0.55))),
    "run": Legs(((0.06, -0.75, 0.8), (0.06, -1, -0.4)), ((0.02, -1, -0.35), (0.02, -0.5, -0.9))),
    "lunge": Legs(((0.12, -0.5, 0.9), (0.08, -1, -0.6)), ((0.05, -1, 0.02), (0.05, -0.9, -0.8))),
    "sit": Legs(((0.2, -0.1, 1), (0.22, -0.1, 1)), ((0.05, -1, 0.05), (0.08, -1, 0.08))),
    "knee_up": Legs(((0.05, -1, 0.0), (0.1, -0.1, 1)), ((0.03, -1, -0.03), (0.05, -1, -0.1))),
}  # fmt: skip
# Arms left and right, and legs; each posture may be mirrored.
POSTURES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "standing": ("down", "down", ("stand", "contrapposto", "apart")),
    "waving": ("wave", "down", ("stand", "contrapposto", "walk")),
    "arms_up": ("up", "up", ("stand", "apart", "knee_up")),
    "arms_out": ("out", "out", ("stand", "apart", "lunge")),
    "hands_on_hips": ("hips", "hips", ("stand", "apart", "contrapposto")),
    "one_hand_on_hip": ("hips", "down", ("stand", "contrapposto")),
    "pointing": ("point", "down", ("stand", "walk")),
    "pointing_aside": ("point_side", "hips", ("stand", "contrapposto", "lunge")),
    "showing": ("show", "down", ("stand", "contrapposto")),
    "showing_both": ("show", "show", ("stand", "apart", "sit")),
    "offering": ("offer", "offer", ("stand", "sit", "walk")),
    "handshake": ("shake", "down", ("stand", "walk")),
    "thumb_up": ("thumb", "down", ("stand", "contrapposto", "sit")),
    "thinking": ("chin", "folded", ("stand", "contrapposto", "sit")),
    "hand_on_cheek": ("cheek", "down", ("stand", "sit", "contrapposto")),
    "prayer": ("prayer", "prayer", ("stand", "sit", "contrapposto")),
    "hand_on_chest": ("chest", "down", ("stand", "contrapposto")),
    "walking": ("swing_back", "swing_front", ("walk",)),
    "running": ("swing_back", "swing_front", ("run",)),
    "sitting": ("lap", "lap", ("sit",)),
    "lunging": ("out", "up", ("lunge",)),
    "victory": ("up", "hips", ("stand", "apart", "knee_up")),
}  # fmt: skip


def _unit(v: Array) -> Array:
    unit: Array = v / np.linalg.norm(v)
    return unit


def _own(direction: Direction | Array, side: Side) -> Array:
    own: Array = np.array(direction, float) * np.array([1.0 if side == "L" else -1.0, 1, 1])
    return own


def _frame(first: Array, hinge: Array) -> Array:
    """Axes (3, 3) as columns: along the first, and near the hinge."""
    across = _unit(hinge - first * (hinge @ first))
    return np.stack([first, across, np.cross(first, across)], 1)


def bent(start: Array, lengths: tuple[float, float], target: Array, elbow: Array) -> tuple[Array, Array]:
    """Directions of two bones from `start` that end at the target, the joint between them towards `elbow` (3,)."""
    first, second = lengths
    way = target - start
    distance = float(np.clip(np.linalg.norm(way), abs(first - second) + 0.01, first + second - 0.004))
    along = _unit(way)
    aside = _unit(elbow - along * (elbow @ along))
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    upper = along * cosine + aside * np.sqrt(max(0.0, 1 - cosine**2))
    return upper, _unit(along * distance - upper * first)


class Poser:
    """Collects where bones are turned to, in the world's axes, and makes their own rotations of it."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.turns: dict[str, Array] = {}

    def head(self, name: str) -> Array:
        """Where a bone begins at rest (3,)."""
        head: Array = self.skeleton.heads[self.skeleton.index(name)]
        return head

    def _limb(self, bones: tuple[str, ...], first: Array, second: Array, bend: Array) -> None:
        """Turn a limb of two parts, two bones each: its hinge at rest is kept its hinge.

        bend (3,): about where the middle joint points, when the limb is straight.
        """
        start, middle, end = (self.head(name) for name in (bones[0], bones[2], bones[4]))
        rest_a, rest_b = _unit(middle - start), _unit(end - middle)
        a, b = _unit(first), _unit(second)
        rest_hinge, hinge = np.cross(rest_a, rest_b), np.cross(a, b)
        plain = np.cross(a, -bend)
        # Nearly straight limbs bend about what their joint allows.
        share = np.clip((np.linalg.norm(hinge) - 0.05) / 0.15, 0, 1)
        hinge = _unit(share * _unit(hinge + 1e-9 * plain) + (1 - share) * _unit(plain))
        turn = _frame(a, hinge) @ _frame(rest_a, rest_hinge).T
        swing = align(rest_a, a)
        twist = swing.T @ turn
        angle = _angle_about(twist, rest_a)
        self.turns[bones[0]] = swing @ rotation(rest_a, angle * 0.4)
        self.turns[bones[1]] = turn
        carried = turn @ rest_b
        self.turns[bones[2]] = self.turns[bones[3]] = align(carried, b) @ turn

    def arm(self, side: Side, upper: Array, fore: Array, palm: Array, wrist: Array, along: Array | None = None) -> None:
        """Point an arm; `palm` (3,) is out of the palm.

        wrist (3, 3) is the hand's rotation on the forearm; along (3,), if given, is where the fingers point instead.
        """
        # Raised arms lift the shoulder.
        lift = float(np.clip(np.degrees(np.arcsin(np.clip(_unit(upper)[1], -1, 1))) + 20, 0, 110)) * 0.22
        sign = 1.0 if side == "L" else -1.0
        self.turns[f"clavicle.{side}"] = self.turns[f"shoulder01.{side}"] = rotation(np.array([0, 0, sign]), lift)
        names = tuple(f"{name}.{side}" for name in ("upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist"))
        self._limb(names, upper, fore, _own((0.5, -0.3, -1), side))
        turn, hand = self.turns[names[3]], hand_of(self.skeleton, side)
        axis = _unit(fore)
        natural = -(turn @ wrist @ hand.dorsal)
        flat = [_unit(v - axis * (v @ axis)) for v in (natural, np.asarray(palm, float))]
        whole = float(np.degrees(np.arctan2(np.cross(flat[0], flat[1]) @ axis, flat[0] @ flat[1])))
        angle = float(np.clip(whole, -TWIST_LIMIT, TWIST_LIMIT))
        self.turns[names[2]] = rotation(axis, 0.25 * angle) @ turn
        self.turns[names[3]] = rotation(axis, 0.7 * angle) @ turn
        self.turns[names[4]] = rotation(axis, angle) @ turn @ wrist
        if along is not None:
            rest = _frame(hand.along, -hand.dorsal)
            self.turns[names[4]] = _frame(_unit(along), np.asarray(palm, float)) @ rest.T

    def leg(self, side: Side, thigh: Array, shin: Array, yaw: float) -> None:
        """Point a leg; the foot stays level, turned out by `yaw` degrees."""
        names = tuple(f"{name}.{side}" for name in ("upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot"))
        self._limb(names, thigh, shin, np.array([0.0, 0.0, 1.0]))
        level = float(np.clip(-_unit(shin)[1], 0, 1))
        about = rotation(np.array([0.0, 1.0, 0.0]), yaw * (1 if side == "L" else -1))
        tilted = align(np.array([0.0, -1.0, 0.0]), _unit(shin) * 0.6 + np.array([0, -0.4, 0]))
        self.turns[names[4]] = about if level > 0.85 else about @ tilted

    def rotations(self) -> dict[str, Array]:
        """The bones' own rotations."""
        names = self.skeleton.names
        found: dict[str, Array] = {}
        whole: dict[str, Array] = {}
        for number, name in enumerate(names):
            parent = self.skeleton.parents[number]
            above = whole[names[parent]] if parent >= 0 else np.eye(3)
            whole[name] = self.turns.get(name, above)
            if name in self.turns:
                found[name] = above.T @ whole[name]
        return found


def _angle_about(turn: Array, axis: Array) -> float:
    """The degrees of a turn (3, 3) about an axis (3,)."""
    skew = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    return float(np.degrees(np.arctan2(skew @ axis / 2, (np.trace(turn) - 1) / 2)))


def arm_directions(poser: Poser, arm: Arm, side: Side, rng: np.random.Generator, noise: float) -> tuple[Array, Array]:
    """Directions of the upper arm and the forearm, with noise."""
    upper, fore = (_unit(_own(d, side)) + rng.normal(0, noise, 3) for d in (arm.upper, arm.fore))
    if arm.reach is None:
        return _unit(upper), _unit(fore)
    shoulder, elbow, wrist = (poser.head(f"{name}.{side}") for name in ("upperarm01", "lowerarm01", "wrist"))
    height = float(poser.skeleton.tails[poser.skeleton.index("head")][1])
    target = _own(arm.reach, side) * height + rng.normal(0, 0.06 * noise, 3)
    lengths = (float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(wrist - elbow)))
    return bent(shoulder, lengths, target, upper)


def set_body(poser: Poser, legs: str, rng: np.random.Generator, mirrored: bool, noise: float = 0.05) -> None:
    """Legs, a little lean of the back, and a turn of the head."""
    chosen = LEGS[legs]
    order = (1, 0) if mirrored else (0, 1)
    for side, number in zip(SIDES, order, strict=True):
        thigh, shin = (_own(d[number], side) + rng.normal(0, noise * 0.5, 3) for d in (chosen.thighs, chosen.shins))
        poser.leg(side, thigh, shin, float(rng.uniform(4, 20)))
    turn, nod, tilt = (float(rng.normal(mean, width)) for mean, width in ((0, 14), (2, 6), (0, 4)))
    head = (
        rotation(np.array([0.0, 1, 0]), turn)
        @ rotation(np.array([1.0, 0, 0]), nod)
        @ rotation(np.array([0, 0, 1.0]), tilt)
    )
    half = rotation(np.array([0.0, 1, 0]), turn / 2) @ rotation(np.array([1.0, 0, 0]), nod / 2)
    poser.turns["neck02"], poser.turns["head"] = half, head


def set_arm(poser: Poser, name: str, side: Side, hand: HandPose, rng: np.random.Generator, noise: float = 0.06) -> None:
    """Put an arm where the table says, with the hand's wrist bent as in its pose."""
    arm = ARMS[name]
    upper, fore = arm_directions(poser, arm, side, rng, noise)
    palm = _own(arm.palm, side) + rng.normal(0, 2 * noise, 3)
    along = None if arm.along is None else _own(arm.along, side) + rng.normal(0, noise, 3)
    poser.arm(side, upper, fore, palm, Fingers(hand_of(poser.skeleton, side)).wrist(hand), along)
