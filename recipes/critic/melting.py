"""Local errors of shape: a part of a hand melts, swirls, doubles, smears, or takes the skin of another part.

Each function takes the pixels of a hand (h, w, 3) float32 in 0..255, a window (h, w) in [0, 1] of where the error may
be, and half a finger's width in pixels; it returns the changed pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Melt = Callable[[Pixels, Pixels, float, np.random.Generator], Pixels]


def window_of(
    points: NDArray[np.float64], matte: Pixels, thickness: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A smooth blob about one to three neighbouring joints of the 21 points (21, 2), within the hand grown a little."""
    middle = int(rng.integers(0, 21))
    order = np.argsort(np.hypot(*(points - points[middle]).T))
    joints = points[order[: int(rng.integers(1, 4))]]
    canvas = np.zeros(matte.shape, np.uint8)
    for x, y in joints:
        radius = thickness * rng.uniform(1.6, 3.4)
        cv2.ellipse(
            canvas,
            ((float(x), float(y)), (2 * radius, 2 * radius * rng.uniform(0.6, 1.0)), float(rng.uniform(0, 180))),
            1,
            -1,
        )
    grown = cv2.dilate((matte > 0.3).astype(np.uint8), np.ones((3, 3)), iterations=max(1, round(0.5 * thickness)))
    inside = (canvas * grown).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.7, 0.25 * thickness)), np.float32)


def _moved(pixels: Pixels, right: Pixels, down: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    at = np.asarray(x + right, np.float32), np.asarray(y + down, np.float32)
    moved = cv2.remap(pixels, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def melt(pixels: Pixels, window: Pixels, thickness: float, rng: np.random.Generator) -> Pixels:
    """Moved by a smooth random field."""
    height, width = window.shape
    cell = thickness * rng.uniform(0.8, 2.0)
    nodes = (max(4, round(width / cell)), max(4, round(height / cell)))
    reach = cell * rng.uniform(0.35, 0.75)
    right, down = (
        cv2.resize(rng.standard_normal(nodes[::-1]).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        * window
        * reach
        for _ in "xy"
    )
    return _moved(pixels, right, down)


def swirl(pixels: Pixels, window: Pixels, thickness: float, rng: np.random.Generator) -> Pixels:
    """Turned about the window's middle."""
    y, x = np.indices(window.shape, np.float32)
    total = max(float(window.sum()), 1e-6)
    middle = (float((x * window).sum() / total), float((y * window).sum() / total))
    angle = np.radians(rng.uniform(50, 140) * rng.choice((-1, 1))) * window * window
    right, down = x - middle[0], y - middle[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return _moved(pixels, cos * right - sin * down - right, sin * right + cos * down - down)


def double(pixels: Pixels, window: Pixels, thickness: float, rng: np.random.Generator) -> Pixels:
    """Seen twice: mixed with itself, moved by about a finger's width and turned a little."""
    turn = rng.uniform(0, 2 * np.pi)
    step = thickness * rng.uniform(0.8, 2.0)
    height, width = window.shape
    affine = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-12, 12)), 1.0)
    affine[:, 2] += step * np.array([np.cos(turn), np.sin(turn)])
    other = cv2.warpAffine(pixels, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = (window * rng.uniform(0.55, 1.0))[..., None]
    return np.asarray(pixels * (1 - share) + other * share, np.float32)


def smear(pixels: Pixels, window: Pixels, thickness: float, rng: np.random.Generator) -> Pixels:
    """Flattened: edges between fingers go, by a median, and the grain of the rest is laid over it."""
    size = 2 * max(1, round(thickness * rng.uniform(0.3, 0.7))) + 1
    flat = cv2.medianBlur(np.clip(pixels, 0, 255).astype(np.uint8), min(size, 61)).astype(np.float32)
    grain = pixels - cv2.GaussianBlur(pixels, (0, 0), 1.0)
    share = window[..., None]
    return np.asarray(pixels * (1 - share) + (flat + 0.7 * grain) * share, np.float32)


def graft(pixels: Pixels, window: Pixels, thickness: float, rng: np.random.Generator) -> Pixels:
    """Covered by another place of the hand, turned, with its colours fitted by Poisson blending."""
    height, width = window.shape
    y, x = np.nonzero(window > 0.5)
    if len(x) < 30:
        return melt(pixels, window, thickness, rng)
    middle = (float(x.mean()), float(y.mean()))
    affine = cv2.getRotationMatrix2D(middle, float(rng.uniform(40, 320)), float(rng.uniform(0.8, 1.2)))
    affine[:, 2] += rng.normal(0, 2.0 * thickness, 2)
    other = cv2.warpAffine(pixels, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    mask = ((window > 0.5) * 255).astype(np.uint8)
    mask[[0, 1, -2, -1]] = 0
    mask[:, [0, 1, -2, -1]] = 0
    box = cv2.boundingRect(mask)
    if min(box[2:]) < 3:
        return melt(pixels, window, thickness, rng)
    centre = (box[0] + box[2] // 2, box[1] + box[3] // 2)
    source, target = (np.clip(each, 0, 255).astype(np.uint8) for each in (other, pixels))
    return np.asarray(cv2.seamlessClone(source, target, mask, centre, cv2.NORMAL_CLONE), np.float32)


MELTS: tuple[Melt, ...] = (melt, melt, swirl, double, double, smear, graft, graft)
