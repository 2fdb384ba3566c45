"""A figure: a clothed body in a pose, its limbs as values that errors can change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hafbench.mannequin.attributes import Attributes, Gesture
from hafbench.mannequin.hand import Hand, make_hand
from hafbench.mannequin.shapes import Capsules, SkinTone, hand_shapes
from hafbench.mannequin.skeleton import Array, reach, unit

# Joints of a body of height 1 that stands straight; the person's left is at +x.
SHOULDER, HIP = np.array([0.135, 0.815, 0.0]), np.array([0.075, 0.52, 0.0])
ARM, LEG = (0.175, 0.155), (0.235, 0.235)
ARM_RADII, LEG_RADII = (0.042, 0.034, 0.026), (0.066, 0.048, 0.033)
HAND_LENGTH = 0.125


@dataclass(frozen=True)
class Limb:
    """An arm or a leg: shoulder / hip, elbow / knee, wrist / ankle (3, 3).

    `shift` moves what lies below the middle joint away (a detached limb); `stump` is the share of the upper bone
    that is left of a missing limb, 1 for a whole one.
    """

    name: str
    kind: Literal["arm", "leg"]
    side: int
    points: Array
    radii: tuple[float, float, float]
    hand: Hand | None = None
    defect: str | None = None
    shift: Array | None = None
    stump: float | None = None

    @property
    def shown_hand(self) -> Hand | None:
        """The hand where it is drawn."""
        if self.hand is None or self.shift is None:
            return self.hand
        return replace(self.hand, place=self.hand.place + self.shift)


@dataclass(frozen=True)
class Figure:
    """A body; everything but its limbs follows from the attributes. `holder` names the arm that a held thing is in."""

    limbs: tuple[Limb, ...]
    build: float
    holder: str


def _swing(out: float, forward: float, side: int) -> Array:
    """The direction of a bone raised `out` degrees from hanging, in the frontal plane, and swung forward."""
    a, b = np.radians(out), np.radians(forward)
    return np.array([side * np.sin(a) * np.cos(b), -np.cos(a) * np.cos(b), np.sin(b)])


def _arm_points(pose: str, side: int, rng: np.random.Generator) -> Array:
    shoulder = SHOULDER * np.array([side, 1, 1])
    if pose == "hips":
        goal = np.array([side * 0.135, rng.uniform(0.555, 0.58), 0.05])
        elbow, wrist = reach(shoulder, goal, np.array([side * 1.0, 0.1, -0.15]), *ARM)
        return np.array([shoulder, elbow, wrist])
    if pose == "forward":
        goal = np.array([side * rng.uniform(0.07, 0.15), rng.uniform(0.62, 0.72), 0.2])
        elbow, wrist = reach(shoulder, goal, np.array([side * 1.0, -0.5, -0.2]), *ARM)
        return np.array([shoulder, elbow, wrist])
    out, forward, bend = {
        "down": (rng.uniform(14, 30), rng.uniform(-8, 12), rng.uniform(-14, 4)),
        "out": (rng.uniform(72, 100), rng.uniform(-6, 8), rng.uniform(0, 30)),
        "up": (rng.uniform(138, 166), rng.uniform(-4, 10), rng.uniform(-12, 14)),
        "raised": (rng.uniform(80, 112), rng.uniform(0, 14), rng.uniform(55, 85)),
    }[pose]
    elbow = shoulder + ARM[0] * _swing(out, forward, side)
    return np.array([shoulder, elbow, elbow + ARM[1] * _swing(out + bend, forward + rng.uniform(0, 10), side)])


def _leg_points(pose: str, side: int, rng: np.random.Generator) -> Array:
    hip = HIP * np.array([side, 1, 1])
    out, forward, bend = {
        "standing": (rng.uniform(2, 6), rng.uniform(-3, 4), rng.uniform(0, 5)),
        "apart": (rng.uniform(13, 22), rng.uniform(-4, 6), rng.uniform(0, 8)),
        "walking": (rng.uniform(2, 5), 26.0 if side > 0 else -14.0, rng.uniform(4, 12) if side > 0 else 22.0),
    }[pose]
    knee = hip + LEG[0] * _swing(out, forward, side)
    return np.array([hip, knee, knee + LEG[1] * _swing(out * 0.8, forward - bend, side)])


_PALMS = {"down": (-1.0, 0.0, 0.25), "out": (0.0, -0.4, 1.0), "up": (0.0, 0.0, 1.0), "raised": (0.0, 0.0, 1.0)}
_PALMS |= {"hips": (-1.0, -0.2, -0.6), "forward": (-0.6, 0.4, 0.5)}


def place_hand(hand: Hand, wrist: Array, along: Array, palm: Array) -> Hand:
    """The hand at the end of a forearm: its fingers go on `along`, its palm faces `palm` as far as that lets it."""
    y = unit(along)
    z = unit(palm - y * float(palm @ y))
    return replace(hand, place=wrist, turn=np.stack([np.cross(y, z), y, z], 1))


def make_figure(attributes: Attributes, rng: np.random.Generator) -> Figure:
    """A correct figure in the pose that the attributes name."""
    limbs = []
    high = int(rng.choice([-1, 1]))
    for side, word in ((1, "left"), (-1, "right")):
        pose: str = attributes.arms or "down"
        if pose == "wave":
            pose = "raised" if side == high else "down"
        if attributes.held in ("ball", "rod") and side == high and pose in ("down", "hips", "forward"):
            pose = "raised"
        points = _arm_points(pose, side, rng)
        holds = attributes.held in ("ball", "rod") and side == high
        gesture: Gesture = "grip" if holds and attributes.held == "rod" else "open"
        hand = make_hand("left" if side > 0 else "right", gesture, rng, relaxed=pose in ("down", "hips", "forward"))
        palm = np.array(_PALMS[pose]) * np.array([side, 1, 1])
        hand = place_hand(replace(hand, scale=HAND_LENGTH), points[2], points[2] - points[1], palm)
        limbs.append(Limb(f"{word}_arm", "arm", side, points, ARM_RADII, hand))
    for side, word in ((1, "left"), (-1, "right")):
        points = _leg_points(attributes.legs or "standing", side, rng)
        limbs.append(Limb(f"{word}_leg", "leg", side, points, LEG_RADII))
    return Figure(tuple(limbs), float(rng.uniform(0.9, 1.12)), "left_arm" if high > 0 else "right_arm")


@dataclass(frozen=True)
class Clothes:
    """RGB in 0..1 of what a figure wears."""

    top: Array
    bottom: Array
    shoes: Array
    hair: Array
    held: Array


def _limb_shapes(capsules: Capsules, limb: Limb, attributes: Attributes, tone: SkinTone, clothes: Clothes) -> None:
    upper, middle, end = limb.points
    shift = np.zeros(3) if limb.shift is None else limb.shift
    r0, r1, r2 = limb.radii
    cloth, covered, leg = clothes.top, 2.0 if attributes.sleeves == "long" else 0.62, limb.kind == "leg"
    if leg:
        cloth = clothes.bottom
        covered = {"trousers": 2.0, "shorts": 0.72, "skirt": 0.0}[attributes.bottom or "trousers"]
    if limb.stump is not None:
        cut = upper + (middle - upper) * limb.stump
        capsules.add(limb.name, upper, cut, (r0 * 1.06, r1 * 1.06), cloth if covered else tone.skin)
        return
    first, second = (cloth if covered > share else tone.skin for share in (0.99, 1.99))
    capsules.add(limb.name, upper, middle, (r0, r1), first)
    capsules.add(limb.name, middle + shift, end + shift, (r1, r2), second)
    if covered == 2.0 and leg:
        capsules.add(limb.name, middle + shift, end + shift, (r1 * 1.06, r2 * 1.35), cloth)
    elif 0 < covered < 1:
        radius = (r0 * 1.14, (r0 + (r1 - r0) * covered) * 1.22)
        capsules.add(limb.name, upper, upper + (middle - upper) * covered, radius, cloth)
    if leg:
        toe = end + np.array([limb.side * 0.025, -0.035, 0.085]) + shift
        capsules.add(limb.name, end + shift + np.array([0, -0.018, -0.01]), toe, (0.034, 0.027), clothes.shoes)
    if (hand := limb.shown_hand) is not None:
        hand_shapes(capsules, f"{limb.name}.hand", hand, tone)


def figure_shapes(capsules: Capsules, figure: Figure, attributes: Attributes, tone: SkinTone, clothes: Clothes) -> None:
    """Add a figure to the capsules: parts torso, head, `limb name` and `limb name`.hand.*"""
    b = figure.build

    def at(x: float, y: float, z: float = 0.0) -> Array:
        return np.array([x, y, z])

    top, bottom, skin, hair = clothes.top, clothes.bottom, tone.skin, clothes.hair
    capsules.add("torso", at(-0.095, 0.80), at(0.095, 0.80), (0.052, 0.052), top)
    for x in np.linspace(-0.065, 0.065, 7):
        capsules.add("torso", at(x * b, 0.77), at(x * 0.75 * b, 0.60), (0.074, 0.068 * b), top)
    if attributes.bottom == "skirt":
        for x in np.linspace(-1, 1, 13):
            for depth in (-0.02, 0.035):
                capsules.add("torso", at(x * 0.075 * b, 0.57), at(x * 0.165, 0.375, depth), (0.05, 0.02), bottom)
    capsules.add("torso", at(-0.05 * b, 0.54), at(0.05 * b, 0.54), (0.075, 0.075), bottom)
    capsules.add("head", at(0, 0.82), at(0, 0.89), (0.036, 0.034), skin)
    capsules.add("head", at(0, 0.905, 0.01), at(0, 0.955), (0.054, 0.066), skin)
    capsules.add("head", at(0, 0.925, 0.068), at(0, 0.912, 0.076), (0.007, 0.012), skin)
    for x in (-0.026, 0.026):
        capsules.add("head", at(x, 0.945, 0.060), at(x, 0.945, 0.060), (0.0125, 0.0125), at(0.97, 0.97, 0.97))
        capsules.add("head", at(x, 0.945, 0.069), at(x, 0.945, 0.069), (0.0075, 0.0075), at(0.12, 0.09, 0.08))
        capsules.add("head", at(x - 0.012, 0.964, 0.058), at(x + 0.012, 0.964, 0.058), (0.006, 0.006), hair * 0.7)
        capsules.add("head", at(x * 2.55, 0.93), at(x * 2.55, 0.94), (0.013, 0.015), skin)
    capsules.add("head", at(-0.014, 0.888, 0.056), at(0.014, 0.888, 0.056), (0.007, 0.007), skin * at(0.8, 0.45, 0.45))
    if attributes.hair != "bald":
        capsules.add("head", at(0, 0.972, -0.016), at(0, 0.955, -0.02), (0.068, 0.07), hair)
        capsules.add("head", at(-0.03, 0.998, 0.03), at(0.03, 0.998, 0.03), (0.026, 0.026), hair)
    if attributes.hair == "long":
        for x in (-0.055, 0.055):
            capsules.add("head", at(x, 0.96, -0.012), at(x * 1.15, 0.84, -0.03), (0.03, 0.024), hair)
        capsules.add("head", at(0, 0.93, -0.04), at(0, 0.83, -0.05), (0.06, 0.05), hair)
    for limb in figure.limbs:
        _limb_shapes(capsules, limb, attributes, tone, clothes)
    arm = next((limb for limb in figure.limbs if limb.name == figure.holder), None)
    if attributes.held in ("ball", "rod") and arm is not None and arm.hand is not None:
        if attributes.held == "ball":
            centre = arm.hand.world(np.array([[0.0, 0.75, 0.45]]))[0]
            capsules.add("held", centre, centre, (0.062, 0.062), clothes.held)
        else:
            ends = arm.hand.world(np.array([[-2.2, 0.5, 0.16], [1.8, 0.5, 0.16]]))
            capsules.add("held", ends[0], ends[1], (0.013, 0.013), clothes.held)
