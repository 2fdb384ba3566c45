"""What is behind the person: a panorama out of focus, a plain colour, or a wall and a floor that catch shadows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hafbench.people import assets
from hafbench.people import light as lights
from hafbench.people.mesh import Array, Floats, rotation
from hafbench.people.sampling import bilinear
from hafbench.people.shade import Tracer, irradiance

if TYPE_CHECKING:
    from hafbench.people.scene import Scene

_STEP = 4
"""Shadows are traced for one pixel in _STEP x _STEP."""
_UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class _Plane:
    """A point, the normal towards the viewer and two directions along the plane, each (3,)."""

    point: Array
    normal: Array
    across: Array
    along: Array


def _plane(point: Array, normal: Array) -> _Plane:
    normal = normal / np.linalg.norm(normal)
    across = np.cross(_UP if abs(normal[1]) < 0.9 else np.array([0.0, 0.0, 1.0]), normal)
    across /= np.linalg.norm(across)
    return _Plane(point, normal, across, np.cross(normal, across))


def _planes(scene: Scene, ground: float, rng: np.random.Generator) -> list[_Plane]:
    """The wall or table behind the person, and below a figure the floor at the height `ground`."""
    camera = scene.camera
    forward = -camera.turn[2]
    if scene.view == "hand":
        tilt = rotation(camera.turn[0], float(rng.normal(0, 18))) @ rotation(camera.turn[1], float(rng.normal(0, 18)))
        point = camera.position + forward * (camera.focus + float(rng.uniform(0.13, 0.5)))
        return [_plane(point, tilt @ camera.turn[2])]
    level = forward - _UP * (forward @ _UP)
    level /= np.linalg.norm(level)
    point = camera.position + level * (camera.focus + float(rng.uniform(0.7, 2.5)))
    wall = _plane(point, rotation(_UP, float(rng.normal(0, 15))) @ -level)
    return [wall, _plane(np.array([0.0, ground, 0.0]), _UP)]


def _noise(place: Floats, rng: np.random.Generator, finest: float, octaves: int) -> Floats:
    """Smooth noise (N,) of about unit variance at places (N, 2) in metres; its finest cells are `finest` wide."""
    total = np.zeros(len(place), np.float32)
    for octave in range(octaves):
        cells = rng.normal(size=(64, 64, 1)).astype(np.float32)
        wrapped = np.pad(cells, ((0, 1), (0, 1), (0, 0)), mode="wrap")
        at = place / (finest * 2**octave) % 64
        total += bilinear(wrapped, at[:, 0], at[:, 1])[:, 0] * 2 ** (0.5 * (octave - octaves))
    return total


def _pattern(place: Floats, one: Floats, other: Floats, rng: np.random.Generator) -> Floats:
    """Colours (N, 3) of a surface at places (N, 2) in metres: plaster, planks, tiles or cloth."""
    kind = int(rng.integers(4))
    stain = _noise(place, rng, 0.03, 5)[:, None]
    fine = _noise(place, rng, 0.0015, 4)[:, None]
    base = one * np.exp(0.07 * stain + 0.05 * fine)
    if kind == 1:
        width = float(rng.uniform(0.06, 0.16))
        number = np.floor(place[:, 0] / width)
        tone = np.sin(number * 12.9898 + 4.1) * 0.16
        grain = _noise(place * np.array([1.0, 0.06], np.float32), rng, 0.0016, 5)
        edge = np.abs(place[:, 0] / width - np.round(place[:, 0] / width)) * width
        base = base * np.exp(tone + 0.14 * grain)[:, None] * (1 - 0.7 * np.exp(-((edge / 0.0016) ** 2)))[:, None]
    elif kind == 2:
        width = float(rng.uniform(0.05, 0.2))
        offset = np.abs(place / width - np.round(place / width)).min(1) * width
        joint = np.exp(-((offset / 0.0025) ** 4))[:, None]
        cell = np.sin(np.floor(place / width + 0.5) @ np.array([12.99, 78.23])) * 0.06
        base = base * np.exp(cell)[:, None] * (1 - joint) + other * 0.6 * joint
    elif kind == 3:
        period = float(rng.uniform(0.0012, 0.003))
        weave = np.sin(place[:, 0] * 2 * np.pi / period) * np.sin(place[:, 1] * 2 * np.pi / period)
        base = base * (1 + 0.10 * weave)[:, None]
    return np.clip(base, 0.005, 0.95).astype(np.float32)


def _hit(plane: _Plane, start: Array, directions: Floats) -> Floats:
    """Distances (N,) to a plane along directions (N, 3); inf where they do not meet it."""
    facing = directions @ plane.normal.astype(np.float32)
    distance = np.float32((plane.point - start) @ plane.normal) / np.where(np.abs(facing) < 1e-6, -1e-6, facing)
    return np.where(distance > 0, distance, np.inf).astype(np.float32)


def _open(scene: Scene, tracer: Tracer, plane: _Plane, directions: Floats) -> tuple[Floats, Floats]:
    """Irradiance / pi (H, W, 3) on a plane, and the share (H, W) of the light that the person leaves it."""
    size = directions.shape[0]
    coarse = directions[_STEP // 2 :: _STEP, _STEP // 2 :: _STEP]
    rays = coarse.reshape(-1, 3)
    distance = _hit(plane, scene.camera.position, rays)
    met = np.isfinite(distance) & (distance < 12)
    light, share = np.zeros((len(rays), 3), np.float32), np.ones(len(rays), np.float32)
    if met.any():
        points = (scene.camera.position + rays[met] * distance[met, None]).astype(np.float32)
        normals = np.broadcast_to(plane.normal.astype(np.float32), points.shape)
        light[met], share[met] = irradiance(tracer, points, normals, scene.light, 0.002)
        light[~met] = light[met].mean(0)
    both = np.concatenate([light, share[:, None]], 1).reshape(*coarse.shape[:2], 4)
    import cv2

    # Fixed directions of the light would leave steps in the shadows.
    both = cv2.GaussianBlur(both, (0, 0), 1.1)
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    fine = bilinear(both, (columns.ravel() + 0.5) / _STEP - 0.5, (rows.ravel() + 0.5) / _STEP - 0.5)
    fine = fine.reshape(size, size, 4)
    return fine[..., :3], fine[..., 3]


def _walls(scene: Scene, tracer: Tracer, directions: Floats, ground: float) -> Floats:
    rng = np.random.default_rng([scene.background.seed, 1])
    size, rays = directions.shape[0], directions.reshape(-1, 3)
    colours = np.array([scene.background.colour, scene.background.other], np.float32)
    out, nearest = np.zeros((len(rays), 3), np.float32), np.full(len(rays), np.inf, np.float32)
    for number, plane in enumerate(_planes(scene, ground, rng)):
        distance = _hit(plane, scene.camera.position, rays)
        light, _ = _open(scene, tracer, plane, directions)
        some = np.nonzero(distance < nearest)[0]
        points = scene.camera.position + rays[some] * distance[some, None]
        place = np.stack([(points - plane.point) @ plane.across, (points - plane.point) @ plane.along], 1)
        pattern = _pattern(place.astype(np.float32), colours[number], colours[1 - number], rng)
        out[some], nearest[some] = pattern * light.reshape(-1, 3)[some], distance[some]
    return out.reshape(size, size, 3)


def behind(scene: Scene, directions: Floats, exposure: Floats, tracer: Tracer, ground: float) -> Floats:
    """Radiance (H, W, 3) of the background in the directions (H, W, 3) of the pixels.

    ground: the height of the floor that a figure stands on.
    """
    import cv2

    size, back = directions.shape[0], scene.background
    if back.setting == "wall":
        walls = _walls(scene, tracer, directions, ground)
        return np.asarray(cv2.GaussianBlur(walls, (0, 0), max(0.5, 0.15 * back.blur * size)), np.float32)
    if back.setting == "panorama":
        panorama = assets.view(scene.light.name)
        seen = lights.look_up(panorama, directions.reshape(-1, 3), scene.light.degrees).reshape(size, size, 3)
        out = cv2.GaussianBlur(seen, (0, 0), max(1.0, back.blur * size))
    else:
        one, other = np.array(back.colour, np.float32), np.array(back.other, np.float32)
        share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None] if back.setting == "gradient" else 0.0
        out = np.broadcast_to((one * (1 - share) + other * share) * (0.5 / exposure), (size, size, 3))
    if scene.view == "figure":
        _, share = _open(scene, tracer, _plane(np.array([0.0, ground, 0.0]), _UP), directions)
        out = out * (1 - 0.75 * (1 - share))[..., None]
    return np.asarray(out, np.float32)
