"""A photo of nobody, and the parts of a person in it."""

import cv2
import numpy as np

from asap_train.types import Part, Photo
from hafbench.types import Region

# A hand of 21 points: the wrist below, five digits spread, the thumb on the left.
HAND = np.array(
    [(50, 95), *((50 + r * x, 95 - r * y) for x, y in ((-1.0, 0.55), (-0.5, 1.0), (-0.05, 1.15), (0.4, 1.1), (0.8, 0.9))
                 for r in (28, 44, 58, 70))]
)  # fmt: skip


def photo(caption: str | None = "a man who waves", size: tuple[int, int] = (120, 100)) -> Photo:
    noise = np.random.default_rng(3).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Photo("people/waving.jpg", "0" * 64, cv2.GaussianBlur(noise, (0, 0), 2), caption)


def part(region: Region = "hands", name: str = "left_hand") -> Part:
    mask = np.zeros((120, 100), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(HAND.round().astype(np.int32)), 1)
    points = HAND if region == "hands" else HAND[[0, 10, 12]]
    return Part(region, name, mask > 0, np.column_stack([points, np.ones(len(points))]))
