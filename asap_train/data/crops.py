"""A pair at the model's size: both images and M scaled and cropped alike, M kept in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from asap_train.backbones import Crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.hap import Pair
    from asap_train.types import Mask
    from hafbench.types import Pixels


def fit_pair(pair: Pair, size: int) -> tuple[Pixels, Pixels, NDArray[np.float32]]:
    """Winner and loser (size, size, 3), and M (size, size) as the share of each pixel that it covers, 0 to 1.

    The largest square of the image, as near to its middle as M allows: M lies within it, or, where M is longer than
    the square, M's middle is the square's. It is then scaled to size x size.
    """
    top, left, side = window(pair.mask)
    part = np.s_[top : top + side, left : left + side]
    mask = scaled(pair.mask[part].astype(np.float32), size)
    return scaled(pair.winner[part], size), scaled(pair.loser[part], size), np.clip(mask, 0, 1)


def crop_of(mask: Mask, size: int) -> Crop:
    """How `fit_pair` cuts a pair with that M."""
    top, left, side = window(mask)
    height, width = mask.shape
    return Crop((height, width), (round(top * size / side), round(left * size / side)), (size, size))


def window(mask: Mask) -> tuple[int, int, int]:
    """Top, left and side of that square, in pixels."""
    side = min(mask.shape)
    top, left = (_start(np.asarray(mask.any(axis=1 - axis)), side) for axis in (0, 1))
    return top, left, side


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


def scaled(image: NDArray[Any], size: int) -> NDArray[Any]:
    """A square image at another size: averaged where it shrinks, cubic where it grows."""
    import cv2

    if image.shape[0] == size:
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=how), dtype=image.dtype)
