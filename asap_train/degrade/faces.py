"""Errors of a face: an eye too many, too few or too large, mouth or eye upside down."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from asap_train.degrade.cutout import Crop, Cutout, box_about, sample
from asap_train.degrade.fill import spread
from asap_train.degrade.lines import Floats

NOSE, LEFT_EYE, RIGHT_EYE, MOUTH_LEFT, MOUTH_RIGHT = range(5)


@dataclass(frozen=True)
class Face:
    """A cut-out face: its five points (nose, both eyes, both corners of the mouth), and its own axes.

    `across` is the unit vector from one eye to the other, `down` from the eyes to the mouth; `span` the distance of
    the eyes in pixels, or what it would be from the front.
    """

    cutout: Cutout
    across: Floats
    down: Floats
    span: float


def cut_face(pixels: NDArray[np.uint8], points: Floats) -> Face | None:
    """Cut a face with its points (5, 2) out of a photo; None for one that is seen from the side."""
    eyes, mouth = points[[LEFT_EYE, RIGHT_EYE]], points[[MOUTH_LEFT, MOUTH_RIGHT]].mean(0)
    drop = mouth - eyes.mean(0)
    height, apart = float(np.hypot(*drop)), float(np.hypot(*(eyes[1] - eyes[0])))
    if height < 8 or apart < 0.55 * height:
        return None
    x1, y1, x2, y2 = box_about(points, 1.2 * height, pixels.shape)
    crop = pixels[y1:y2, x1:x2].astype(np.float32)
    cutout = Cutout(crop, np.ones(crop.shape[:2], np.float32), (x1, y1), points - (x1, y1), 0.15 * height)
    return Face(cutout, (eyes[1] - eyes[0]) / apart, drop / height, float(max(apart, 0.9 * height)))


def _oval(face: Face, middle: Floats, wide: float, high: float) -> NDArray[np.float32]:
    """1 inside an oval of the face's own axes (half-widths in pixels), 0 outside, soft over its outer quarter."""
    height, width = face.cutout.matte.shape
    x, y = np.meshgrid(np.arange(width) - middle[0], np.arange(height) - middle[1])
    across, down = x * face.across[0] + y * face.across[1], x * face.down[0] + y * face.down[1]
    return np.asarray(np.clip((1 - np.hypot(across / wide, down / high)) / 0.25, 0, 1), np.float32)


def _pasted(face: Face, source: Floats, target: Floats, linear: Floats, half: tuple[float, float]) -> Crop:
    """What lies about `source`, taken through a linear map, laid on `target`, its colours fitted to the skin there."""
    height, width = face.cutout.matte.shape
    affine = np.column_stack([linear, target - linear @ source])
    moved = cv2.warpAffine(face.cutout.pixels, affine, (width, height), borderMode=cv2.BORDER_REPLICATE)
    share = _oval(face, target, *half)
    rim = (share > 0) & (share < 0.5)
    fitted = moved + spread(np.clip(face.cutout.pixels - moved, -70, 70), rim)
    return np.asarray(face.cutout.pixels * (1 - share[..., None]) + fitted * share[..., None], np.float32)


def _an_eye(face: Face, rng: np.random.Generator) -> Floats:
    return np.asarray(face.cutout.points[rng.choice((LEFT_EYE, RIGHT_EYE))])


def extra_eye(face: Face, rng: np.random.Generator) -> Crop | None:
    """A third eye, on the forehead or on a cheek."""
    eye = _an_eye(face, rng)
    eyes = face.cutout.points[[LEFT_EYE, RIGHT_EYE]].mean(0)
    if rng.random() < 0.5:
        target = (
            eyes - rng.uniform(0.6, 0.75) * face.span * face.down + rng.uniform(-0.3, 0.3) * face.span * face.across
        )
    else:
        target = eye + rng.uniform(0.5, 0.6) * face.span * face.down
    return _pasted(face, eye, target, np.eye(2), (0.45 * face.span, 0.32 * face.span))


def missing_eye(face: Face, rng: np.random.Generator) -> Crop | None:
    """Smooth skin where an eye was, in the colours of what is around it."""
    eye = _an_eye(face, rng)
    share = _oval(face, eye, 0.42 * face.span, 0.24 * face.span)
    around = _oval(face, eye, 0.6 * face.span, 0.36 * face.span)
    skin = spread(face.cutout.pixels, (around > 0) & (share == 0))
    share = np.asarray(np.minimum(1, 1.4 * share), np.float32)
    return np.asarray(face.cutout.pixels * (1 - share[..., None]) + skin * share[..., None], np.float32)


def large_eye(face: Face, rng: np.random.Generator) -> Crop | None:
    """One eye is about twice as large as the other."""
    x, y = _an_eye(face, rng)
    height, width = face.cutout.matte.shape
    at_x, at_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    reach = 0.75 * face.span
    share = np.clip(1 - np.hypot(at_x - x, at_y - y) / reach, 0, 1)
    grow = rng.uniform(0.55, 0.65) * np.minimum(1, 1.6 * share)
    return sample(face.cutout.pixels, at_x - (at_x - x) * grow, at_y - (at_y - y) * grow)


def turned_feature(face: Face, rng: np.random.Generator) -> Crop | None:
    """The mouth, or an eye, upside down (Thompson's Thatcher illusion, 1980)."""
    if rng.random() < 0.7:
        middle = face.cutout.points[[MOUTH_LEFT, MOUTH_RIGHT]].mean(0)
        return _pasted(face, middle, middle, -np.eye(2), (0.55 * face.span, 0.3 * face.span))
    eye = _an_eye(face, rng)
    return _pasted(face, eye, eye, -np.eye(2), (0.42 * face.span, 0.26 * face.span))
