"""Light from a panorama: directions to sample it by, and blurred copies of it for reflections.

Panoramas are (H, W, 3) with the zenith in the first row; the middle column is in direction -z, and columns go round to
+x. A turn about y is in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hafbench.people import assets
from hafbench.people.mesh import Floats
from hafbench.people.sampling import bilinear

ROUGHNESS = (0.28, 0.5)


@dataclass(frozen=True)
class Samples:
    """Directions (N, 3) towards the light, and the light (N, 3) that each stands for, in radiance x steradians."""

    directions: Floats
    weights: Floats


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Directions (H, W, 3) and solid angles (H, W) of the pixels of a panorama."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    round_ = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    sin, cos = np.sin(polar)[:, None], np.cos(polar)[:, None]
    directions = np.stack(np.broadcast_arrays(sin * np.sin(round_), cos, -sin * np.cos(round_)), -1)
    angle = np.broadcast_to(sin * (np.pi / height) * (2 * np.pi / width), (height, width))
    return directions.astype(np.float32), angle.astype(np.float32)


def turned(directions: Floats, degrees: float) -> Floats:
    """Directions (..., 3) turned about y."""
    angle = np.radians(degrees)
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], -1).astype(np.float32)


def look_up(panorama: Floats, directions: Floats, degrees: float) -> Floats:
    """The colours (N, 3) of a panorama that is turned by `degrees`, in directions (N, 3), between pixels."""
    height, width = panorama.shape[:2]
    local = turned(directions, -degrees)
    column = (np.arctan2(local[:, 0], -local[:, 2]) / (2 * np.pi) + 0.5) * width - 0.5
    row = np.arccos(np.clip(local[:, 1], -1, 1)) / np.pi * height - 0.5
    wide = np.concatenate([panorama[:, -1:], panorama, panorama[:, :1]], 1)
    return bilinear(wide, column + 1, row)


@lru_cache(maxsize=8)
def samples(name: str, count: int) -> Samples:
    """Directions drawn where the light comes from, the same at each call."""
    radiance = assets.light(name)
    directions, angle = _grid(*radiance.shape[:2])
    power = (radiance.mean(-1) * angle).ravel().astype(np.float64)
    # A share of even directions keeps dark sides smooth.
    chance = 0.75 * power / power.sum() + 0.25 * angle.ravel() / angle.sum()
    chance /= chance.sum()
    rng = np.random.default_rng(20)
    # Blocks of 8 x 8 pixels follow each other, so that even steps through their sum spread over the sphere.
    rows, columns = np.divmod(np.arange(radiance.shape[0] * radiance.shape[1]), radiance.shape[1])
    order = np.lexsort((columns, rows, columns // 8, rows // 8))
    steps = (np.arange(count) + rng.random(count)) / count
    picked = order[np.searchsorted(np.cumsum(chance[order]), steps * 0.999999)]
    light = radiance.reshape(-1, 3)[picked] * (angle.ravel()[picked] / chance[picked] / count)[:, None]
    return Samples(directions.reshape(-1, 3)[picked], light.astype(np.float32))


@lru_cache(maxsize=16)
def blurred(name: str, roughness: float) -> Floats:
    """The panorama (32, 64, 3) as a surface of this roughness mirrors it (GGX); 1 gives diffuse irradiance / pi."""
    radiance = assets.light(name)
    source = radiance.reshape(32, 2, 64, 2, 3).mean((1, 3)).reshape(-1, 3)
    directions, angle = _grid(32, 64)
    cosine = np.clip(directions.reshape(-1, 3) @ directions.reshape(-1, 3).T, -1, 1)
    if roughness >= 1:
        lobe = np.maximum(cosine, 0)
    else:
        alpha = roughness**2 + 0.02  # the panorama's own pixels are that wide
        half = (1 + np.maximum(cosine, 0)) / 2  # the square of the cosine between the normal and the half vector
        lobe = np.where(cosine > 0, cosine * (alpha**2 / (half * (alpha**2 - 1) + 1) ** 2), 0)
    lobe *= angle.reshape(1, -1)
    lobe /= lobe.sum(1, keepdims=True)
    return np.ascontiguousarray((lobe @ source).reshape(32, 64, 3), np.float32)
