"""What may have been behind a thing that is taken away: texture of the surroundings, in the colours of the rim."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Crop = NDArray[np.float32]
Mask = NDArray[np.bool_]

HALVINGS = 3
"""How often a hole is cut in two, where no piece of the surroundings fits it."""
FITS = 20.0
"""A piece of surroundings whose rim differs more than this, in levels of 255, is only taken for the smallest holes."""
COARSE = 96
"""The longer side, in pixels, at which the piece of surroundings that fits best is looked for."""


def spread(values: Crop, known: Mask) -> Crop:
    """Values (h, w, 3) of the known pixels carried smoothly into the others, by a pyramid (push and pull)."""
    weight = known.astype(np.float32)
    return _pull(values * weight[..., None], weight)


def _pull(sums: Crop, weight: NDArray[np.float32]) -> Crop:
    height, width = weight.shape
    mean = sums / np.maximum(weight, 1e-6)[..., None]
    if min(height, width) <= 2 or (weight > 0.999).all():
        total = max(1e-6, float(weight.sum()))
        held = np.minimum(weight, 1)[..., None]
        return np.asarray(mean * held + (sums.sum((0, 1)) / total) * (1 - held), np.float32)
    smaller = _pull(cv2.pyrDown(sums), cv2.pyrDown(weight))
    above = cv2.pyrUp(smaller, dstsize=(width, height))
    held = np.clip(weight, 0, 1)[..., None]
    return np.asarray(mean * held + above * (1 - held), np.float32)


def fill(pixels: Crop, hole: Mask, avoid: Mask) -> Crop:
    """The crop with its hole filled; pixels of `avoid` (the part itself) are no source for it.

    A shifted copy of the surroundings whose rim fits best gives the texture, and the difference at the rim, carried
    smoothly inwards, the colours: Poisson image editing (Perez et al., 2003) with the membrane approximated.
    """
    known = ~(hole | avoid)
    if not known.any() or not hole.any():
        return pixels
    return _filled(pixels, hole, known, HALVINGS)


def _filled(pixels: Crop, hole: Mask, known: Mask, halvings: int) -> Crop:
    shift, misfit = _best_shift(pixels, hole, known)
    if shift is not None and (misfit <= FITS or halvings == 0):
        moved = np.roll(pixels, shift, (0, 1))
        rim = _grown(hole, max(3, round(max(hole.shape) / 24))) & known & np.roll(known, shift, (0, 1))
        correction = spread(np.clip(pixels - moved, -80, 80), rim)
        return np.where(hole[..., None], np.clip(moved + correction, 0, 255), pixels)
    if halvings == 0:
        return np.where(hole[..., None], spread(pixels, known), pixels)
    # No piece of the surroundings fits: the half with more known about it first, then the other beside that.
    halves = sorted(_halves(hole), key=lambda half: -float((_grown(half, 3) & known).sum()))
    for half in halves:
        if half.any():
            pixels = _filled(pixels, half, known, halvings - 1)
            known = known | half
    return pixels


def _halves(hole: Mask) -> tuple[Mask, Mask]:
    """A hole cut in two across its longer side."""
    y, x = np.nonzero(hole)
    first = np.zeros_like(hole)
    if np.ptp(y) >= np.ptp(x):
        first[: (y.min() + y.max()) // 2 + 1] = True
    else:
        first[:, : (x.min() + x.max()) // 2 + 1] = True
    return hole & first, hole & ~first


def _grown(mask: Mask, by: int) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1,) * 2, np.uint8)) > 0)


def _best_shift(pixels: Crop, hole: Mask, known: Mask) -> tuple[tuple[int, int] | None, float]:
    """(down, right) by which a piece of the surroundings is moved onto the hole, and how badly its rim fits there.

    The misfit is the root mean square of differences, in levels of 255; there is no shift where no piece is whole.
    """
    scale = min(1.0, COARSE / max(hole.shape))
    size = (max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale)))

    def coarse(values: Mask) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA))

    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    gap, usable = coarse(hole) > 0, coarse(known) > 0.999
    rim = _grown(gap, 3) & usable
    if not rim.any():
        return None, np.inf
    y, x = np.nonzero(gap | rim)
    top, left, bottom, right = y.min(), x.min(), y.max() + 1, x.max() + 1
    piece = (slice(top, bottom), slice(left, right))
    errors = cv2.matchTemplate(small, small[piece], cv2.TM_SQDIFF, mask=rim[piece].astype(np.float32))
    needed = gap[piece].astype(np.float32)
    missing = cv2.matchTemplate((~usable).astype(np.float32), needed, cv2.TM_CCORR)
    errors[missing > 0.5] = np.inf
    if not np.isfinite(errors).any():
        return None, np.inf
    down, across = np.unravel_index(int(np.argmin(errors)), errors.shape)
    misfit = float(np.sqrt(max(0.0, float(errors[down, across])) / (3 * rim[piece].sum())))
    return (round((int(top) - int(down)) / scale), round((int(left) - int(across)) / scale)), misfit
