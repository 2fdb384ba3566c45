"""Read any image file into 8-bit RGB the same way every time, or say in one sentence why not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from hafbench.errors import BadImage, HafError, one_line
from hafbench.files import MAX_BYTES, check_regular, is_utf8, names_below, read_whole

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.sources.places import Place

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "PPM")
"""What is decoded, whatever the file's name says. Pillow has decoders for many rare formats, too, which nobody's images
come in, and one of which starts another program."""
READ = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm")
SUFFIXES = frozenset({*READ, ".heic", ".heif", ".hif", ".jxl", ".jp2"})
"""What counts as an image in a folder: also formats that cannot be read, so that they are not left out silently."""
UNREAD = (
    (
        re.compile(rb".{4}ftyp(he[iv][cmsx]|mif1|msf1)", re.DOTALL),
        "HEIC: `pip install pillow-heif`, or save it as PNG",
    ),
    (re.compile(rb"\xff\n|.{4}JXL ", re.DOTALL), "JPEG XL, which is not read: save it as PNG"),
    (re.compile(rb"\xff\x4f\xff\x51|.{4}jP  ", re.DOTALL), "JPEG 2000, which is not read: save it as PNG"),
)
"""How the files of formats that are not read begin, and what to say of them."""
ImageFormat = Literal["png", "webp-lossless", "jpeg95"]


@dataclass(frozen=True)
class Encoding:
    """How images are written: `suffix` of the files, Pillow's name of the format, and the options of its writer."""

    suffix: str
    name: str
    options: Mapping[str, Any]


ENCODINGS: Mapping[ImageFormat, Encoding] = {
    "png": Encoding(".png", "PNG", {}),
    "webp-lossless": Encoding(".webp", "WEBP", {"lossless": True, "quality": 20, "method": 2}),
    "jpeg95": Encoding(".jpg", "JPEG", {"quality": 95}),
}
"""The first two keep every pixel. More effort for WebP costs several times the time for a few per cent of the bytes
(docs/studies/image-formats.md)."""
MAX_PIXELS = 100_000_000
TILE_WIDTH, TILE_HEIGHT = 322, 323
"""Tags of TIFF."""
MAX_SECONDS = 60.0
"""For one image: a small JPEG can hold enough passes over its pixels to keep a decoder busy for hours."""
RENEW = "make or copy it again."


def load_image(where: Path | Place) -> Image:
    """Decode an image, at a path or any other place, to RGB, upright by its EXIF orientation.

    Raises BadImage for what cannot be read or decoded (`decode_image`); a place may raise RunStopped.
    """
    try:
        content = read_whole(where, MAX_BYTES) if isinstance(where, Path) else where.read()
    except OSError as error:
        raise BadImage(
            f"{where}: the image cannot be decoded ({error.strerror or one_line(error)}); {RENEW}"
        ) from error
    return decode_image(content, str(where))


def decode_image(content: bytes, name: str) -> Image:
    """Decode the bytes of an image's file to RGB, upright by its EXIF orientation; `name` is what messages call it.

    Integer grey of 16 bits is scaled to 8, and so are floats from 0 to 1; CMYK and palettes are converted, transparency
    is laid over white, and of an animation the first frame is taken: the others are not decoded.

    Raises BadImage for anything that is not a whole image of at most MAX_PIXELS pixels (the size is checked before
    decoding), whatever the decoder raised. Decoding ends after MAX_SECONDS where the decoder reads the file bit by bit,
    which those of JPEG, PNG, GIF, BMP and PPM do; the others read it at once, and are bounded by the pixels alone.
    """
    try:
        if not content:
            raise BadImage(f"{name}: the file is empty; {RENEW}")
        with _TimedFile(content, MAX_SECONDS) as file, warnings.catch_warnings():
            # What matters of these becomes an error below; the rest is of no use to who scores thousands of files.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return _decode(file, name)
    except BadImage:
        raise
    except OSError as error:
        raise BadImage(f"{name}: the image cannot be decoded ({error.strerror or one_line(error)}); {RENEW}") from error
    except Exception as error:
        raise BadImage(
            f"{name}: the image cannot be decoded ({type(error).__name__}: {one_line(error)}); {RENEW}"
        ) from error


class _TimedFile(io.BytesIO):
    """A file that can be read for so many seconds: Pillow's decoders ask for more as they go."""

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(content)
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._end:
            raise TimeoutError(f"it takes more than {self._seconds:g} seconds")
        return super().read(size)


@cache
def _formats() -> tuple[str, ...]:
    """Get Pillow's decoders ready, and name the formats to decode: HEIF, too, where pillow-heif is installed."""
    from importlib import import_module

    from PIL import Image as PILImage

    PILImage.init()
    _silence_decoders(import_module("PIL._imaging").__file__)
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


def _silence_decoders(library: str | None) -> None:
    """Errors are raised, too; libtiff also prints them, past Python's sys.stderr and without the file's name."""
    import ctypes
    import logging

    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, AttributeError):  # where Pillow is built without libtiff, or hides it
        set_handler = ctypes.CDLL(library).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def _decode(file: _TimedFile, name: str) -> Image:
    from PIL import Image as PILImage
    from PIL import ImageOps, UnidentifiedImageError

    try:
        image = PILImage.open(file, formats=_formats())
    except PILImage.DecompressionBombError as error:
        raise BadImage(f"{name}: {error}; make it smaller.") from error
    except UnidentifiedImageError as error:
        file.seek(0)
        begin = file.read(16)
        known = next((words for pattern, words in UNREAD if pattern.match(begin)), None)
        if known:
            raise BadImage(f"{name}: this is {known}.") from error
        raise BadImage(
            f"{name}: this is damaged, or not an image in a format that is read: {', '.join(FORMATS)}."
        ) from error
    with image:
        # A TIFF may hold tiles larger than itself, which are decoded whole.
        tags = getattr(image, "tag_v2", {})
        for width, height in (image.size, (tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0))):
            if width * height > MAX_PIXELS:
                limit = MAX_PIXELS // 1_000_000
                raise BadImage(
                    f"{name}: {width} x {height} pixels is over the limit of {limit} megapixels; make it smaller."
                )
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), name, is_tiff=image.format == "TIFF")


def _to_rgb(image: Image, name: str, is_tiff: bool) -> Image:
    from PIL import Image as PILImage

    if image.mode.startswith(("I", "F")):
        image = _grey(image, name, is_tiff)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = PILImage.new("RGBA", image.size, "white")
        image = PILImage.alpha_composite(white, image)
    return image.convert("RGB")


def _grey(image: Image, name: str, is_tiff: bool) -> Image:
    """Grey of more than 8 bits as 8 bits, what is transparent white; raises BadImage if white is no known number."""
    import numpy as np
    from PIL import Image as PILImage

    pixels = np.asarray(image, dtype=np.float64)
    if not np.isfinite(pixels).all():
        raise BadImage(f"{name}: there are NaN or infinite pixels; {RENEW}")
    low, high = pixels.min(initial=0.0), pixels.max(initial=0.0)
    if image.mode == "F":
        white, known = (1.0 if high <= 1.0 else 255.0), "floats from 0 to 1 or from 0 to 255"
    else:
        # Mode I is a TIFF's 32 bits, where either may be meant, or a PPM's 16 bits.
        white, known = (255.0 if is_tiff and image.mode == "I" and high <= 255 else 65535.0), "integers of 8 or 16 bits"
    if low < 0 or high > white:
        raise BadImage(f"{name}: the pixels go from {low:g} to {high:g}; save them as {known}.")
    if "transparency" in image.info:  # of a PNG, the grey that is
        pixels[pixels == image.info["transparency"]] = white
    return PILImage.fromarray(np.rint(pixels * (255.0 / white)).astype(np.uint8))


def encode_image(image: Image, suffix: str) -> bytes:
    """An image as the bytes of a file, in the one of ENCODINGS that has this suffix."""
    encoding = next(one for one in ENCODINGS.values() if one.suffix == suffix)
    file = io.BytesIO()
    image.save(file, format=encoding.name, **encoding.options)
    return file.getvalue()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes; raises OSError for what is not a regular file."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_images(folder: Path) -> list[Path]:
    """Every image file under `folder` by its suffix, in a fixed order; hidden ones, and those of runs, left out.

    What cannot be read, such as a pipe or a link to nothing, is among them, to be told of rather than left out.
    Raises HafError for a subfolder that cannot be read, and for a file name that is not UTF-8, since records, tables
    and pages could not spell it.
    """
    paths = sorted(folder / name for name in names_below(folder) if PurePosixPath(name).suffix.lower() in SUFFIXES)
    unspelt = [path for path in paths if not is_utf8(str(path))]
    if unspelt:
        name = os.fsencode(unspelt[0]).decode("utf-8", "backslashreplace")
        raise HafError(
            f"{name}: this name is not UTF-8, as {len(unspelt)} of the {len(paths)} images' are not; rename them "
            "(convmv does it for whole folders)."
        )
    return paths
