"""What may have been behind a thing that is taken away: texture of the surroundings, in the colours of the rim."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.lines import Box

Crop = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shift = tuple[int, int]

COARSE = 96
"""The longer side, in pixels, of the picture in which pieces of surroundings are looked for."""
RIM = 3
"""How wide the rim of a hole is, in pixels of that picture: where a piece is compared, and its colours are fitted."""
FITS = 20.0
"""A piece of surroundings whose rim differs more than this, in levels of 255, is only taken for the smallest holes."""
HALVINGS = 3
"""How often a hole is cut in two, where no piece of the surroundings fits it."""


def fill(pixels: Crop, hole: Mask, avoid: Mask) -> Crop:
    """The crop with its hole filled; pixels of `avoid` (the part itself) are no source for it.

    A shifted copy of the surroundings whose rim fits best gives the texture, and the difference at the rim, carried
    smoothly inwards, the colours: Poisson image editing (Perez et al., 2003) with the membrane approximated. Where no
    piece fits the hole, it is cut in two. What goes where is decided in a small picture.
    """
    known = ~(hole | avoid)
    if not known.any() or not hole.any():
        return pixels
    scale = min(1.0, COARSE / max(hole.shape))
    size = (max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    gap, usable = (
        np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)) for mask in (hole, known)
    )
    made = pixels.copy()
    for (x1, y1, x2, y2), shift in _pieces(small, gap > 0, usable > 0.999, HALVINGS):
        piece = np.zeros_like(hole)
        place = np.s_[round(y1 / scale) : round(y2 / scale), round(x1 / scale) : round(x2 / scale)]
        piece[place] = hole[place]
        if piece.any():
            _lay(made, piece, known, shift and (round(shift[0] / scale), round(shift[1] / scale)), RIM / scale)
    return made


def _pieces(small: Crop, gap: Mask, usable: Mask, halvings: int) -> Iterator[tuple[Box, Shift | None]]:
    """Boxes of the small picture that cover its gap, each with the shift that fills it; the picture is filled so."""
    shift, misfit = _best_shift(small, gap, usable)
    if misfit <= FITS or halvings == 0:
        _lay(small, gap, usable, shift, RIM)
        yield _box(gap), shift
        return
    halves = [half for half in _halves(gap) if half.any()]
    # First the half with more that is known about it: then that is known too.
    for half in sorted(halves, key=lambda half: -float((grown(half, RIM) & usable).sum())):
        yield from _pieces(small, half, usable, halvings - 1)


def _lay(pixels: Crop, hole: Mask, known: Mask, shift: Shift | None, rim: float) -> None:
    """Fill a hole in place, which is then known: by a shifted copy, or smoothly from the rim where there is none."""
    x1, y1, x2, y2 = _box(hole)
    wide = int(np.ceil(rim)) + 1
    x1, y1, x2, y2 = max(0, x1 - wide), max(0, y1 - wide), min(hole.shape[1], x2 + wide), min(hole.shape[0], y2 + wide)
    here, inside, sure = pixels[y1:y2, x1:x2], hole[y1:y2, x1:x2], known[y1:y2, x1:x2]
    if not sure.any():
        here, inside, sure, shift = pixels, hole, known, None
    if shift is None or not (sure & grown(inside, rim)).any():
        filled = spread(here, sure)
    else:
        rows = np.clip(np.arange(y1, y2) - shift[0], 0, hole.shape[0] - 1)
        columns = np.clip(np.arange(x1, x2) - shift[1], 0, hole.shape[1] - 1)
        moved = pixels[np.ix_(rows, columns)]
        edge = sure & known[np.ix_(rows, columns)] & grown(inside, rim)
        correction = spread(np.clip(here - moved, -80, 80), edge) if edge.any() else 0
        filled = np.clip(moved + correction, 0, 255)
    here[inside] = filled[inside]
    known |= hole


def grown(mask: Mask, by: float) -> Mask:
    """A mask and all pixels within `by` of it."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) <= by)


def spread(values: Crop, known: Mask) -> Crop:
    """Values (h, w, 3) of the known pixels carried smoothly into the others, by a pyramid (push and pull)."""
    weight = known.astype(np.float32)
    return _pull(values * weight[..., None], weight)


def _pull(sums: Crop, weight: NDArray[np.float32]) -> Crop:
    height, width = weight.shape
    mean, held = sums / np.maximum(weight, 1e-6)[..., None], np.clip(weight, 0, 1)[..., None]
    if min(height, width) <= 2 or (weight > 0.999).all():
        above = sums.sum((0, 1)) / max(1e-6, float(weight.sum()))
    else:
        above = cv2.pyrUp(_pull(cv2.pyrDown(sums), cv2.pyrDown(weight)), dstsize=(width, height))
    return np.asarray(mean * held + above * (1 - held), np.float32)


def _box(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _halves(mask: Mask) -> tuple[Mask, Mask]:
    """A mask cut in two across its longer side."""
    x1, y1, x2, y2 = _box(mask)
    first = np.zeros_like(mask)
    if y2 - y1 >= x2 - x1:
        first[: (y1 + y2) // 2] = True
    else:
        first[:, : (x1 + x2) // 2] = True
    return mask & first, mask & ~first


def _best_shift(small: Crop, gap: Mask, usable: Mask) -> tuple[Shift | None, float]:
    """(down, right) by which a piece of the surroundings is moved onto the gap, and how badly its rim fits there.

    The misfit is the root mean square of differences, in levels of 255; there is no shift where no piece is whole.
    """
    rim = grown(gap, RIM) & usable
    if not rim.any():
        return None, np.inf
    x1, y1, x2, y2 = _box(gap | rim)
    piece = np.s_[y1:y2, x1:x2]
    errors = cv2.matchTemplate(small, small[piece], cv2.TM_SQDIFF, mask=rim[piece].astype(np.float32))
    missing = cv2.matchTemplate((~usable).astype(np.float32), gap[piece].astype(np.float32), cv2.TM_CCORR)
    errors[missing > 0.5] = np.inf
    down, right = np.unravel_index(int(np.argmin(errors)), errors.shape)
    if not np.isfinite(errors[down, right]):
        return None, np.inf
    misfit = float(np.sqrt(max(0.0, float(errors[down, right])) / (3 * rim.sum())))
    return (y1 - int(down), x1 - int(right)), misfit
