"""Real photos of hands and the weights of real detectors, where the folder beside the repository has them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hafbench.images import load_image

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no ../shared/weights and data here")
PHOTOS = ("four/15a73593", "four/105f8f8e", "rock/1bed937b", "none/0a787971")


def photo(start: str) -> np.ndarray:
    """A photo by its folder and the beginning of its name."""
    folder, name = start.split("/")
    return np.asarray(load_image(next((SHARED / "data" / "hands_real" / folder).glob(f"{name}*"))))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after a JPEG of this quality."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))
