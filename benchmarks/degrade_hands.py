"""Local degradations of a photographed hand, for measuring the `hands` scorer: digits copied, removed, bent, fused,
or the whole hand swirled or smeared. Everything outside the hand stays as it is."""

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

FINGERS = {name: (5 + 4 * k, 6 + 4 * k, 7 + 4 * k, 8 + 4 * k) for k, name in enumerate(("index", "middle", "ring"))}


def digit_mask(image, points, joints, width):
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(mask, [points[list(joints)].round().astype(np.int32)], False, 255, max(1, round(width)))
    return mask


def blend(image, changed, mask, soft):
    weight = cv2.GaussianBlur(mask, (0, 0), max(0.6, soft))[..., None] / 255.0
    return np.clip(image * (1 - weight) + changed * weight, 0, 255).astype(np.uint8)


def moved(image, sources, targets, reach):
    """Bend the image so that `sources` come to lie on `targets`, fixed at a ring of radius `reach`."""
    centre = points_centre = sources.mean(0)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = points_centre + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
    back = RBFInterpolator(np.r_[targets, ring], np.r_[sources, ring], kernel="thin_plate_spline")
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    grid = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    inside = np.hypot(*(grid - centre).T) < reach
    maps = grid.copy()
    maps[inside] = back(grid[inside])
    maps = maps.reshape(*image.shape[:2], 2).astype(np.float32)
    return cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def duplicate(image, points, palm, rng):
    joints = FINGERS[rng.choice(list(FINGERS))]
    x, y = points[joints[0]]
    turn = cv2.getRotationMatrix2D((float(x), float(y)), float(rng.choice([-1, 1]) * rng.uniform(18, 32)), 1.0)
    mask = digit_mask(image, points, joints, 0.24 * palm)
    size = image.shape[1::-1]
    return blend(image, cv2.warpAffine(image, turn, size), cv2.warpAffine(mask, turn, size), 0.02 * palm)


def remove(image, points, palm, rng):
    joints = FINGERS[rng.choice(list(FINGERS))]
    mask = digit_mask(image, points, joints[1:], 0.32 * palm)
    return cv2.inpaint(image, mask, 0.1 * palm, cv2.INPAINT_TELEA)


def bend(image, points, palm, rng):
    joints = list(FINGERS[rng.choice(list(FINGERS))])
    targets = points[joints].copy()
    angle = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for k in (2, 3):
        targets[k] = targets[1] + turn @ (points[joints[k]] - points[joints[1]])
    return moved(image, points[joints], targets, 1.6 * palm)


def fuse(image, points, palm, rng):
    first = rng.choice([5, 9, 13])
    a, b = np.arange(first + 1, first + 4), np.arange(first + 5, first + 8)
    middle = (points[a] + points[b]) / 2
    sources = np.r_[points[a], points[b]]
    targets = np.r_[points[a] + 0.4 * (middle - points[a]), points[b] + 0.4 * (middle - points[b])]
    return moved(image, sources, targets, 1.8 * palm)


def swirl(image, points, palm, rng):
    centre = points[rng.choice([6, 10, 14])]
    reach = rng.uniform(0.7, 1.1) * palm
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    dx, dy = x - centre[0], y - centre[1]
    angle = rng.choice([-1, 1]) * rng.uniform(1.2, 2.2) * np.clip(1 - np.hypot(dx, dy) / reach, 0, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    maps = (centre[0] + cos * dx - sin * dy).astype(np.float32), (centre[1] + sin * dx + cos * dy).astype(np.float32)
    return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def scramble(image, points, palm, rng):
    """Every fingertip moved at random: the melted hand of a diffusion model."""
    joints = [j for first in (1, 5, 9, 13, 17) for j in (first + 1, first + 3)]
    targets = points[joints] + rng.normal(0, 0.2 * palm, (len(joints), 2))
    return moved(image, points[joints], targets, 2.2 * palm)


DEGRADATIONS = {f.__name__: f for f in (duplicate, remove, bend, fuse, swirl, scramble)}
