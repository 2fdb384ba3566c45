"""Local degradations of a photographed hand along its 21 keypoints, to measure the `hands` scorer with.

Each takes an RGB image, the hand's points (21, 2) in its pixels and a random generator, and changes the hand alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from hafbench.detectors.nets import Floats

Pixels = Any


def finger(points: Floats, digit: int, start: int = 0) -> Floats:
    """The points of a digit from joint `start` (0 the knuckle) to its tip."""
    return points[1 + 4 * digit + start : 5 + 4 * digit]


def capsule(image: Pixels, line: Floats, width: float) -> Floats:
    """A soft mask (height, width, 1) of a thick line."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(mask, [np.rint(line).astype(np.int32)], False, 255, max(2, round(width)), cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), max(0.6, width / 14))[..., None] / 255.0


def palm_length(points: Floats) -> float:
    """The distance from the wrist to the middle finger's knuckle."""
    return float(np.hypot(*(points[9] - points[0])))


def extended(points: Floats, rng: np.random.Generator) -> int:
    """One of the three digits that reach farthest from the wrist."""
    reach = np.hypot(*(points[[4, 8, 12, 16, 20]] - points[0]).T)
    return int(rng.choice(np.argsort(-reach)[:3]))


def erased(image: Pixels, line: Floats, width: float) -> Pixels:
    """The image with what lies under `line` painted over from its surroundings."""
    mask = (capsule(image, line, width) > 0.3).astype(np.uint8)
    return cv2.inpaint(image, mask, max(2.0, width / 6), cv2.INPAINT_TELEA)


def pasted(image: Pixels, source: Pixels, line: Floats, width: float, matrix: Floats) -> Pixels:
    """What lies under `line` in `source`, moved by an affine matrix and laid over `image`."""
    size = image.shape[1::-1]
    mask = cv2.warpAffine(capsule(source, line, width), matrix, size)[..., None]
    moved = cv2.warpAffine(source, matrix, size)
    return np.rint(mask * moved + (1 - mask) * image).astype(np.uint8)


def turn_about(centre: Floats, degrees: float) -> Floats:
    """The affine matrix that turns by `degrees` about a point."""
    return cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, 1.0)


def remove_digit(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """One extended digit is painted over."""
    return erased(image, finger(points, extended(points, rng), 1), 0.36 * palm_length(points))


def duplicate_digit(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """One extended digit is copied beside itself."""
    line = finger(points, extended(points, rng))
    matrix = turn_about(line[0], rng.choice([-1, 1]) * rng.uniform(20, 32))
    return pasted(image, image, line, 0.27 * palm_length(points), matrix)


def fuse_digits(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """A digit is moved half-way onto its neighbour."""
    digit = int(rng.integers(1, 4))
    line, other = finger(points, digit, 1), finger(points, digit + 1, 1)
    dx, dy = 0.5 * (other - line).mean(0)
    return pasted(image, image, line, 0.3 * palm_length(points), np.array([[1, 0, dx], [0, 1, dy]]))


def bend_digit(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """One extended digit is turned about its knuckle by 45 to 90 degrees."""
    line, width = finger(points, extended(points, rng), 1), 0.27 * palm_length(points)
    matrix = turn_about(line[0], rng.choice([-1, 1]) * rng.uniform(45, 90))
    return pasted(erased(image, line, 1.3 * width), image, line, width, matrix)


def remapped(image: Pixels, dx: Floats, dy: Floats) -> Pixels:
    """The image with each pixel taken from (dx, dy) beside it."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    where = (x + dx).astype(np.float32), (y + dy).astype(np.float32)
    return cv2.remap(image, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def swirl(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """The image is turned about a joint, less with the distance from it."""
    centre, radius = points[rng.choice([5, 6, 9, 10, 13, 14])], 0.9 * palm_length(points)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = x - centre[0], y - centre[1]
    angle = rng.choice([-1, 1]) * rng.uniform(1.2, 2.4) * np.clip(1 - np.hypot(x, y) / radius, 0, 1) ** 2
    return remapped(image, x * np.cos(angle) - y * np.sin(angle) - x, x * np.sin(angle) + y * np.cos(angle) - y)


def warp(image: Pixels, points: Floats, rng: np.random.Generator) -> Pixels:
    """Seven joints are pushed, each in a random direction, with what is near them."""
    palm = palm_length(points)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    dx, dy = np.zeros(x.shape), np.zeros(x.shape)
    for centre in points[rng.choice(np.arange(3, 21), 7, replace=False)]:
        bump = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (0.16 * palm) ** 2))
        angle, push = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.24) * palm
        dx, dy = dx + push * np.cos(angle) * bump, dy + push * np.sin(angle) * bump
    return remapped(image, dx, dy)


DEGRADATIONS: dict[str, Callable[[Pixels, Floats, np.random.Generator], Pixels]] = {
    "remove_digit": remove_digit,
    "duplicate_digit": duplicate_digit,
    "fuse_digits": fuse_digits,
    "bend_digit": bend_digit,
    "swirl": swirl,
    "warp": warp,
}
