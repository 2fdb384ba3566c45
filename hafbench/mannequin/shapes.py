"""Tapered capsules: what everything in a picture is made of, and how hands are clothed in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hafbench.mannequin.hand import Digit, Hand
from hafbench.mannequin.skeleton import Array, unit


@dataclass
class Capsules:
    """A growing list of sphere-swept bones in the scene's frame.

    `back` is the colour of the side that faces along -axis, `colour` of the other (a palm is lighter than a back).
    """

    start: list[Array] = field(default_factory=list)
    end: list[Array] = field(default_factory=list)
    radii: list[tuple[float, float]] = field(default_factory=list)
    colour: list[Array] = field(default_factory=list)
    back: list[Array] = field(default_factory=list)
    axis: list[Array] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(
        self,
        part: str,
        start: Array,
        end: Array,
        radii: tuple[float, float],
        colour: Array,
        back: Array | None = None,
        axis: Array | None = None,
    ) -> None:
        """Add one bone to a named part."""
        if part not in self.names:
            self.names.append(part)
        self.start.append(np.asarray(start, dtype=float))
        self.end.append(np.asarray(end, dtype=float))
        self.radii.append((float(radii[0]), float(radii[1])))
        self.colour.append(colour)
        self.back.append(colour if back is None else back)
        self.axis.append(np.array([0.0, 0.0, 1.0]) if axis is None else axis)
        self.part.append(self.names.index(part))

    def chain(self, part: str, points: Array, radii: Array, colour: Array, back: Array, axis: Array) -> None:
        """Bones from joint to joint."""
        for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
            self.add(part, a, b, (ra, rb), colour, back, axis)


@dataclass(frozen=True)
class SkinTone:
    """RGB in 0..1 of the back of a hand, of its palm, and of a nail."""

    skin: Array
    palm: Array
    nail: Array


# The knuckles from the index's to the little finger's, in the palm's plane.
_KNUCKLES = ((0.155, 0.50), (0.045, 0.53), (-0.065, 0.505), (-0.16, 0.455))


def _digit_shapes(capsules: Capsules, part: str, hand: Hand, digit: Digit, tone: SkinTone, axis: Array) -> None:
    points, radii = hand.world(digit.points), digit.radii * hand.scale
    first = 1 if digit.name == "thumb" and len(points) == 4 else 0
    capsules.chain(part, points[first:], radii[first:], tone.palm, tone.skin, axis)
    ends = [points]
    if digit.twin is not None:
        twin = hand.world(digit.twin)
        if digit.defect == "fused_digits":
            # Flesh between the two, so that no crease is left.
            for share in (0.2, 0.4, 0.6, 0.8):
                between = points + (twin - points) * share
                capsules.chain(part, between, radii, tone.palm, tone.skin, axis)
            capsules.chain(part, twin, radii, tone.palm, tone.skin, axis)
        else:
            capsules.chain(part, twin, np.linspace(radii[-2], radii[-1], len(twin)), tone.palm, tone.skin, axis)
        ends.append(twin)
    for end in ends:
        along = unit(end[-1] - end[-2])
        out = unit(-axis + along * float(axis @ along))
        tip = float(radii[-1])
        centre = end[-1] + out * tip * 0.42
        capsules.add(
            part, centre - along * tip * 0.55, centre + along * tip * 0.25, (tip * 0.66, tip * 0.62), tone.nail
        )


def hand_shapes(capsules: Capsules, name: str, hand: Hand, tone: SkinTone) -> None:
    """Add a hand's palm (part `name`.palm) and digits (`name`.digit number) to the capsules."""
    axis = unit(hand.world(np.array([[0.0, 0.0, 1.0]]))[0] - hand.place)
    palm = f"{name}.palm"
    girth = hand.girth * hand.scale
    # Close bones side by side, from the heel to the knuckles, make a smooth slab.
    for share in np.linspace(0, 3, 10):
        x, y = (float(np.interp(share, range(4), column)) for column in zip(*_KNUCKLES, strict=True))
        ends = hand.world(np.array([[x * 0.5 + 0.005, 0.05, 0.0], [x, y - 0.01, 0.0]]))
        capsules.add(palm, ends[0], ends[1], (0.088 * girth, 0.066 * girth), tone.palm, tone.skin, axis)
    # The mount of the little finger, and of each thumb.
    mount = hand.world(np.array([[-0.085, 0.12, 0.025], [-0.12, 0.36, 0.02]]))
    capsules.add(palm, mount[0], mount[1], (0.085 * girth, 0.066 * girth), tone.palm, tone.skin, axis)
    for digit in hand.digits:
        if digit.name.startswith("thumb") and len(digit.points) == 4:
            ends = hand.world(digit.points[:2])
            capsules.add(palm, ends[0], ends[1], (0.092 * girth, 0.066 * girth), tone.palm, tone.skin, axis)
    for number, digit in enumerate(hand.digits):
        _digit_shapes(capsules, f"{name}.{number}", hand, digit, tone, axis)
