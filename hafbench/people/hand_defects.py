"""Errors of hands, made in the mesh and the pose of a person: each function changes one hand of a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hafbench.people.hand_frame import DIGITS, FINGERS, Hand, Side, hand_of
from hafbench.people.mesh import align, rotation
from hafbench.people.shaping import (
    Floats,
    Mask,
    Subject,
    about,
    carried,
    copied,
    influence,
    neighbourhood,
    noise,
    shift,
    smoothstep,
    stump,
    tucked,
    unit,
)
from hafbench.people.unions import joined, melted

Generator = np.random.Generator
FACING = 0.55


@dataclass(frozen=True)
class Place:
    """Where an error may be: a side, digits (1 is the thumb) that are well seen, those of them that are stretched."""

    side: Side
    digits: tuple[int, ...] = DIGITS
    raised: tuple[int, ...] = DIGITS
    facing: float = 1.0
    """How far the palm or the back faces the viewer: 1 straight, 0 if the hand is seen from its edge."""

    @property
    def flat(self) -> bool:
        """Whether the shape of the hand in its plane can be seen."""
        return self.facing >= FACING

    @property
    def fingers(self) -> tuple[int, ...]:
        """The stretched digits that are no thumb."""
        return tuple(digit for digit in self.raised if digit != 1)

    @property
    def countable(self) -> bool:
        """Whether one digit more, or less, stands out."""
        return len(self.digits) >= 4 and self.flat

    def rows(self, most: int) -> list[tuple[int, ...]]:
        """All rows of two to `most` neighbouring fingers that are stretched."""
        found = [tuple(range(first, first + count)) for count in range(2, most + 1) for first in range(2, 7 - count)]
        return [row for row in found if set(row) <= set(self.raised)]


Error = Callable[[Subject, Place, Generator], Subject | None]
"""Puts an error into a subject; None where it has no place."""


def extra_digit(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A sixth digit beside a finger, with bones of its own; the palm widens and the others make room for it."""
    hand = hand_of(subject.skeleton, at.side)
    if not at.fingers or not at.countable:
        return None
    source = int(rng.choice(at.fingers))
    knuckles = {digit: hand.knuckle(digit) for digit in FINGERS}
    places = {digit: float(knuckle @ hand.across) for digit, knuckle in knuckles.items()}
    grown = hand.width * float(rng.uniform(0.12, 0.22))
    line = np.linspace(places[2] + 0.5 * grown, places[5] - 0.5 * grown, 5)
    # The new one stands between its model and the little finger, or at the edge of the hand.
    order = [digit for digit in FINGERS if digit <= source] + [0] + [digit for digit in FINGERS if digit > source]
    targets = dict(zip(order, line, strict=True))
    known = [places[digit] for digit in reversed(FINGERS)]
    directions = {digit: hand.direction(digit) for digit in FINGERS}
    angles = {
        digit: float(np.degrees(np.arctan2(to @ hand.across, to @ hand.along))) for digit, to in directions.items()
    }

    def between(values: dict[int, Floats] | dict[int, float], place: float) -> Floats:
        """What the four fingers have at a place across the palm, continued beyond the outer ones."""
        ordered = [np.asarray(values[digit]) for digit in reversed(FINGERS)]
        low = int(np.clip(np.searchsorted(known, place) - 1, 0, 2))
        part = (place - known[low]) / (known[low + 1] - known[low])
        result: Floats = ordered[low] + part * (ordered[low + 1] - ordered[low])
        return result

    def move(digit: int, place: float, size: float = 1.0) -> Floats:
        swing = hand.swing(float(between(angles, place)) - angles[digit])
        matrix = about(knuckles[digit], rotation(hand.dorsal, swing) * size)
        return shift(between(knuckles, place) - knuckles[digit]) @ matrix

    share = hand.share(subject.mesh, [source])
    region = neighbourhood(subject.mesh, share > 0.3, 2) & (share > 0.08)
    changed, new, table = copied(subject, region, hand.digits[source], np.eye(4))
    own = list(table.values())
    moves = {digit: move(digit, float(targets[digit])) for digit in FINGERS}
    extra = move(source, float(targets[0]), float(rng.uniform(0.88, 0.98)))
    parts = [(np.where(new, 0, hand.share(changed.mesh, [digit])), moves[digit]) for digit in FINGERS]
    # The palm is stretched towards the knuckles.
    stretch = (line[0] - line[-1]) / (places[2] - places[5])
    middle = (places[2] + places[5]) / 2 * hand.across
    wide = about(middle, np.eye(3) + (stretch - 1) * np.outer(hand.across, hand.across))
    start = float(hand.head(hand.wrist) @ hand.along)
    reach = float(np.mean([knuckle @ hand.along for knuckle in knuckles.values()])) - start
    palm = influence(changed.mesh, hand.bones()) - hand.share(changed.mesh, list(DIGITS))
    ramp = smoothstep((changed.mesh.vertices @ hand.along - start) / reach, 0.1, 0.95) * np.clip(palm, 0, 1)
    parts += [(np.where(new, 0, ramp), wide), (np.where(new, 1.0, 0), extra)]
    bones = [(hand.digits[digit], moves[digit]) for digit in FINGERS]
    changed = carried(changed, parts, [*bones, (own, extra)])
    changed = _bent_a_little(changed, hand, source, own, rng)
    changed = changed.with_mesh(tucked(changed.mesh, new, smoothstep(influence(changed.mesh, own), 0.3, 0.95), 0.004))
    return _blended(changed, new, influence(changed.mesh, hand.bones()) > 0.5, 0.005)


def _bent_a_little(subject: Subject, hand: Hand, digit: int, bones: list[int], rng: Generator) -> Subject:
    """With the copy of a digit bent a little otherwise than its model."""
    degrees = float(rng.uniform(-10, 12))
    return subject.turned({bone: rotation(hand.flexion(digit, place), degrees) for place, bone in enumerate(bones)})


def _blended(subject: Subject, new: Mask, other: Mask, reach: float) -> Subject:
    return subject.with_mesh(joined(subject.mesh, [new, other & ~new], reach))


def two_thumbs(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A mirrored thumb at the little finger's side of the hand."""
    if 1 not in at.raised or not at.countable:
        return None
    hand = hand_of(subject.skeleton, at.side)
    middle = (hand.knuckle(3) + hand.knuckle(4)) / 2 + hand.across * hand.width * float(rng.uniform(0.02, 0.08))
    mirror = about(middle, np.eye(3) - 2 * np.outer(hand.across, hand.across))
    share = hand.share(subject.mesh, [1])
    region = neighbourhood(subject.mesh, share > 0.25, 2) & (share > 0.1)
    changed, new, table = copied(subject, region, hand.digits[1], mirror)
    own = influence(changed.mesh, list(table.values()))
    mesh = tucked(changed.mesh, new, smoothstep(own, 0.1, 0.8), 0.007)
    # What followed the palm beside the thumb follows the wrist at the other side.
    others = np.setdiff1d(hand.bones(), list(table.values()))
    bones = np.where(new[:, None] & np.isin(mesh.bones, others), hand.wrist, mesh.bones)
    changed = changed.with_mesh(replace(mesh, bones=bones.astype(mesh.bones.dtype)))
    return _blended(changed, new, influence(changed.mesh, hand.bones()) > 0.5, 0.008)


def forked_digit(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A digit that ends in two tips."""
    hand = hand_of(subject.skeleton, at.side)
    if not at.raised or not at.flat:
        return None
    digit, first = int(rng.choice(at.raised)), 1 + int(rng.random() < 0.4)
    bones = hand.digits[digit][first:]
    changed, new, table = copied(
        subject, neighbourhood(subject.mesh, influence(subject.mesh, bones) > 0.5, 2), bones, np.eye(4)
    )
    angle = float(rng.uniform(15, 25))
    one, two = (about(hand.head(bones[0]), rotation(hand.dorsal, sign * angle)) for sign in (1, -1))
    copies = list(table.values())
    parts = [(influence(changed.mesh, bones), one), (influence(changed.mesh, copies), two)]
    changed = carried(changed, parts, [(bones, one), (copies, two)])
    return _blended(changed, new, hand.share(changed.mesh, [digit]) > 0.5, 0.005)


def missing_digit(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A digit drawn in to its knuckle, or to a short stump."""
    hand = hand_of(subject.skeleton, at.side)
    if not at.digits or not at.flat:
        return None
    digit = int(rng.choice(at.digits))
    base = 1 if digit == 1 else 0
    bone = hand.digits[digit][base]
    head, direction = hand.head(bone), hand.direction(digit, base)
    length = float(np.linalg.norm(hand.skeleton.tails[bone] - head))
    if digit == 1:
        left = float(rng.uniform(0.0, 0.35)) * length
    else:
        left = float(rng.uniform(0.35, 0.55) if rng.random() < 0.75 else rng.uniform(0.65, 1.0)) * length
    share = influence(subject.mesh, hand.digits[digit][base:])
    region = (share > 0.4) & ((subject.mesh.vertices - head) @ direction > left)
    changed = subject.with_mesh(stump(subject.mesh, region, head + direction * left, direction, 0.011))
    return changed.marked(hand.digits[digit], gone=True)


def fused_digits(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """Two or three neighbouring fingers as one mass, bent alike."""
    rows = at.rows(3 if rng.random() < 0.3 else 2)
    if not rows or not at.flat:
        return None
    digits = list(rows[int(rng.integers(len(rows)))])
    hand = hand_of(subject.skeleton, at.side)
    middle = digits[len(digits) // 2]
    direction, knuckle = hand.direction(middle), hand.knuckle(middle)
    apart = float(rng.uniform(0.0085, 0.012))
    moves = {}
    for digit in digits:
        head = hand.knuckle(digit)
        target = knuckle + hand.across * apart * (middle - digit)
        target = target + direction * float((head - target) @ direction)
        moves[digit] = shift(target - head) @ about(head, align(hand.direction(digit), direction))
    changed = _moved_digits(_bent_alike(subject, hand, digits, middle), hand, moves)
    return _run_together(changed, at.side, digits, float(rng.uniform(0.006, 0.012)))


def _bent_alike(subject: Subject, hand: Hand, digits: list[int], model: int) -> Subject:
    """With fingers bent as one of them is, about axes of its own."""
    turns = {}
    parents = subject.skeleton.parents
    for digit in digits:
        for mine, its in zip(hand.digits[digit], hand.digits[model], strict=True):
            turns[mine] = subject.rotation(its)
        turns[int(parents[hand.digits[digit][0]])] = subject.rotation(int(parents[hand.digits[model][0]]))
    return subject.turned(turns, instead=True)


def _moved_digits(subject: Subject, hand: Hand, moves: dict[int, Floats]) -> Subject:
    parts = [(hand.share(subject.mesh, [digit]), matrix) for digit, matrix in moves.items()]
    return carried(subject, parts, [(hand.digits[digit], matrix) for digit, matrix in moves.items()])


def _run_together(
    subject: Subject, side: Side, digits: list[int], reach: float, swell: Callable[[Floats], Floats] | None = None
) -> Subject:
    """With these digits as one surface, beginning inside the knuckles; `swell` (n,) raises it at points (n, 3)."""
    mesh, hand = subject.mesh, hand_of(subject.skeleton, side)
    shares = [hand.share(mesh, [digit]) for digit in digits]
    alongs = [_along(hand, digit) for digit in digits]
    left = np.any(
        [(share > 0.9) & (along(mesh.vertices) > 0.25) for share, along in zip(shares, alongs, strict=True)], axis=0
    )
    parts = [share > 0.25 for share in shares]
    changes = [
        _rooted(hand, digit, mesh.vertices[share > 0.9], along, swell)
        for digit, share, along in zip(digits, shares, alongs, strict=True)
    ]

    def reach_at(points: Floats) -> Floats:
        far = np.max([along(points) for along in alongs], axis=0)
        result: Floats = reach * smoothstep(far, 0.15, 0.4)
        return result

    whole = subject.with_mesh(melted(mesh, parts, changes, reach_at, left[mesh.triangles].all(1)))
    return whole.marked(bone for digit in digits for bone in hand.digits[digit])


def _along(hand: Hand, digit: int) -> Callable[[Floats], Floats]:
    """How far points (n, 3) are along a digit: 0 at its knuckle, 1 at its tip."""
    head, direction, length = hand.knuckle(digit), hand.direction(digit), hand.length(digit)
    return lambda points: (points - head) @ direction / length


def _rooted(
    hand: Hand,
    digit: int,
    own: Floats,
    along: Callable[[Floats], Floats],
    swell: Callable[[Floats], Floats] | None,
) -> Callable[[Floats, Floats], Floats]:
    """A change of a digit's surface that sinks it below the skin towards the knuckle and ends it there.

    What is much farther from its bones than its own points (m, 3) is cut off.
    """
    heads = np.array([hand.head(bone) for bone in hand.digits[digit]])
    tips = np.array([*heads[1:], hand.skeleton.tails[hand.digits[digit][2]]])

    def aside(places: Floats) -> Floats:
        ways = tips - heads
        t = np.clip(((places[:, None] - heads) * ways).sum(-1) / (ways**2).sum(-1), 0, 1)
        result: Floats = np.linalg.norm(places[:, None] - heads - t[..., None] * ways, axis=-1).min(1)
        return result

    radius = float(np.quantile(aside(own), 0.95)) * 1.3

    def change(points: Floats, distance: Floats) -> Floats:
        far = along(points)
        sunk = distance + 0.0012 * (1 - smoothstep(far, 0.14, 0.24))
        if swell is not None:
            sunk = sunk - swell(points)
        result: Floats = np.maximum(np.maximum(sunk, aside(points) - radius), -far * hand.length(digit))
        return result

    return change


def melted_digits(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """Several fingers that swell, shrink and run together irregularly, as wax does."""
    hand = hand_of(subject.skeleton, at.side)
    rows = at.rows(4)
    if not rows or not at.flat:
        return None
    digits = list(rows[int(rng.integers(len(rows)))])
    middle = digits[len(digits) // 2]
    tip = hand.skeleton.tails[hand.digits[middle][2]]
    moves = {}
    for digit in digits:
        head, to = hand.knuckle(digit), hand.direction(digit)
        goal = unit(tip + hand.across * 0.009 * (middle - digit) - head)
        goal = unit(to + float(rng.uniform(0.35, 0.9)) * (goal - to))
        length = np.eye(3) + (float(rng.uniform(0.65, 1.1)) - 1) * np.outer(to, to)
        moves[digit] = about(head, align(to, goal) @ length)
    changed = _moved_digits(_bent_alike(subject, hand, digits, middle), hand, moves)
    amount, field = float(rng.uniform(0.0015, 0.003)), noise(rng, float(rng.uniform(0.02, 0.04)))
    knuckle, longest = hand.knuckle(middle), hand.length(middle)

    def swell(points: Floats) -> Floats:
        far = (points - knuckle) @ hand.along / longest
        result: Floats = smoothstep(far, 0.1, 0.5) * amount * (field(points) + 0.1)
        return result

    return _run_together(changed, at.side, digits, float(rng.uniform(0.008, 0.016)), swell)


def bent_back(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A finger, or two, bent towards the back of the hand."""
    hand = hand_of(subject.skeleton, at.side)
    if not at.fingers:
        return None
    rows = at.rows(2)
    digits = list(rows[int(rng.integers(len(rows)))]) if rows and rng.random() < 0.3 else [int(rng.choice(at.fingers))]
    at_knuckle = rng.random() < 0.5
    turns = {}
    for digit in digits:
        angles = (78.0, 18.0, 8.0) if at_knuckle else (8.0, 78.0, 15.0)
        for place, degrees in enumerate(angles):
            turns[hand.digits[digit][place]] = rotation(
                hand.flexion(digit, place), -degrees * float(rng.uniform(0.85, 1.15))
            )
    return subject.turned(turns, instead=True).marked(turns)


def bent_digit(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A finger bent sideways at a joint where it has no hinge that way."""
    hand = hand_of(subject.skeleton, at.side)
    if not at.fingers or not at.flat:
        return None
    digit = int(rng.choice(at.fingers))
    own = hand.digits[digit]
    sign = float(rng.choice([-1, 1]))
    turns = {own[1]: rotation(hand.dorsal, sign * float(rng.uniform(48, 75)))}
    if rng.random() < 0.4:
        turns[own[2]] = rotation(hand.dorsal, -sign * float(rng.uniform(40, 65)))
    return subject.turned(turns).marked(own)


def resized_digit(stretch: tuple[float, float], width: tuple[float, float]) -> Error:
    """An error: a digit stretched along and across its bones by factors drawn from these ranges."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        hand = hand_of(subject.skeleton, at.side)
        if not at.raised or (stretch[1] < 1 and not at.flat):
            return None
        digit = int(rng.choice(at.raised))
        start = 1 if digit == 1 else 0
        bones = hand.digits[digit][start:]
        head = hand.head(bones[0])
        direction = unit(hand.skeleton.tails[bones[-1]] - head)
        axis = np.outer(direction, direction)
        far = (subject.mesh.vertices - head) @ direction / hand.length(digit, start)
        share = influence(subject.mesh, bones)
        along = about(head, (np.eye(3) - axis) + float(rng.uniform(*stretch)) * axis)
        across = about(head, float(rng.uniform(*width)) * (np.eye(3) - axis) + axis)
        changed = carried(subject, [(share * smoothstep(far, 0.05, 0.5), across)], [])
        return carried(changed, [(share, along)], [(bones, along)]).marked(hand.digits[digit])

    return change


def turned_hand(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A hand bent sideways or back at the wrist, further than wrists go."""
    hand = hand_of(subject.skeleton, at.side)
    sign = float(rng.choice([-1, 1]))
    if rng.random() < 0.6:
        matrix = rotation(hand.dorsal, sign * float(rng.uniform(60, 90)))
    else:
        matrix = rotation(hand.across, sign * float(rng.uniform(105, 125)))
    return subject.turned({hand.wrist: matrix}, instead=True).marked(hand.bones())


def resized_hand(size: tuple[float, float]) -> Error:
    """An error: a hand larger or smaller by a factor drawn from this range."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        hand = hand_of(subject.skeleton, at.side)
        matrix = about(hand.head(hand.wrist), np.eye(3) * float(rng.uniform(*size)))
        changed = carried(subject, [(influence(subject.mesh, hand.bones()), matrix)], [(hand.bones(), matrix)])
        return changed.marked(hand.bones())

    return change
