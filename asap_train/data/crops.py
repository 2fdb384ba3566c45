"""A pair at the model's size: both images and M scaled and cropped alike, M kept in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from asap_train.backbones import Crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.data.buckets import Size
    from asap_train.hap import Pair
    from asap_train.types import Mask
    from hafbench.types import Pixels


def fit_pair(pair: Pair, size: Size) -> tuple[Pixels, Pixels, NDArray[np.float32]]:
    """Winner and loser (height, width, 3), and M (height, width) as the share of each pixel that it covers, 0 to 1.

    The largest part of the image with the proportions of `size`, as near to its middle as M allows: M lies within it,
    or, where M is longer than the part, M's middle is the part's. It is then scaled to that size.
    """
    top, left, height, width = window(pair.mask, size)
    part = np.s_[top : top + height, left : left + width]
    mask = scaled(pair.mask[part].astype(np.float32), size)
    return scaled(pair.winner[part], size), scaled(pair.loser[part], size), np.clip(mask, 0, 1)


def crop_of(mask: Mask, size: Size) -> Crop:
    """How `fit_pair` cuts a pair with that M."""
    top, left, height, width = window(mask, size)
    corner = (round(top * size[0] / height), round(left * size[1] / width))
    return Crop((mask.shape[0], mask.shape[1]), corner, size)


def window(mask: Mask, size: Size) -> tuple[int, int, int, int]:
    """Top, left, height and width of that part, in pixels."""
    # Whole numbers: a square is exactly square.
    height = min(mask.shape[0], max(1, round(mask.shape[1] * size[0] / size[1])))
    width = min(mask.shape[1], max(1, round(mask.shape[0] * size[1] / size[0])))
    top, left = (_start(np.asarray(mask.any(axis=1 - axis)), side) for axis, side in enumerate((height, width)))
    return top, left, height, width


def _start(covered: NDArray[np.bool_], side: int) -> int:
    """Where `side` pixels begin along one axis, of which `covered` says where M is."""
    length = len(covered)
    places = np.flatnonzero(covered)
    middle = (length - side) // 2
    if not len(places):
        return middle
    first, last = int(places[0]), int(places[-1])
    low, high = last + 1 - side, first
    if low > high:
        low = high = (first + last + 1 - side) // 2
    return int(np.clip(np.clip(middle, low, high), 0, length - side))


def scaled(image: NDArray[Any], size: Size) -> NDArray[Any]:
    """An image of the same proportions at another size: averaged where it shrinks, cubic where it grows."""
    import cv2

    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if image.shape[0] > size[0] else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(image), (size[1], size[0]), interpolation=how)
    return np.asarray(resized, dtype=image.dtype)
