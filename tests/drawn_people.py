"""Parts drawn on a textured ground, with their keypoints known: for tests that need no weights and no photos."""

import cv2
import numpy as np

from asap_train.types import Part
from hafbench.types import Region

SKIN = (205, 160, 135)


def ground(size: int = 360, seed: int = 0) -> np.ndarray:
    """A smooth blotchy wall with some grain."""
    rng = np.random.default_rng(seed)
    wall = cv2.resize(rng.integers(40, 110, (6, 6, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    grainy: np.ndarray = np.clip(wall + rng.normal(0, 5, wall.shape), 0, 255).astype(np.uint8)
    return grainy


def _flesh(image: np.ndarray, points: np.ndarray, width: float) -> None:
    cv2.polylines(image, [(points * 16).round().astype(np.int32)], False, SKIN, round(width), cv2.LINE_AA, shift=4)


def _part(
    image: np.ndarray, before: np.ndarray, region: Region, name: str, points: np.ndarray
) -> tuple[np.ndarray, Part]:
    mask = cv2.dilate((image != before).any(-1).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    noise = np.random.default_rng(1).normal(0, 4, image.shape)
    image = np.clip(image + noise * mask[..., None], 0, 255).astype(np.uint8)
    return image, Part(region, name, mask, np.column_stack([points, np.ones(len(points))]))


def drawn_hand(size: int = 360) -> tuple[np.ndarray, Part]:
    """An open hand, fingers up and spread, about a third as large as the picture, with its 21 points."""
    unit = 0.6 * size / 360
    wrist = np.array([0.5, 0.6]) * size
    points = [wrist]
    for degrees, knuckle, length in ((-58, 45, 75), (-24, 84, 78), (-6, 88, 86), (11, 84, 80), (29, 76, 64)):
        way = np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])
        points += [wrist + way * (knuckle + share * length) * unit for share in (0, 0.45, 0.75, 1.0)]
    hand = np.array(points)
    image = ground(size)
    before = image.copy()
    palm = cv2.convexHull(hand[[0, 1, 5, 9, 13, 17]].astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(image, palm, SKIN, cv2.LINE_AA)
    cv2.polylines(image, [palm], True, SKIN, round(16 * unit), cv2.LINE_AA)
    for number in range(5):
        _flesh(image, hand[1 + 4 * number : 5 + 4 * number], 17 * unit)
    return _part(image, before, "hands", "left_hand", hand)


def drawn_arm(size: int = 360) -> tuple[np.ndarray, Part]:
    """A nearly straight arm, with shoulder, elbow and wrist."""
    points = np.array([[140.0, 110.0], [170.0, 165.0], [190.0, 225.0]]) * size / 360
    image = ground(size, 2)
    before = image.copy()
    _flesh(image, np.array([*points, points[2] + 0.5 * (points[2] - points[1])]), 21 * size / 360)
    return _part(image, before, "limbs", "left_arm", points)


def drawn_foot(size: int = 360) -> tuple[np.ndarray, Part]:
    """A foot from the side, with ankle, heel and toe."""
    points = np.array([[150.0, 150.0], [140.0, 190.0], [240.0, 195.0]]) * size / 360
    image = ground(size, 3)
    before = image.copy()
    cv2.fillConvexPoly(image, points.round().astype(np.int32), SKIN)
    _flesh(image, points[[0, 1, 2, 0]], 34 * size / 360)
    return _part(image, before, "feet", "left_foot", points)


def drawn_face(size: int = 360) -> tuple[np.ndarray, Part]:
    """A face from the front, with nose, eyes and the corners of the mouth."""
    points = np.array([[180.0, 190.0], [145.0, 150.0], [215.0, 150.0], [155.0, 230.0], [205.0, 230.0]]) * size / 360
    image = ground(size, 4)
    before = image.copy()
    centre = (round(size / 2), round(size * 0.53))
    cv2.ellipse(image, centre, (round(size * 0.25), round(size * 0.33)), 0, 0, 360, SKIN, -1, cv2.LINE_AA)
    for x, y in points[1:3]:
        cv2.ellipse(image, (round(x), round(y)), (round(size / 16), round(size / 30)), 0, 0, 360, (240, 240, 240), -1)
        cv2.circle(image, (round(x), round(y)), round(size / 36), (40, 30, 20), -1)
        brow = (round(x - size / 14), round(y - size / 18)), (round(x + size / 14), round(y - size / 22))
        cv2.line(image, *brow, (70, 45, 30), round(size / 40))
    left, right = points[3:].astype(int).tolist()
    cv2.line(image, left, right, (150, 40, 50), round(size / 24))
    left, right = (points[3:] + np.array([0, size / 30])).astype(int).tolist()
    cv2.line(image, left, right, (90, 60, 60), round(size / 60))
    return _part(image, before, "face", "face", points)


def drawn_torso(size: int = 360) -> tuple[np.ndarray, Part]:
    """A striped shirt, known by its mask only."""
    image = ground(size, 5)
    mask = np.zeros((size, size), np.bool_)
    mask[size // 5 : 4 * size // 5, size // 4 : 3 * size // 4] = True
    stripes = (np.arange(size) // (size // 30) % 2)[None, :, None] * np.array([150, 120, 30]) + 40
    image[mask] = np.broadcast_to(stripes, image.shape)[mask]
    return image, Part("torso", "torso", mask)


DRAWN = {"hands": drawn_hand, "limbs": drawn_arm, "feet": drawn_foot, "face": drawn_face, "torso": drawn_torso}
