"""Errors that need no keypoints, only a mask: what it shows is swirled, melted, or drawn in from the sides."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.cutout import Crop, Cutout, cut_mask, sample
from asap_train.degrade.lines import Floats


@dataclass(frozen=True)
class Patch:
    """What a mask shows. `middle` is the point deepest inside, `depth` how far that is from the edge, in pixels.

    `radius` is that of a disc as large as the mask; `window` is 1 well inside the mask, and 0 at its edge and outside.
    """

    cutout: Cutout
    middle: Floats
    depth: float
    radius: float
    window: NDArray[np.float32]


def cut_patch(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Patch:
    """Cut what a mask shows out of a photo."""
    radius = float(np.sqrt(mask.sum() / np.pi))
    cutout = cut_mask(pixels, mask, max(1.0, 0.12 * radius))
    inside = cv2.copyMakeBorder((cutout.matte > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depths = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depths.argmax()), depths.shape)
    share = np.clip(depths / max(1.0, 0.6 * float(depths.max())), 0, 1)
    window = np.asarray(share * share * (3 - 2 * share), np.float32)
    return Patch(cutout, np.array([x, y], np.float64), max(1.0, float(depths.max())), radius, window)


def _grid(patch: Patch) -> tuple[Floats, Floats]:
    height, width = patch.cutout.matte.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def swirled(patch: Patch, rng: np.random.Generator) -> Crop | None:
    """Turned about where the mask is deepest, the more the nearer to there."""
    x, y = _grid(patch)
    right, down = x - patch.middle[0], y - patch.middle[1]
    share = np.clip(1 - np.hypot(right, down) / patch.depth, 0, 1)
    angle = np.radians(rng.uniform(90, 150) * rng.choice((-1, 1))) * share * share * (3 - 2 * share)
    cos, sin = np.cos(angle), np.sin(angle)
    at_x, at_y = patch.middle[0] + cos * right - sin * down, patch.middle[1] + sin * right + cos * down
    return sample(patch.cutout.pixels, at_x, at_y)


def melted(patch: Patch, rng: np.random.Generator) -> Crop | None:
    """Run together, as if soft: moved by a smooth random field."""
    x, y = _grid(patch)
    height, width = patch.cutout.matte.shape
    cell = max(2.0, patch.radius * rng.uniform(0.35, 0.55))
    nodes = (max(4, round(width / cell)), max(4, round(height / cell)))
    reach = rng.uniform(0.45, 0.65) * cell
    moves = [
        cv2.resize(rng.standard_normal(nodes[::-1]).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in "xy"
    ]
    return sample(
        patch.cutout.pixels, *(at + reach * patch.window * move for at, move in zip((x, y), moves, strict=True))
    )


def pinched(patch: Patch, rng: np.random.Generator) -> Crop | None:
    """Drawn together from both sides, or spread out to them."""
    x, y = _grid(patch)
    grow = patch.window * (rng.uniform(0.6, 1.0) if rng.random() < 0.5 else rng.uniform(-0.55, -0.4))
    return sample(patch.cutout.pixels, x + (x - patch.cutout.points[0, 0]) * grow, y)
