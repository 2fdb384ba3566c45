"""Hand poses: angles of the joints for each gesture, within human limits, and the bones' rotations they make.

Angles are degrees. A finger's are its spread (towards the thumb), then the flexion of its three joints; 0 is straight.
A thumb's are those of its metacarpal (out, in the plane of the palm; forward, out of that plane; roll about itself,
which turns the pad to the fingers) and the flexion of its two joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hafbench.people.gestures import GESTURES
from hafbench.people.hand_frame import FINGERS, Hand
from hafbench.people.mesh import Array, align, rotation

FINGER_LIMITS = {"spread": (-22.0, 22.0), "mcp": (-20.0, 92.0), "pip": (-4.0, 112.0), "dip": (-6.0, 82.0)}
THUMB_LIMITS = {
    "out": (-5.0, 78.0), "forward": (-12.0, 62.0), "roll": (-25.0, 60.0), "mcp": (-12.0, 62.0), "ip": (-22.0, 82.0),
}  # fmt: skip
WRIST_LIMITS = {"flexion": (-62.0, 70.0), "deviation": (-22.0, 32.0)}
"""Flexion to the palm; deviation to the little finger's side."""


@dataclass(frozen=True)
class HandPose:
    """Angles of the fingers (4, 4) from the index on, of the thumb (5,) and of the wrist (2,), in the limits' order."""

    fingers: Array
    thumb: Array
    wrist: Array

    def clipped(self) -> HandPose:
        """The same within the limits."""
        clip = [np.array(list(limits.values())).T for limits in (FINGER_LIMITS, THUMB_LIMITS, WRIST_LIMITS)]
        return HandPose(*(np.clip(v, *c) for v, c in zip((self.fingers, self.thumb, self.wrist), clip, strict=True)))


def hand_pose(gesture: str, rng: np.random.Generator) -> HandPose:
    """A gesture, a little different at each draw: what the fingers share and what each does on its own."""
    middle = GESTURES[gesture]
    scale = np.array([3.0, 7.0, 7.0, 5.0]) * middle.noise
    fingers = np.array(middle.fingers, float) + rng.normal(0, 0.6, 4) * scale + rng.normal(0, 0.6, (4, 4)) * scale
    # Neighbours do not bend through each other.
    fingers[:, 0] = np.array(middle.fingers)[:, 0] * rng.uniform(0.6, 1.15) + rng.normal(0, 1.0, 4)
    thumb = np.array(middle.thumb, float) + rng.normal(0, 1, 5) * np.array([6, 5, 4, 6, 7]) * middle.noise
    wrist = np.array([rng.normal(-4, 12), rng.normal(4, 7)])
    return HandPose(fingers, thumb, wrist).clipped()


class Fingers:
    """Turns angles of a hand into rotations of its bones, for one skeleton at rest."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self._mirror = 1.0 if hand.side == "L" else -1.0
        self._rest = {digit: self._rest_angles(digit) for digit in FINGERS}
        first, last = hand.direction(1, 0), hand.direction(1, 2)
        bend = np.cross(first, last)
        self.thumb_axis: Array = bend / np.linalg.norm(bend)
        ends = [hand.direction(1, bone) for bone in range(3)]
        self._thumb_rest = [float(np.degrees(np.arccos(np.clip(a @ b, -1, 1)))) for a, b in pairwise(ends)]

    def flexion_axis(self, digit: int) -> Array:
        """The axis about which a finger's joints bend to the palm."""
        axis = np.cross(self.hand.dorsal, self.hand.direction(digit, 0))
        return np.asarray(axis / np.linalg.norm(axis))

    def _rest_angles(self, digit: int) -> Array:
        """Spread and flexion of a finger's joints at rest."""
        hand = self.hand
        bones = [hand.direction(digit, bone) for bone in range(3)]
        spread = np.degrees(np.arctan2(bones[0] @ hand.across, bones[0] @ hand.along))
        axis = self.flexion_axis(digit)
        before = hand.along * (bones[0] @ hand.along) + hand.across * (bones[0] @ hand.across)
        flexion = [
            np.degrees(np.arctan2(np.cross(a, b) @ axis, a @ b)) for a, b in zip([before, *bones], bones, strict=False)
        ]
        return np.array([spread, *flexion])

    def rotations(self, pose: HandPose) -> dict[str, Array]:
        """Rotations of the digits' bones."""
        hand, found = self.hand, {}
        swing = hand.swing(1.0)
        for row, digit in zip(pose.fingers, FINGERS, strict=True):
            turn = row - self._rest[digit]
            axis = self.flexion_axis(digit)
            found[f"finger{digit}-1.{hand.side}"] = rotation(hand.dorsal, swing * turn[0]) @ rotation(axis, turn[1])
            for joint in (2, 3):
                found[f"finger{digit}-{joint}.{hand.side}"] = rotation(axis, turn[joint])
        out, forward, roll, mcp, ip = pose.thumb
        a, b = np.radians(out), np.radians(forward)
        target = np.cos(b) * (np.cos(a) * hand.along + np.sin(a) * hand.across) - np.sin(b) * hand.dorsal
        own = hand.direction(1, 0)
        found[f"finger1-1.{hand.side}"] = align(own, target) @ rotation(own, -self._mirror * roll)
        for joint, angle, rest in ((2, mcp, self._thumb_rest[0]), (3, ip, self._thumb_rest[1])):
            found[f"finger1-{joint}.{hand.side}"] = rotation(self.thumb_axis, angle - rest)
        return found

    def wrist(self, pose: HandPose) -> Array:
        """The hand's rotation on the forearm."""
        hand = self.hand
        axis = np.cross(hand.dorsal, hand.along)
        return rotation(hand.dorsal, -hand.swing(pose.wrist[1])) @ rotation(axis, pose.wrist[0])

    def _chain(self, rotations: dict[str, Array], digit: int) -> list[tuple[Array, Array]]:
        """Where each of a digit's posed bones begins, and its turn; last where it ends."""
        hand, turn, place = self.hand, np.eye(3), self.hand.knuckle(digit)
        found = []
        for joint, bone in enumerate(hand.digits[digit]):
            turn = turn @ rotations[f"finger{digit}-{joint + 1}.{hand.side}"]
            found.append((place, turn))
            place = place + turn @ (hand.skeleton.tails[bone] - hand.skeleton.heads[bone])
        return [*found, (place, turn)]

    def tip(self, rotations: dict[str, Array], digit: int, inset: float = 0.0) -> tuple[Array, Array]:
        """A digit's tip (3,), `inset` metres short of it, and the direction of its pad (3,); the hand is at rest."""
        place, turn = self._chain(rotations, digit)[3]
        along = turn @ self.hand.direction(digit, 2)
        axis = self.thumb_axis if digit == 1 else self.flexion_axis(digit)
        return place - along * inset, np.cross(turn @ axis, along)

    def back(self, rotations: dict[str, Array], digit: int, joint: int) -> tuple[Array, Array]:
        """A finger's joint (0, 1, 2; 3 is the tip) and the direction out of the back of the bone that begins there."""
        place, turn = self._chain(rotations, digit)[joint]
        along = turn @ self.hand.direction(digit, min(joint, 2))
        return place, -np.cross(turn @ self.flexion_axis(digit), along)


def fitted(
    fingers: Fingers, pose: HandPose, measure: Callable[[HandPose], Array], free: NDArray[np.bool_], steps: int = 10
) -> HandPose:
    """The pose with some of its angles changed a little, within the limits, so that the residuals of `measure` vanish.

    free (21,): which of the fingers' 16 angles and the thumb's 5 may change.
    """
    places = np.nonzero(free)[0]

    def changed(pose: HandPose, steps: Array) -> HandPose:
        x = np.zeros(21)
        x[places] = steps
        return replace(pose, fingers=pose.fingers + x[:16].reshape(4, 4), thumb=pose.thumb + x[16:]).clipped()

    each = np.eye(len(places)) * 2
    for _ in range(steps):
        base = measure(pose)
        slopes = np.array([(measure(changed(pose, one)) - base) / 2 for one in each]).T
        pose = changed(pose, slopes.T @ np.linalg.solve(slopes @ slopes.T + 2e-8 * np.eye(len(base)), -base))
    return pose


def touching(fingers: Fingers, pose: HandPose, digit: int, gap: float) -> HandPose:
    """The pose with the pads of the thumb and a finger face to face, their bones' ends `gap` metres apart."""

    def measure(pose: HandPose) -> Array:
        turned = fingers.rotations(pose)
        (a, pad_a), (b, pad_b) = (fingers.tip(turned, one, 0.008) for one in (1, digit))
        return np.concatenate([a + pad_a * gap / 2 - (b + pad_b * gap / 2), 0.004 * (pad_a + pad_b)])

    free = np.ones(21, bool)
    free[:16] = np.repeat(np.array(FINGERS) == digit, 4)
    return fitted(fingers, pose, measure, free)


def laid_over(fingers: Fingers, pose: HandPose, digit: int, gap: float) -> HandPose:
    """The pose with the thumb's pad on the back of a folded finger's middle bone."""

    def measure(pose: HandPose) -> Array:
        turned = fingers.rotations(pose)
        tip, pad = fingers.tip(turned, 1, 0.010)
        (a, out), (b, _) = (fingers.back(turned, digit, joint) for joint in (1, 2))
        return np.concatenate([tip - (a + b) / 2 - out * gap, 0.003 * (pad + out)])

    return fitted(fingers, pose, measure, np.arange(21) >= 16)


def hand_rotations(hand: Hand, gesture: str, rng: np.random.Generator) -> tuple[dict[str, Array], HandPose]:
    """Rotations of a hand's digits in a gesture, and its angles."""
    fingers, pose, middle = Fingers(hand), hand_pose(gesture, rng), GESTURES[gesture]
    if middle.touch:
        pose = touching(fingers, pose, middle.touch, 0.22 * hand.width)
    if middle.over:
        pose = laid_over(fingers, pose, middle.over, 0.26 * hand.width)
    return fingers.rotations(pose), pose
