"""Aspect-ratio buckets: sizes of about the same area, so that images are scaled as wholes and little of them is cut."""

from __future__ import annotations

import math

Size = tuple[int, int]
"""Height and width in pixels."""
RATIOS = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9), (2, 1))
"""Of the longer side to the shorter: those of diffusers' training scripts."""


def bucket_sizes(size: int, multiple: int) -> tuple[Size, ...]:
    """The buckets of about size^2 pixels, their sides multiples of `multiple`; the square is size x size itself."""
    upright = [(_side(size * math.sqrt(a / b), multiple), _side(size * math.sqrt(b / a), multiple)) for a, b in RATIOS]
    return tuple(dict.fromkeys([(size, size), *upright[1:], *((width, height) for height, width in upright[1:])]))


def bucket_of(shape: Size, buckets: tuple[Size, ...]) -> Size:
    """The bucket whose ratio of height to width is nearest to an image's; of two as near the first."""
    ratio = shape[0] / shape[1]
    return min(buckets, key=lambda bucket: abs(math.log(bucket[0] / bucket[1] / ratio)))


def _side(length: float, multiple: int) -> int:
    return max(1, round(length / multiple)) * multiple
