"""Where a hand is at rest: its bones, its directions and its digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hafbench.people.shaping import Floats, descendants, influence, unit

if TYPE_CHECKING:
    from hafbench.people.mesh import Mesh, Rotations, Skeleton

Side = Literal["L", "R"]
FINGERS = (2, 3, 4, 5)
"""Index, middle, ring and little finger; the thumb is 1, as in the names of the bones."""
DIGITS = (1, *FINGERS)


@dataclass(frozen=True)
class Hand:
    """A hand at rest; directions (3,) along the fingers, across to the index's side, and out of the back of the hand.

    digits: the three bones of each, from the base to the tip. width: metres between the outer knuckles.
    """

    skeleton: Skeleton
    side: Side
    wrist: int
    digits: dict[int, tuple[int, int, int]]
    along: Floats
    across: Floats
    dorsal: Floats
    width: float

    def bones(self) -> list[int]:
        """All bones of the hand."""
        return descendants(self.skeleton, self.wrist)

    def head(self, bone: int) -> Floats:
        """Where a bone begins (3,)."""
        return np.asarray(self.skeleton.heads[bone], dtype=np.float64)

    def knuckle(self, digit: int) -> Floats:
        """Where a digit's first bone begins (3,)."""
        return self.head(self.digits[digit][0])

    def direction(self, digit: int, bone: int | None = None) -> Floats:
        """From a digit's first joint to its tip (3,), or along one of its bones (0, 1, 2)."""
        first, last = (0, 2) if bone is None else (bone, bone)
        own = self.digits[digit]
        return unit(self.skeleton.tails[own[last]] - self.skeleton.heads[own[first]])

    def length(self, digit: int, first: int = 0) -> float:
        """Metres from a digit's joint to its tip."""
        own = self.digits[digit][first:]
        return float(np.linalg.norm(self.skeleton.tails[own[-1]] - self.skeleton.heads[own[0]]))

    def straight(self, digit: int, rotations: Rotations) -> float:
        """How straight a digit is in a pose: from its knuckle to its tip, as a share of its bones' lengths."""
        names, place, turn = self.skeleton.names, np.zeros(3), np.eye(3)
        total = 0.0
        first = 1 if digit == 1 else 0
        for bone in self.digits[digit][first:]:
            turn = turn @ rotations.get(names[bone], np.eye(3))
            reach = self.skeleton.tails[bone] - self.skeleton.heads[bone]
            place, total = place + turn @ reach, total + float(np.linalg.norm(reach))
        return float(np.linalg.norm(place)) / total

    def bent(self, digit: int, rotations: Rotations) -> float:
        """Degrees by which a digit's first bone is bent to the palm in a pose."""
        bone = self.digits[digit][0]
        to = rotations.get(self.skeleton.names[bone], np.eye(3)) @ self.direction(digit, 0)
        return float(np.degrees(np.arctan2(-(to @ self.dorsal), to @ self.along)))

    def flexion(self, digit: int, bone: int) -> Floats:
        """The axis (3,) about which a bone (0, 1, 2) of a digit bends to the palm, by the right hand."""
        return unit(np.cross(self.dorsal, self.direction(digit, bone)))

    def share(self, mesh: Mesh, digits: tuple[int, ...] | list[int]) -> Floats:
        """How far (V,) vertices follow the bones of these digits."""
        return influence(mesh, [bone for digit in digits for bone in self.digits[digit]])

    def swing(self, degrees: float) -> float:
        """Degrees about `dorsal` that turn the fingers' tips by `degrees` to the index's side."""
        return degrees * float(np.sign(np.cross(self.dorsal, self.along) @ self.across))


def hand_of(skeleton: Skeleton, side: Side) -> Hand:
    """The hand of a side."""
    number = {name: place for place, name in enumerate(skeleton.names)}
    digits = {
        digit: (number[f"finger{digit}-1.{side}"], number[f"finger{digit}-2.{side}"], number[f"finger{digit}-3.{side}"])
        for digit in DIGITS
    }
    wrist = number[f"wrist.{side}"]
    knuckles = np.array([skeleton.heads[digits[digit][0]] for digit in FINGERS], dtype=np.float64)
    along = unit(knuckles.mean(0) - skeleton.heads[wrist])
    across = knuckles[0] - knuckles[-1]
    width = float(np.linalg.norm(across))
    across = unit(across - along * (across @ along))
    dorsal = np.cross(across, along) * (1 if side == "L" else -1)
    return Hand(skeleton, side, wrist, digits, along, across, dorsal, width)
