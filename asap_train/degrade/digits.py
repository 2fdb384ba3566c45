"""Errors of digits: one more, one less, two fused, one too short, too long, or bent."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from asap_train.degrade.branches import Branch, freedom_of, replaced, within, without
from asap_train.degrade.cutout import Bones, Crop, Cutout, box_about, cut, laid, over
from asap_train.degrade.lines import Floats, Line, line_through

DIGITS = ("thumb", "index", "middle", "ring", "little")
PALM = (0, 1, 2, 5, 9, 13, 17)
STRAIGHT = 0.86
"""The distance from a digit's knuckle to its tip, over its length along the bones: a lower one is curled."""


@dataclass(frozen=True)
class Digit(Branch):
    """A digit: number 0 (thumb) to 4 (little finger); `freedom` is the share of its outline, in [0, 1], that has
    something else than hand beside it.
    """

    number: int
    freedom: float


@dataclass(frozen=True)
class Hand:
    """A cut-out hand and those of its digits that can be seen well."""

    cutout: Cutout
    digits: tuple[Digit, ...]


def joints_of(points: Floats, number: int) -> Floats:
    """The four joints (4, 2) of digit 0 (thumb) to 4 (little), knuckle first."""
    return points[1 + 4 * number : 5 + 4 * number]


def thickness_of(points: Floats) -> float:
    """Half a finger's width in pixels, by proportion of the palm's and the fingers' lengths (longest view)."""
    palm = np.hypot(*(points[[5, 9, 13, 17]] - points[0]).T).mean()
    fingers = max(np.hypot(*np.diff(joints_of(points, n), axis=0).T).sum() for n in range(1, 5))
    knuckles = np.hypot(*(points[5] - points[17])) / 3
    return float(max(0.09 * palm, 0.09 * fingers, 0.42 * knuckles))


def hand_bones(points: Floats) -> Bones:
    """What a hand with 21 points (21, 2) is made of."""
    hull = cv2.convexHull(points[list(PALM)].astype(np.float32)).reshape(-1, 2).astype(np.float64)
    return Bones(tuple(joints_of(points, number) for number in range(5)), (hull,), thickness_of(points))


def cut_hand(pixels: np.ndarray, points: Floats) -> Hand | None:
    """Cut a hand with 21 points (21, 2) out of a photo, with those of its digits that stand out."""
    bones = hand_bones(points)
    cutout = cut(pixels, points, bones, 8 * bones.thickness)
    return None if cutout is None else Hand(cutout, tuple(_digits(cutout)))


def _digits(cutout: Cutout) -> list[Digit]:
    points, thickness = cutout.points, cutout.thickness
    height, width = cutout.matte.shape
    distances = []
    for number in range(5):
        canvas = np.ones((height, width), np.uint8)
        cv2.polylines(canvas, [joints_of(points, number)[1 if number == 0 else 0 :].round().astype(np.int32)], False, 0)
        distances.append(cv2.distanceTransform(canvas, cv2.DIST_L2, 3))
    palm = points[list(PALM)].mean(0)
    found = []
    for number in range(5):
        joints = joints_of(points, number)[1 if number == 0 else 0 :]
        chord, length = np.hypot(*(joints[-1] - joints[0])), np.hypot(*np.diff(joints, axis=0).T).sum()
        outwards = np.hypot(*(joints[-1] - palm)) > 1.25 * np.hypot(*(joints[0] - palm))
        if length < 3 * thickness or chord < STRAIGHT * length or not outwards:
            continue
        if not ((joints > 0) & (joints < (width - 1, height - 1))).all():
            continue
        line = line_through(joints, after=0.9 * thickness)
        root = 0.5 * thickness if number == 0 else 1.1 * thickness
        freedom = freedom_of(cutout, line, root, points[list(PALM)].mean(0))
        if freedom < 0.35:
            continue
        box = box_about(line.points, 2.5 * thickness, (height, width))
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        along, beside = line.place_box(box)
        others = np.min([distances[n][place] for n in range(5) if n != number], axis=0)
        own = np.clip(others - distances[number][place] + 0.5, 0, 1) * np.clip(along - 0.3 * root, 0, 1)
        near = np.clip(1.5 * thickness - np.abs(beside) + 0.5, 0, 1)
        matte, rest = np.zeros((height, width), np.float32), cutout.matte.copy()
        matte[place] = cutout.matte[place] * own * near
        rest[place] *= 1 - own
        found.append(Digit(line, box, matte, rest, root, number, freedom))
    return found


def _pick(hand: Hand, rng: np.random.Generator, fingers_only: bool = False) -> Digit | None:
    digits = [digit for digit in hand.digits if digit.freedom > 0.6 and not (fingers_only and digit.number == 0)]
    return digits[rng.integers(len(digits))] if digits else None


def extra(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A copy of a digit, turned about its knuckle, comes out from behind the hand."""
    cutout = hand.cutout
    choices = []
    for digit in hand.digits:
        pivot = digit.line.locate(np.array(-1.5 * cutout.thickness), np.array(0.0))
        for sign in (-1, 1):
            turned = digit.line.turned(np.array(pivot), sign * rng.uniform(16, 34))
            made = turned.scaled(rng.uniform(0.85, 1.1))
            box, pixels, matte = laid(cutout, digit.matte, digit.line, made, keep=2 * cutout.thickness)
            x1, y1, x2, y2 = box
            hidden = cutout.matte[y1:y2, x1:x2]
            seen = float((matte * (1 - hidden)).sum() / max(1.0, float(matte.sum())))
            if seen > 0.5 and within(cutout, made):
                choices.append((box, pixels, matte * (1 - hidden), hidden))
    if not choices:
        return None
    box, pixels, matte, hidden = choices[rng.integers(len(choices))]
    shade = 1 - 0.35 * cv2.GaussianBlur(hidden, (0, 0), max(1.0, 0.5 * cutout.thickness))
    return over(cutout.pixels, box, pixels * shade[..., None], matte)


def missing(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A digit is taken away."""
    digit = _pick(hand, rng)
    return None if digit is None else without(hand.cutout, digit)


def short(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A digit is a stub of a half of its length or less."""
    digit = _pick(hand, rng)
    if digit is None:
        return None
    times = max(rng.uniform(0.42, 0.58), (digit.root + 1.6 * hand.cutout.thickness) / digit.line.length)
    return replaced(hand.cutout, digit, digit.line.scaled(times)) if times < 0.75 else None


def long(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A digit is half as long again, or more; its tip keeps its form."""
    digit = _pick(hand, rng)
    return None if digit is None else replaced(hand.cutout, digit, digit.line.scaled(rng.uniform(1.45, 1.8)))


def bent(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A digit is bent sideways at a joint."""
    digit = _pick(hand, rng, fingers_only=True)
    if digit is None:
        return None
    degrees = rng.uniform(50, 85) * rng.choice((-1, 1))
    return replaced(hand.cutout, digit, digit.line.bent(rng.choice((0.42, 0.66)), degrees))


def fused(hand: Hand, rng: np.random.Generator) -> Crop | None:
    """A finger is drawn to its neighbour's side, and the skin of both runs into one."""
    digits = {digit.number: digit for digit in hand.digits if digit.freedom >= 0.5}
    pairs = [(digits[n], digits[m]) for n in range(1, 5) for m in (n - 1, n + 1) if m and n in digits and m in digits]
    spacing = rng.uniform(1.3, 1.6) * hand.cutout.thickness
    made = [(kept, moved, _beside(kept, moved, spacing, hand.cutout.thickness)) for kept, moved in pairs]
    made = [row for row in made if np.hypot(*(row[1].line.points - row[2].points).T).max() > hand.cutout.thickness]
    if not made:
        return None
    kept, moved, line = made[rng.integers(len(made))]
    below = replaced(hand.cutout, moved, line)
    if below is None:
        return None
    box = box_about(kept.line.points, 2.2 * hand.cutout.thickness, kept.matte.shape)
    x1, y1, x2, y2 = box
    _, beside = kept.line.place_box(box)
    depth = beside * _side(kept, moved)
    blend = np.clip((spacing / 2 - depth) / (0.6 * hand.cutout.thickness) + 0.5, 0, 1)
    return over(below, box, hand.cutout.pixels[y1:y2, x1:x2], kept.matte[y1:y2, x1:x2] * blend)


def _side(kept: Digit, moved: Digit) -> float:
    """On which side of one digit's line the other lies: 1 or -1."""
    return float(np.sign(np.median(kept.line.place(*moved.line.points.T[:, None])[1])))


def _beside(kept: Digit, moved: Digit, spacing: float, thickness: float) -> Line:
    """The line of `moved`, from its root on led along that of `kept`, `spacing` pixels beside it."""
    along, _ = kept.line.place(*moved.line.points.T[:, None])
    near = np.concatenate(kept.line.locate(along, np.full_like(along, _side(kept, moved) * spacing)), 0).T
    steps = np.linspace(0, moved.line.length, len(near))
    share = np.clip((steps - 0.3 * moved.root) / (1.5 * thickness), 0, 1)[:, None]
    share = share * share * (3 - 2 * share)
    return line_through((moved.line.points * (1 - share) + near * share)[::4])
