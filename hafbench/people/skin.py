"""The look of skin: its texture, nails, creases, fine structure and sheen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hafbench.people import assets, shade
from hafbench.people import light as lights
from hafbench.people.hand_frame import Side, hand_of
from hafbench.people.mesh import Array, Floats, Indices, Layer, Skeleton
from hafbench.people.sampling import sample

if TYPE_CHECKING:
    from hafbench.people.scene import Scene

SIDES: tuple[Side, Side] = ("L", "R")
_CELLS, _CELL = 64, 0.00022
"""The fine structure repeats after _CELLS cells of _CELL metres."""
# Lines of the palm: three points of a curve, in palm widths from the wrist to the fingers, and to the thumb's side.
_LINES = (
    ((1.18, 0.40), (1.02, -0.02), (0.28, -0.02)),
    ((1.16, 0.42), (1.00, 0.10), (0.72, -0.36)),
    ((0.98, -0.58), (0.98, -0.10), (1.36, 0.14)),
)


@dataclass(frozen=True)
class SkinPoints:
    """Points of skin: uv (N, 2), place at rest, unit normal at rest and in the pose, and direction to the eye (N, 3).

    irradiance (N, 3) is over pi; open_ (N, 1) is the share of the light that comes through; bones (N,) they follow;
    turns (N, 3, 3) of these from the rest pose.
    """

    uv: Floats
    rest: Floats
    rest_normal: Floats
    normal: Floats
    to_eye: Floats
    irradiance: Floats
    open_: Floats
    bones: Indices
    turns: Floats


@lru_cache(maxsize=1)
def _structure() -> Floats:
    """A periodic field (C, C, C, 4): its value, of unit variance, and its slopes, of about unit variance."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(11)
    total = np.zeros((_CELLS,) * 3)
    for width, share in ((1.6, 0.6), (3.5, 0.6), (8.0, 0.5)):
        layer = gaussian_filter(rng.normal(size=total.shape), width, mode="wrap")
        total += share * layer / layer.std()
    total /= total.std()
    slopes = [(np.roll(total, -1, axis) - np.roll(total, 1, axis)) / 2 for axis in range(3)]
    slopes = [slope / slope.std() for slope in slopes]
    return np.stack([total, *slopes], -1).astype(np.float32)


def _field(points: Floats, cell: float) -> Floats:
    index = np.floor(points / cell).astype(np.int64) % _CELLS
    found: Floats = _structure()[index[:, 0], index[:, 1], index[:, 2]]
    return found


def _joints(skeleton: Skeleton) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each bone: whether a digit's joint begins it (B,), where, its direction, and out of the back (B, 3)."""
    count = len(skeleton.names)
    is_joint = np.array(["finger" in name and ("-2." in name or "-3." in name) for name in skeleton.names])
    along = (skeleton.tails - skeleton.heads).astype(np.float32)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    back = np.zeros((count, 3), np.float32)
    for side in SIDES:
        dorsal = hand_of(skeleton, side).dorsal
        for number, name in enumerate(skeleton.names):
            if is_joint[number] and name.endswith(side):
                out = dorsal - along[number] * (along[number] @ dorsal)
                if "finger1" in name:  # the thumb's nail looks sideways
                    out = out + 0.8 * hand_of(skeleton, side).across
                    out = out - along[number] * (along[number] @ out)
                back[number] = out / np.linalg.norm(out)
    return is_joint.astype(np.float32), skeleton.heads.astype(np.float32), along, back


def _creases(skeleton: Skeleton, points: SkinPoints, field: Floats) -> tuple[Floats, Floats]:
    """Depth of the creases at the digits' joints (N,), 0..1, and how they tilt the surface along the digit (N, 3)."""
    is_joint, heads, along, back = _joints(skeleton)
    depth = np.zeros(len(points.rest), np.float32)
    tilt = np.zeros((len(points.rest), 3), np.float32)
    children = np.arange(len(skeleton.names))
    for number, parent in enumerate(skeleton.parents):
        if is_joint[number]:
            children[parent] = number
    for joint in (points.bones, children[points.bones]):
        some = np.nonzero((is_joint[joint] > 0) & ((joint != points.bones) | (joint is points.bones)))[0]
        bone = joint[some]
        place = (((points.rest[some] - heads[bone]) * along[bone]).sum(1) + 0.0006 * field[some, 0]) * 1000
        side = (points.rest_normal[some] * back[bone]).sum(1)
        dorsal, palmar = np.clip(side * 1.6 - 0.1, 0, 1), np.clip(-side * 1.6 - 0.1, 0, 1)
        near = np.exp(-((place / 5.0) ** 2)) * dorsal
        wave = np.cos(place * 2 * np.pi / 2.3 + 0.7 * field[some, 0])
        lines = sum(np.exp(-(((place - at) / 0.55) ** 2)) for at in (-1.3, 1.1))
        depth[some] += 0.26 * near * np.maximum(wave, 0) + 0.55 * palmar * lines
        tilt[some] += (0.22 * near * np.sin(place * 2 * np.pi / 2.3))[:, None] * along[bone]
    return np.minimum(depth, 1), tilt


@lru_cache(maxsize=1)
def _palm_lines() -> Array:
    """Points (N, 2) of the palm's lines, in the units of `_LINES`."""
    t = np.linspace(0, 1, 120)[:, None]
    return np.concatenate(
        [(1 - t) ** 2 * np.array(a) + 2 * t * (1 - t) * np.array(b) + t**2 * np.array(c) for a, b, c in _LINES]
    )


def _palm_creases(skeleton: Skeleton, points: SkinPoints, field: Floats) -> Floats:
    """Depth of the palm's lines (N,), 0..1."""
    from scipy.spatial import cKDTree

    depth = np.zeros(len(points.rest), np.float32)
    names = skeleton.names
    for side in SIDES:
        hand = hand_of(skeleton, side)
        own = [i for i, name in enumerate(names) if name.endswith(side) and ("metacarpal" in name or "wrist" in name)]
        own += [skeleton.index(f"finger{digit}-1.{side}") for digit in range(1, 6)]
        some = np.nonzero(np.isin(points.bones, own) & (points.rest_normal @ hand.dorsal < -0.25))[0]
        if not len(some):
            continue
        away = (points.rest[some] - hand.head(hand.wrist)) / hand.width
        flat = np.stack([away @ hand.along, away @ hand.across], 1) + 0.012 * field[some, 1:3]
        distance, _ = cKDTree(_palm_lines()).query(flat, distance_upper_bound=0.06)
        depth[some] = np.exp(-((np.minimum(distance, 9.0) / 0.011) ** 2))
    return depth


def _bumped(normal: Floats, slope: Floats) -> Floats:
    tilted = normal - (slope - normal * (slope * normal).sum(1, keepdims=True))
    return np.asarray(tilted / np.maximum(np.linalg.norm(tilted, axis=1, keepdims=True), 1e-6), np.float32)


def skin_colours(scene: Scene, layer: Layer, points: SkinPoints) -> Floats:
    """Radiance (N, 3) of skin."""
    base = sample(assets.texture(layer.texture), points.uv)[:, :3] * np.array(layer.tint, np.float32)
    fine, coarse = _field(points.rest, _CELL), _field(points.rest, _CELL * 7)
    slope = 0.035 * fine[:, 1:]
    mark = sample(assets.marks(), points.uv)
    nail = np.clip(mark[:, :1] + mark[:, 1:2], 0, 1)
    if scene.view == "hand":
        depth, tilt = _creases(scene.person.skeleton, points, coarse)
        depth = np.minimum(1, depth + 0.6 * _palm_creases(scene.person.skeleton, points, coarse))[:, None]
        depth = depth * (1 - nail)
        slope = slope + tilt
        base = base * (1 - depth * np.array([0.24, 0.38, 0.42], np.float32))
    flush = 1 + coarse[:, :1] * np.array([0.030, 0.055, 0.060], np.float32) * 0.7
    base = base * flush * (1 + 0.016 * fine[:, :1])
    # Nails: a clear plate over a rosy bed.
    bed = base * np.array([0.92, 0.85, 0.88], np.float32) + np.array([0.10, 0.075, 0.07], np.float32)
    if scene.person.nails is not None:
        bed = np.broadcast_to(np.array(scene.person.nails, np.float32), bed.shape)
    base = base * (1 - nail) + bed * nail
    slope = (points.turns @ (slope * (1 - nail))[:, :, None])[:, :, 0]
    normal = _bumped(points.normal, slope)
    diffuse = lights.blurred(scene.light.name, 1.0)
    turn = scene.light.degrees
    before, after = (lights.look_up(diffuse, n, turn).mean(1, keepdims=True) for n in (points.normal, normal))
    light = points.irradiance * np.clip(after / np.maximum(before, 1e-6), 0.6, 1.5)
    gloss = 0.22 + 0.6 * nail[:, 0]
    mirror = shade.reflected(scene.light, normal, points.to_eye, 0.028 + 0.02 * nail, gloss[:, None])
    return np.asarray(np.minimum(base, 0.92) * light + 0.8 * mirror * points.open_, np.float32)
