"""Read any image file into 8-bit RGB the same way every time, or say in one sentence why not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import BadImage

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm"})
MAX_PIXELS = 100_000_000


def load_image(path: Path) -> Image:
    """Decode `path` to an RGB image, upright by its EXIF orientation.

    16-bit grey is scaled to 8 bits, CMYK and palettes are converted, transparency is laid over white, and of an
    animation the first frame is taken. Raises BadImage for anything that is not a whole image of at most
    MAX_PIXELS pixels (the size is checked before decoding).
    """
    import warnings

    from PIL import Image as PILImage
    from PIL import ImageOps, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            raise BadImage(f"{path}: the file is empty; make or copy it again.")
        with warnings.catch_warnings():
            # Our own bound below speaks instead of Pillow's warning.
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            image = PILImage.open(path)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(
                    f"{path}: {image.width} x {image.height} pixels is over the limit of "
                    f"{MAX_PIXELS // 1_000_000} megapixels; make it smaller."
                )
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except PILImage.DecompressionBombError as error:
        raise BadImage(f"{path}: {error}; make it smaller.") from error
    except UnidentifiedImageError as error:
        raise BadImage(f"{path}: this is not an image in a format that Pillow reads.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadImage(f"{path}: the image cannot be decoded ({error}); make or copy it again.") from error


def _to_rgb(image: Image) -> Image:
    import numpy as np
    from PIL import Image as PILImage

    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image, dtype=np.float64)
        if image.mode.startswith("I"):
            pixels = pixels / 257.0
        elif pixels.max(initial=0.0) <= 1.0:
            pixels = pixels * 255.0
        image = PILImage.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(white, image)
    return image.convert("RGB")


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_images(folder: Path) -> list[Path]:
    """Every image file under `folder` by its suffix, hidden files left out, in a fixed order."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
