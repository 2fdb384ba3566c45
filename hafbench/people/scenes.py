"""Random scenes: hands seen from near, from all sides, and whole or half figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hafbench.people import assets
from hafbench.people.body import Attributes, build_person, random_attributes
from hafbench.people.gestures import GESTURES
from hafbench.people.hand_frame import Hand, Side, hand_of
from hafbench.people.mesh import Array, Person, Rotations, Skeleton, bone_transforms, moved_points, rotation
from hafbench.people.objects import HELD, held, seat
from hafbench.people.poses import HandPose, hand_rotations
from hafbench.people.postures import ARMS, POSTURES, Poser, set_arm, set_body
from hafbench.people.scene import Background, Camera, Light, Scene, Setting, View, look_at

# How often each is drawn in hand views, where not once.
GESTURE_SHARES = {"open": 4.0, "spread": 3.0, "relaxed": 2.5, "fist": 1.5, "two": 1.5, "one": 1.5, "thumb_up": 1.5}
HAND_ARMS = ("show", "back_shown", "offer", "down", "up", "wave", "point", "thumb", "shake", "chest", "lap")
CONTACT_ARMS = ("cheek", "chin", "hips", "folded", "chest", "prayer")
BOTH_ARMS = ("show", "offer", "up", "back_shown", "lap", "prayer")
CONTACT_SHARE, BOTH_SHARE = 0.12, 0.12
"""How often a "hand" view shows a hand on the own body, and both hands."""
# Directions to the camera in the hand's frame (along, to the thumb, out of the palm), and their shares.
SIGHTS: dict[str, tuple[tuple[float, float, float], float]] = {
    "palm": ((0.1, 0.0, 1.0), 0.36), "back": ((0.1, 0.0, -1.0), 0.34), "thumb": ((0.1, 1.0, 0.25), 0.12),
    "little": ((0.1, -1.0, 0.2), 0.08), "tips": ((0.8, 0.2, 0.5), 0.05), "tips_back": ((0.75, 0.1, -0.6), 0.05),
}  # fmt: skip
SKIRTS = ("female_elegantsuit01",)
"""Clothes in which legs stay close."""
_SETTINGS: tuple[tuple[Setting, float], ...] = (("panorama", 0.62), ("wall", 0.16), ("gradient", 0.12), ("plain", 0.10))
# Bones that can stand before a hand, and how thick they are in metres.
_MIDDLE = {
    "spine05": 0.17,
    "spine04": 0.17,
    "spine03": 0.17,
    "spine02": 0.18,
    "spine01": 0.17,
    "neck01": 0.06,
    "head": 0.11,
}
_PAIRED = {
    "shoulder01": 0.08, "upperarm01": 0.06, "upperarm02": 0.05, "lowerarm01": 0.045, "upperleg01": 0.09,
    "upperleg02": 0.08,
}  # fmt: skip
_THICK = (*_MIDDLE.items(), *((f"{name}.{side}", thick) for name, thick in _PAIRED.items() for side in ("L", "R")))


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A linear RGB colour, mostly of low saturation."""
    grey = float(rng.uniform(0.04, 0.75))
    cast = np.exp(rng.normal(0, 0.45 if rng.random() < 0.35 else 0.12, 3))
    r, g, b = np.clip(grey * cast / cast.mean(), 0.01, 0.95)
    return (float(r), float(g), float(b))


def _light(rng: np.random.Generator) -> Light:
    names = assets.light_names()
    return Light(names[int(rng.integers(len(names)))], float(rng.uniform(0, 360)), float(rng.normal(0, 0.22)))


def _background(rng: np.random.Generator) -> Background:
    setting = _SETTINGS[int(rng.choice(len(_SETTINGS), p=[share for _, share in _SETTINGS]))][0]
    return Background(setting, _colour(rng), _colour(rng), float(rng.uniform(0.006, 0.03)), int(rng.integers(2**31)))


def _posed_points(skeleton: Skeleton, rotations: Rotations, bones: list[int]) -> tuple[Array, Array]:
    """Heads and tails (N, 3) of posed bones."""
    transforms = bone_transforms(skeleton, rotations)[bones]
    return moved_points(skeleton.heads[bones], transforms), moved_points(skeleton.tails[bones], transforms)


def _distance(start: Array, end: Array, a: Array, b: Array) -> float:
    """The distance between two segments, by points along the second."""
    shares = np.linspace(0, 1, 24)[:, None]
    points = a + shares * (b - a)
    way = end - start
    place = np.clip((points - start) @ way / max(1e-9, float(way @ way)), 0, 1)[:, None]
    return float(np.linalg.norm(points - start - place * way, axis=1).min())


def _clearance(skeleton: Skeleton, rotations: Rotations, camera: Array, target: Array) -> float:
    """Metres that the body leaves free between a camera and what is 8 cm before its target; at most 12 cm."""
    names = [name for name, _ in _THICK]
    starts, ends = _posed_points(skeleton, rotations, [skeleton.index(name) for name in names])
    near = target + (camera - target) * min(0.7, 0.08 / float(np.linalg.norm(camera - target)))
    free = [
        _distance(start, end, near, camera) - thick for start, end, (_, thick) in zip(starts, ends, _THICK, strict=True)
    ]
    return min(0.12, *free)


def _hand_axes(hand: Hand, rotations: Rotations) -> Array:
    """Along, to the thumb, and out of the palm (3, 3), of the posed hand."""
    turn = bone_transforms(hand.skeleton, rotations)[hand.wrist, :3, :3]
    return np.array([turn @ hand.along, turn @ hand.across, -(turn @ hand.dorsal)])


def _hand_camera(hand: Hand, rotations: Rotations, rng: np.random.Generator, others: tuple[Hand, ...] = ()) -> Camera:
    """A camera that sees the hand and the wrist, and others too, from any side that the body leaves free."""
    axes = _hand_axes(hand, rotations)
    bones = [bone for one in (hand, *others) for bone in one.bones()]
    starts, ends = _posed_points(hand.skeleton, rotations, bones)
    points = np.concatenate([starts, ends])
    centre = (points.max(0) + points.min(0)) / 2
    best = -np.inf
    for _ in range(24):
        sight = _pick(rng, {name: share for name, (_, share) in SIGHTS.items()})
        way = np.array(SIGHTS[sight][0]) @ axes
        way = way / np.linalg.norm(way) + rng.normal(0, 0.26, 3)
        way /= np.linalg.norm(way)
        reach = float(rng.uniform(0.42, 0.85)) + 0.8 * max(0.0, float(np.ptp(points, axis=0).max()) - 0.25)
        free = _clearance(hand.skeleton, rotations, centre + way * reach, centre)
        if free > best:
            best, direction, distance = free, way, reach
        if best > 0.06:
            break
    position = centre + direction * distance
    # Photographs of hands are upright for the photographer, or for the hand.
    up = np.array([0.0, 1.0, 0.0]) if rng.random() < 0.6 else axes[0]
    up = up + rng.normal(0, 0.12, 3)
    if abs(up @ direction) > 0.9 * np.linalg.norm(up):
        up = axes[0] + 0.3 * axes[1]
    camera = look_at(position, centre, up, 1.0)
    seen = camera.seen(points)[:, :2]
    extent = float((seen.max(0) - seen.min(0)).max())
    middle = (seen.max(0) + seen.min(0)) / 2
    fill = float(rng.uniform(0.56, 0.82))
    shift = rng.uniform(-1, 1, 2) * (0.9 - fill) * 0.35 * extent / fill
    right, up_ = camera.turn[0], camera.turn[1]
    moved = position + distance * ((middle[0] + shift[0]) * right - (middle[1] + shift[1]) * up_)
    return replace(camera, position=moved, focal=fill / extent)


def _figure_camera(skeleton: Skeleton, rotations: Rotations, rng: np.random.Generator) -> Camera:
    """A camera that sees the whole figure, or its upper half."""
    starts, ends = _posed_points(skeleton, rotations, list(range(len(skeleton.names))))
    points = np.concatenate([starts, ends])
    full = rng.random() < 0.6
    hip = float(starts[skeleton.index("upperleg01.L")][1])
    if not full:
        points = points[points[:, 1] > hip - 0.05]
    low, high = points.min(0), points.max(0)
    high[1] += 0.04
    centre = (low + high) / 2
    yaw = float(rng.normal(0, 26)) + (180.0 if rng.random() < 0.08 else 0.0)
    tilt = float(np.clip(rng.normal(4, 7), -10, 28))
    direction = rotation(np.array([0.0, 1, 0]), yaw) @ rotation(np.array([1.0, 0, 0]), -tilt) @ np.array([0.0, 0, 1])
    distance = float(rng.uniform(2.4, 4.5)) * (1.0 if full else 0.7)
    camera = look_at(centre + direction * distance, centre, np.array([rng.normal(0, 0.03), 1.0, 0.0]), 1.0)
    seen = camera.seen(points)[:, :2]
    extent = float(np.abs(seen).max() * 2)
    return replace(camera, focal=float(rng.uniform(0.78, 0.93)) / extent)


def _hands(
    skeleton: Skeleton, gestures: dict[Side, str], rng: np.random.Generator
) -> tuple[dict[str, Array], dict[Side, HandPose]]:
    rotations: dict[str, Array] = {}
    poses: dict[Side, HandPose] = {}
    for side, gesture in gestures.items():
        own, poses[side] = hand_rotations(hand_of(skeleton, side), gesture, rng)
        rotations |= own
    return rotations, poses


def _with_held(
    person: Person, side: Side, gesture: str, rotations: dict[str, Array], rng: np.random.Generator
) -> Person:
    fingers = {name: turn for name, turn in rotations.items() if name.startswith("finger")}
    thing = held(hand_of(person.skeleton, side), gesture, fingers, _colour(rng), rng)
    return person if thing is None else replace(person, layers=(*person.layers, thing))


def random_scene(
    seed: int, view: View = "hand", gesture: str | None = None, attributes: Attributes | None = None
) -> Scene:
    """The scene of a seed. Its random numbers do not depend on the person's mesh.

    gesture: of the hand that a "hand" view shows; drawn if None. A "figure" draws a posture, and gestures with it.
    """
    person_rng, pose_rng, look_rng = (np.random.default_rng([seed, stream]) for stream in (1, 2, 3))
    person = build_person(random_attributes(person_rng) if attributes is None else attributes)
    skeleton = person.skeleton
    side: Side = "L" if pose_rng.random() < 0.5 else "R"
    other: Side = "R" if side == "L" else "L"
    both = False
    if view == "hand":
        kind = pose_rng.random()
        both = bool(kind < BOTH_SHARE)
        contact = gesture is None and not both and kind < BOTH_SHARE + CONTACT_SHARE
        table = BOTH_ARMS if both else CONTACT_ARMS if contact else HAND_ARMS
        posture = table[int(pose_rng.integers(len(table)))]
        own = ARMS[posture].gestures
        if gesture is None and posture in CONTACT_ARMS:
            gesture = own[int(pose_rng.integers(len(own)))]
        gesture = gesture or _pick(pose_rng, {name: GESTURE_SHARES.get(name, 1.0) for name in GESTURES})
        second = posture if both or posture == "prayer" else "down"
        arms, legs = {side: posture, other: second}, "sit" if posture == "lap" else "stand"
        gestures: dict[Side, str] = {side: gesture, other: gesture if second == posture else "relaxed"}
    else:
        posture = _pick(pose_rng, dict.fromkeys(POSTURES, 1.0))
        first, second, stances = POSTURES[posture]
        arms, legs = {side: first, other: second}, stances[int(pose_rng.integers(len(stances)))]
        if any(layer.name in SKIRTS for layer in person.layers) and legs not in ("walk", "apart"):
            legs = "stand"
        gestures = {
            one: ARMS[arms[one]].gestures[int(pose_rng.integers(len(ARMS[arms[one]].gestures)))]
            for one in (side, other)
        }
        gesture = gestures[side]
    poser = Poser(skeleton)
    set_body(poser, legs, pose_rng, mirrored=side == "R")
    rotations, poses = _hands(skeleton, gestures, pose_rng)
    for one in (side, other):
        set_arm(poser, arms[one], one, poses[one], pose_rng)
    rotations |= poser.rotations()
    if legs == "sit":
        person = replace(person, layers=(*person.layers, seat(skeleton, rotations, _colour(pose_rng), pose_rng)))
    if gesture in HELD:
        person = _with_held(person, side, gesture, rotations, pose_rng)
    if view == "hand":
        more = (hand_of(skeleton, other),) if both else ()
        camera = _hand_camera(hand_of(skeleton, side), rotations, pose_rng, more)
    else:
        camera = _figure_camera(skeleton, rotations, pose_rng)
    light, background = _light(look_rng), _background(look_rng)
    aperture = float(look_rng.uniform(0.003, 0.02)) if view == "hand" else 0.0
    noise = float(abs(look_rng.normal(0.006, 0.008)))
    return Scene(seed, view, side, gesture, posture, person, rotations, camera, light, background, aperture, noise)
