"""Let a model redraw a part of a photo: cut a window about it, paint it at the model's size, put only the part back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.data.inpainting import GRID, Painter
from asap_train.types import Candidate, Mask
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from asap_train.types import Part, Photo
    from hafbench.types import Pixels

CONTEXT = 1.6
"""A window's longer side, by that of the mask: what the model sees about the part."""
CELL = 8
"""Pixels along the side of what one latent of most autoencoders stands for."""
FEATHER = 0.04
"""Width of the seam, as a share of the window's longer side: there the photo goes over into what was painted."""


@dataclass(frozen=True)
class Window:
    """A rectangle of a photo, in its pixels, and the width and height at which a model paints it."""

    left: int
    top: int
    width: int
    height: int
    painted: tuple[int, int]

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the photo, in pixels of what is painted."""
        scale = np.array(self.painted) / (self.width, self.height)
        return np.asarray((points - (self.left, self.top)) * scale)


@dataclass(frozen=True)
class ErrorPrompt:
    """An error that a model is prompted for: its place in the taxonomy, and the words of the prompt.

    A model may ignore the prompt: `kind` and `detail` of what comes back are what was asked for, and no finding.
    `{limb}` in the text stands for the part: an arm, or a leg.
    """

    region: Region
    kind: Kind
    detail: str
    text: str


def window_about(mask: Mask, size: int) -> Window:
    """The window about a mask (height, width) that is not empty, within the photo, to be painted `size` pixels long.

    Square where the photo has room for it; the sides of what is painted are rounded to multiples of GRID.
    """
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    spans = [(int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)]
    side = max(2, round(CONTEXT * max(end - start for start, end in spans)))
    starts, lengths = [], []
    for (start, end), room in zip(spans, mask.shape, strict=True):
        length = min(room, side)
        starts.append(min(max(0, (start + end - length) // 2), room - length))
        lengths.append(length)
    scale = size / max(lengths)
    height, width = (max(GRID, round(length * scale / GRID) * GRID) for length in lengths)
    return Window(starts[1], starts[0], lengths[1], lengths[0], (width, height))


def paste(photo: Pixels, painted: Pixels, mask: Mask, window: Window, seam: float | None = None) -> Pixels:
    """The photo with what was painted in its window, inside the mask only: outside of it every bit stays.

    Over the seam, so many pixels from the mask's edge inwards, the two are mixed; None is FEATHER of the window.
    """
    drawn = resized(painted, (window.width, window.height)).astype(np.float64)
    if seam is None:
        seam = max(1.0, FEATHER * max(window.width, window.height))
    # A border of True, since the photo's own edge is no seam.
    inside = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = np.clip(inside[window.place] / seam, 0.0, 1.0)[..., None]
    before = photo[window.place]
    after = np.rint(before + share * (drawn - before)).astype(np.uint8)
    result = photo.copy()
    result[window.place] = np.where(mask[window.place][..., None], after, before)
    return result


def redraw(
    painter: Painter,
    photo: Photo,
    part: Part,
    error: ErrorPrompt,
    seeds: NDArray[np.int64],
    family: str,
    settings: dict[str, Any],
    control: Callable[[Window], Pixels] | None = None,
) -> Iterator[Candidate]:
    """One candidate a seed, painted when it is asked for. `control` draws a ControlNet's picture of a window."""
    mask = part.mask
    window = window_about(mask, painter.size)
    image = resized(photo.pixels[window.place], window.painted)
    hole = cv2.resize(mask[window.place].astype(np.uint8), window.painted, interpolation=cv2.INTER_NEAREST)
    # A latent that is partly outside of the mask would keep what shows through inside: its whole cell is painted.
    hole = cv2.dilate(hole, np.ones((2 * CELL + 1, 2 * CELL + 1), np.uint8)) > 0
    asked = error.text.format(limb=next((limb for limb in ("arm", "leg") if limb in part.name), "limb"))
    prompt = f"{asked}, {photo.caption}" if photo.caption else asked
    skeleton = control(window) if control else None
    for seed in seeds:
        painted = painter.paint(image, hole, prompt, int(seed), skeleton)
        pixels = paste(photo.pixels, painted, mask, window)
        made = {**painter.settings, **settings, "prompt": prompt, "seed": int(seed)}
        yield Candidate(pixels, mask, error.region, error.kind, error.detail, family, made)


def noise_seeds(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Seeds for `count` candidates, all drawn at once: however many are asked for, `rng` is left in the same state."""
    return rng.integers(2**63 - 1, size=count)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """To (width, height), by areas where it shrinks."""
    shrinks = size[0] < pixels.shape[1]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
