"""A mask that the user gives: `photo.mask.png` beside `photo.jpg`, white where errors may be put."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hafbench.errors import HafError
from hafbench.images import find_images, load_image

if TYPE_CHECKING:
    from asap_train.types import Mask

SUFFIX = ".mask.png"
WHITE = 128
"""From this level of grey on a pixel of the mask is in the region."""


def mask_path(photo: Path) -> Path:
    """Where the mask of a photo would be: `beach.jpg` has `beach.mask.png` beside it."""
    return photo.with_suffix(SUFFIX)


def is_mask(path: Path) -> bool:
    """Whether a file is a mask by its name."""
    return path.name.lower().endswith(SUFFIX)


def find_photos(folder: Path) -> list[Path]:
    """The images under `folder` that are not masks, in a fixed order; raises HafError for a mask without a photo."""
    found = find_images(folder)
    photos = [path for path in found if not is_mask(path)]
    owners = {mask_path(photo) for photo in photos}
    for path in found:
        if is_mask(path) and path not in owners:
            raise HafError(f"{path} is a mask, but there is no photo of that name beside it; rename or remove it.")
    return photos


def read_mask(photo: Path, shape: tuple[int, ...]) -> Mask | None:
    """The mask (height, width) that lies beside a photo of this shape; None if there is none.

    Raises BadImage for a file that is not an image, HafError for a mask of another size or one without any white.
    """
    path = mask_path(photo)
    if not path.is_file():
        return None
    mask: Mask = np.asarray(np.asarray(load_image(path)).mean(-1) >= WHITE)
    height, width = shape[:2]
    if mask.shape != (height, width):
        raise HafError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, but its photo {width} x {height}; "
            "make a mask of the photo's size."
        )
    if not mask.any():
        raise HafError(f"{path} has no white pixel; paint the region white, or remove the mask.")
    return mask
