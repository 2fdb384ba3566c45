"""A part cut out of its photo: the crop about it, and what in the crop belongs to the part (GrabCut from keypoints)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.lines import Box, Floats, Line, blocks, unfold

if TYPE_CHECKING:
    from asap_train.types import Mask
    from hafbench.types import Pixels

Crop = NDArray[np.float32]
Matte = NDArray[np.float32]

VISIBLE = 6
"""The change of a pixel, in levels of 255, that counts as one."""
SMALLEST_CHANGE = 24
"""Fewer changed pixels than these are no error that anybody sees."""
GRAIN = 112
"""The longer side of the picture that GrabCut sees, in pixels."""


@dataclass(frozen=True)
class Cutout:
    """The photo in a box about a part.

    `pixels` (h, w, 3) float32 in 0..255, `matte` (h, w) float32 in 0..1: how much of a pixel is the part's. `corner` is
    the box's (x, y) in the photo; `points` (n, 2) are in pixels of the box; `thickness` is half the width of a bone's
    flesh in pixels.
    """

    pixels: Crop
    matte: Matte
    corner: tuple[int, int]
    points: Floats
    thickness: float


@dataclass(frozen=True)
class Bones:
    """What a part is made of, for the cut: bones as polylines (n, 2), solid areas as polygons, half a bone's width."""

    lines: tuple[Floats, ...]
    areas: tuple[Floats, ...]
    thickness: float


def cut_mask(pixels: Pixels, mask: Mask, thickness: float) -> Cutout:
    """Cut what a mask shows out of a photo, where no keypoints say more."""
    y, x = np.nonzero(mask)
    corners = np.array([[x.min(), y.min()], [x.max() + 1, y.max() + 1]], np.float64)
    x1, y1, x2, y2 = box_about(corners, 2 * thickness, mask.shape)
    place = np.s_[y1:y2, x1:x2]
    middle = np.array([[x.mean() - x1, y.mean() - y1]])
    return Cutout(pixels[place].astype(np.float32), mask[place].astype(np.float32), (x1, y1), middle, thickness)


def box_about(points: Floats, margin: float, shape: tuple[int, ...]) -> Box:
    """(x1, y1, x2, y2) about points, wider by `margin` pixels, within an image of this shape."""
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin)
    x1, y1 = (int(max(0, value)) for value in low)
    x2, y2 = (int(min(limit, value)) for limit, value in zip(shape[1::-1], high, strict=True))
    return x1, y1, x2, y2


def cut(pixels: Pixels, points: Floats, bones: Bones, margin: float) -> Cutout | None:
    """Cut a part out of a photo; None where hardly any of it lies inside the photo."""
    x1, y1, x2, y2 = box_about(points, margin, pixels.shape)
    if x2 - x1 < 16 or y2 - y1 < 16:
        return None
    crop = pixels[y1:y2, x1:x2]
    corner = np.array([x1, y1])
    inside = Bones(
        tuple(line - corner for line in bones.lines), tuple(area - corner for area in bones.areas), bones.thickness
    )
    matte = _matte(crop, inside)
    return Cutout(crop.astype(np.float32), matte, (x1, y1), points - corner, bones.thickness)


def _drawn(bones: Bones, scale: float, width: float, shape: tuple[int, ...], solid: bool) -> NDArray[np.bool_]:
    """Bones of `width` times their thickness and the areas, these grown likewise unless `solid`."""
    canvas = np.zeros(shape, np.uint8)
    stroke = max(1, round(2 * bones.thickness * scale * width))
    for line in bones.lines:
        cv2.polylines(canvas, [_fixed(line * scale)], False, 1, stroke, shift=4)
    for area in bones.areas:
        cv2.fillPoly(canvas, [_fixed(area * scale)], 1, shift=4)
        if not solid:
            cv2.polylines(canvas, [_fixed(area * scale)], True, 1, stroke, shift=4)
    return canvas > 0


def _fixed(points: Floats) -> NDArray[np.int32]:
    return (points * 16).round().astype(np.int32)


def _matte(crop: Pixels, bones: Bones) -> Matte:
    scale = min(1.0, GRAIN / max(crop.shape[:2]))
    small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    labels[_drawn(bones, scale, 1.7, labels.shape, False)] = cv2.GC_PR_BGD
    labels[_drawn(bones, scale, 0.65, labels.shape, False)] = cv2.GC_PR_FGD
    labels[_drawn(bones, scale, 0.25, labels.shape, True)] = cv2.GC_FGD
    if not (labels == cv2.GC_BGD).any():
        return np.ones(crop.shape[:2], np.float32)
    cv2.setRNGSeed(0)
    inner, outer = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), labels, None, inner, outer, 2, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    grown = cv2.resize(inside, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return snapped(crop, np.asarray(grown, np.float32), 1 / scale)


def snapped(crop: Pixels, matte: Matte, grain: float) -> Matte:
    """A coarse matte drawn to the photo's own edges: a guided filter (He et al., ECCV 2010), then made steeper."""
    guide = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    reach = (2 * round(1.5 * grain) + 1,) * 2

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, reach), np.float32)

    guide_mean, matte_mean = mean(guide), mean(matte)
    slope = (mean(guide * matte) - guide_mean * matte_mean) / (mean(guide * guide) - guide_mean**2 + 1e-4)
    filtered = mean(slope) * guide + mean(matte_mean - slope * guide_mean)
    return np.asarray(np.clip((filtered - 0.5) * 2.5 + 0.5, 0, 1), np.float32)


def sample(image: Crop, x: Floats, y: Floats) -> Crop:
    """Pixels at (x, y); what lies outside repeats the border."""
    return np.asarray(
        cv2.remap(
            image,
            np.asarray(x, np.float32),
            np.asarray(y, np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


def laid(cutout: Cutout, matte: Matte, old: Line, new: Line, keep: float = 0.0) -> tuple[Box, Crop, Matte]:
    """What lies about `old` in a matte, laid along `new`: a box of the crop, its pixels and its matte there.

    What is longer or shorter is stretched, but for the last `keep` pixels of it (a fingertip stays a fingertip).
    """
    reach = 2.2 * cutout.thickness
    box = box_about(new.points, reach, cutout.matte.shape)
    along, beside = new.place(*blocks(box))
    body_new, body_old = max(1.0, new.length - keep), max(1.0, old.length - keep)
    along = np.where(along < body_new, along * (body_old / body_new), along - body_new + body_old)
    x, y = (unfold(values, box) for values in old.locate(along, beside))
    return box, sample(cutout.pixels, x, y), sample(matte, x, y)


def over(below: Crop, box: Box, pixels: Crop, matte: Matte) -> Crop:
    """Alpha-composite a box of pixels over a crop."""
    x1, y1, x2, y2 = box
    made = below.copy()
    share = matte[..., None]
    made[y1:y2, x1:x2] = below[y1:y2, x1:x2] * (1 - share) + pixels * share
    return made


def put_back(photo: Pixels, cutout: Cutout, crop: Crop) -> tuple[Pixels, Mask] | None:
    """The photo with the crop's changes, and where they are, with a small margin; None if nothing changed visibly.

    Outside the mask every pixel is the photo's own.
    """
    x, y = cutout.corner
    height, width = crop.shape[:2]
    made = np.clip(np.rint(crop), 0, 255).astype(np.uint8)
    old = photo[y : y + height, x : x + width]
    red, green, blue = cv2.split(cv2.absdiff(made, old))
    changed = (cv2.max(cv2.max(red, green), blue) >= VISIBLE).astype(np.uint8)
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    if changed.sum() < SMALLEST_CHANGE:
        return None
    size = max(3, round(0.25 * cutout.thickness) | 1)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    inside = cv2.dilate(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, brush), brush) > 0
    pixels, mask = photo.copy(), np.zeros(photo.shape[:2], np.bool_)
    mask[y : y + height, x : x + width] = inside
    pixels[y : y + height, x : x + width][inside] = made[inside]
    return pixels, mask
