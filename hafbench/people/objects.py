"""Things: a ball, a cup or a stick, made to fit between posed fingers, and a stool to sit on."""

from __future__ import annotations

import numpy as np

from hafbench.people.hand_frame import Hand
from hafbench.people.mesh import Array, Indices, Layer, Mesh, Rotations, Skeleton, bone_transforms, moved_points

HELD = ("ball", "cup", "stick")
"""The gestures that hold the thing of the same name."""


def _grid_triangles(rows: int, columns: int) -> Indices:
    """Triangles of a closed strip: `columns` wrap round, `rows` do not."""
    a = np.arange(rows - 1)[:, None] * columns + np.arange(columns)
    b = np.arange(rows - 1)[:, None] * columns + (np.arange(columns) + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], -1).reshape(-1, 4)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _turned(profile: Array, columns: int = 32) -> tuple[Array, Indices]:
    """A surface about y: a profile of radius and height (R, 2), closed at both ends by its radii of nearly 0."""
    angle = np.arange(columns) / columns * 2 * np.pi
    radius, height = profile[:, :1], profile[:, 1:]
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), height, -radius * np.sin(angle)), -1)
    return points.reshape(-1, 3), _grid_triangles(len(profile), columns)


def _ball(radius: float) -> tuple[Array, Indices]:
    angle = np.linspace(-np.pi / 2, np.pi / 2, 20)
    return _turned(np.stack([radius * np.cos(angle) + 1e-6, radius * np.sin(angle)], 1))


def _rounded(radius: float, half: float, edge: float, hollow: float = 0.0) -> tuple[Array, Indices]:
    """A cylinder with rounded edges; hollow: the depth of a hole in its top."""
    bend = np.linspace(0, np.pi / 2, 5)
    low = [(1e-6, -half), *((radius - edge + edge * np.sin(a), -half + edge - edge * np.cos(a)) for a in bend)]
    high = [(radius - edge + edge * np.cos(a), half - edge + edge * np.sin(a)) for a in bend]
    inner = [(radius - 2 * edge, half - edge), (radius - 2.2 * edge, half - hollow), (1e-6, half - hollow)]
    return _turned(np.array([*low, *high, *(inner if hollow else [(1e-6, half)])]))


def _box(size: Array, edge: float) -> tuple[Array, Indices]:
    """A rounded box: a ball, pulled apart to the corners."""
    points, triangles = _ball(edge)
    return points + np.where(points >= 0, 1, -1) * (size / 2 - edge), triangles


def _finger_points(hand: Hand, rotations: dict[str, Array]) -> Array:
    """Points (N, 3) along the middles of all digits' posed bones, the hand at rest."""
    skeleton = hand.skeleton
    transforms = bone_transforms(skeleton, rotations)
    bones = [bone for digit in hand.digits.values() for bone in digit]
    found = []
    for share in (0.0, 0.25, 0.5, 0.75, 0.95):
        points = skeleton.heads[bones] * (1 - share) + skeleton.tails[bones] * share
        found.append(moved_points(points, transforms[bones]))
    return np.concatenate(found)


def _fit(points: Array, start: Array, axis: Array | None, reach: float, finger: float) -> tuple[Array, float]:
    """The centre and radius of the largest ball, or rod along an axis, between fingers: from a start, within reach."""
    offsets = np.random.default_rng(5).uniform(-1, 1, (400, 3)) * reach
    centres = np.concatenate([start[None], start + offsets])
    away = centres[:, None] - points[None]
    if axis is not None:
        away = away - (away @ axis)[..., None] * axis
    radii = np.linalg.norm(away, axis=2).min(1) - finger
    best = int(np.argmax(radii - 0.25 * np.linalg.norm(centres - start, axis=1)))
    return centres[best], float(radii[best])


def held(
    hand: Hand, gesture: str, rotations: dict[str, Array], tint: tuple[float, float, float], rng: np.random.Generator
) -> Layer | None:
    """The thing that a gesture holds, carried by the wrist's bone; None for other gestures."""
    if gesture not in HELD:
        return None
    palmar = -hand.dorsal
    palm = hand.head(hand.wrist) + hand.along * 0.9 * hand.width
    points = np.concatenate([_finger_points(hand, rotations), palm[None] + 0.12 * hand.width * palmar])
    finger = 0.125 * hand.width
    upright = hand.across
    frame = np.stack([palmar, upright, np.cross(palmar, upright)], 1)
    if gesture == "ball":
        centre, radius = _fit(
            points, palm + palmar * 0.72 * hand.width + hand.along * 0.25 * hand.width, None, 0.02, finger
        )
        shape, triangles = _ball(float(np.clip(radius, 0.012, 0.05)))
    elif gesture == "cup":
        centre, radius = _fit(
            points, palm + palmar * 0.62 * hand.width + hand.along * 0.15 * hand.width, upright, 0.02, finger
        )
        radius = float(np.clip(radius, 0.012, 0.045))
        shape, triangles = _rounded(radius, 0.052 + rng.uniform(0, 0.02), 0.0022, 0.08)
    else:
        centre, radius = _fit(
            points, palm + palmar * 0.36 * hand.width + hand.along * 0.08 * hand.width, upright, 0.012, finger
        )
        shape, triangles = _rounded(float(np.clip(radius, 0.006, 0.018)), float(rng.uniform(0.12, 0.3)), 0.002)
    if np.linalg.det(frame) < 0:
        triangles = triangles[:, ::-1].copy()
    return Layer(gesture, "object", _carried(centre + shape @ frame.T, triangles, hand.wrist), "", tint)


def seat(skeleton: Skeleton, rotations: Rotations, tint: tuple[float, float, float], rng: np.random.Generator) -> Layer:
    """A stool under somebody who sits; it does not move with any bone but the root."""
    transforms = bone_transforms(skeleton, rotations)
    bones = [skeleton.index(f"upperleg01.{side}") for side in ("L", "R")]
    hips = moved_points(skeleton.heads[bones], transforms[bones])
    knees = moved_points(skeleton.tails[bones], transforms[bones])
    feet = [skeleton.index(f"foot.{side}") for side in ("L", "R")]
    floor = float(moved_points(skeleton.tails[feet], transforms[feet])[:, 1].min()) - 0.03
    top = float(hips[:, 1].mean()) - 0.085
    middle = hips.mean(0) * 0.75 + knees.mean(0) * 0.25
    size = np.array([rng.uniform(0.36, 0.5), max(0.1, top - floor), rng.uniform(0.34, 0.44)])
    shape, triangles = _box(size, 0.02) if rng.random() < 0.5 else _rounded(size[0] / 2, size[1] / 2, 0.015)
    vertices = shape + np.array([middle[0], top - size[1] / 2, middle[2]])
    return Layer("seat", "object", _carried(vertices, triangles, skeleton.index("root")), "", tint)


def _carried(vertices: Array, triangles: Indices, bone: int) -> Mesh:
    """A mesh that one bone carries."""
    bones = np.full((len(vertices), 4), bone, np.int32)
    weights = np.tile(np.array([1, 0, 0, 0], np.float32), (len(vertices), 1))
    placed = vertices.astype(np.float32)
    return Mesh(placed, triangles, np.zeros((1, 2), np.float32), np.zeros_like(triangles), bones, weights)
