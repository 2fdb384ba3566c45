"""Values of an image between its pixels."""

from __future__ import annotations

import numpy as np

from hafbench.people.mesh import Floats

_WIDTH = 1024  # OpenCV maps at most 32767 rows or columns


def bilinear(image: Floats, column: Floats, row: Floats) -> Floats:
    """The values (N, C) of an image (H, W, C) at columns and rows (N,) of pixel centres."""
    import cv2

    count = len(column)
    pad = -count % _WIDTH
    x, y = (np.pad(np.asarray(v, np.float32), (0, pad)).reshape(-1, _WIDTH) for v in (column, row))
    if not count:
        return np.zeros((0, image.shape[2]), np.float32)
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).reshape(-1, image.shape[2])[:count]


def sample(texture: Floats, uv: Floats) -> Floats:
    """The values (N, C) of a texture that repeats, at uv (N, 2) with v upwards."""
    height, width = texture.shape[:2]
    return bilinear(texture, (uv[:, 0] % 1.0) * width - 0.5, (1 - uv[:, 1] % 1.0) * height - 0.5)
