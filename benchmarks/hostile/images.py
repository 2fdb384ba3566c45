"""Hostile images: every format damaged, bombs, odd modes and names, things that are no files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hostile.cases import Case
from benchmarks.hostile.mutate import damaged

FORMATS = ("png", "jpeg", "webp", "bmp", "tiff", "gif", "avif", "ppm", "dds")
SUFFIXES = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif", "avif", "ppm")
OUT = "out"
WORDS = ("score", "images", "--scorers", "iqa", "--out", OUT, "--quiet")
GREY = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
"""The picture behind odd modes: 40 x 50 grey values that stand in all of them exactly; iqa needs sides of 32 pixels."""
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(seed: int, side: int = 40) -> Image.Image:
    """A picture that a quality score can be given to."""
    values = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _case(name: str, file: str | bytes, content: bytes, pixels: Pixels | None = None, must: Any = "accept") -> Case:
    def make(folder: Path) -> None:
        path = _images(folder) / os.fsdecode(file)
        path.write_bytes(content)

    return Case("images", name, "hafbench", WORDS, make, must, lambda folder: _wrong(folder, os.fsdecode(file), pixels))


def _images(folder: Path) -> Path:
    """The folder of images, with a sound one in it."""
    (folder / "images").mkdir()
    noise(0).save(folder / "images" / "sound.png")
    return folder / "images"


def _wrong(folder: Path, name: str, pixels: Pixels | None) -> str | None:
    """What is wrong with the records of a sound image and the one of that name; its pixels, where they are known."""
    from hafbench.images import load_image
    from hafbench.runs import read_run

    records = read_run(folder / OUT).records.set_index("image")
    if records["status"].get("sound.png") != "scored":
        return "the sound image beside it was not scored"
    shown = [image for image in records.index if image != "sound.png"]
    if len(shown) != 1:
        return f"{name!r} has {len(shown)} rows"
    row = records.loc[shown[0]]
    if row["status"] == "scored" and not np.isfinite(row["value"]):
        return f"the value is {row['value']}"
    if row["status"] != "scored" and not row["reason"]:
        return f"it is {row['status']} without a reason"
    if pixels is None:
        return None
    if row["status"] != "scored":
        return f"a sound file was not read: {row['reason']}"
    read = np.asarray(load_image(folder / "images" / name))
    if read.shape != (*pixels.shape[:2], 3) or np.abs(read.astype(int) - pixels[..., None].astype(int)).max() > 2:
        return "its pixels were changed"
    return None


def special(rng: Random) -> Iterator[Case]:
    """Each once: what no damage at random brings about."""
    yield _case("an empty file", "a.png", b"")
    yield _case("a PNG of 100,000 x 100,000 pixels", "a.png", _png_header(100_000, 100_000))
    yield _case("a PNG of 9,000 x 9,000 pixels without data", "a.png", _png_header(9_000, 9_000))
    yield _case("a PNG without a width", "a.png", _png_header(0, 10))
    for format_ in FORMATS:
        for suffix in sorted({rng.choice(SUFFIXES), "png"}):
            yield _case(f"{format_} named .{suffix}", f"a.{suffix}", encoded(noise(1), format_))
    for format_ in ("gif", "webp", "png", "tiff"):
        pages = encoded(noise(0), format_, save_all=True, append_images=[noise(i) for i in range(1, 120)])
        yield _case(f"{format_} of 120 frames", f"a.{format_}", pages)
    yield from _modes()
    strange = (
        b"line\nbreak.png",
        "💥.png".encode(),
        b"<script>alert(1)</script>.png".replace(b"/", b"_"),
    )
    for name in (*strange, b"%s{0}$(id).png", b"'; drop.png", b"-rf.png", b"a" * 200 + b".png"):
        yield _case(f"the name {name[:30]!r}", name, encoded(noise(2), "png"))
    # Records are UTF-8, and a name changed on the way could be found by nobody.
    yield _case("a name that is not UTF-8", b"caf\xe9.png", encoded(noise(2), "png"), must="refuse")
    yield _case("HEIC, read or named", "a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    yield from _no_files()


def _modes() -> Iterator[Case]:
    """Pictures in modes of more than 8 bits, and others, whose pixels are known."""
    wide = GREY.astype(np.uint16) * 257
    yield _case("16-bit PNG", "a.png", encoded(Image.fromarray(wide), "png"), GREY)
    yield _case("16-bit TIFF", "a.tif", encoded(Image.fromarray(wide), "tiff"), GREY)
    yield _case(
        "32-bit integer TIFF of 0 to 255", "a.tif", encoded(Image.fromarray(GREY.astype(np.int32)), "tiff"), GREY
    )
    yield _case(
        "32-bit integer TIFF of 0 to 65535", "a.tif", encoded(Image.fromarray(wide.astype(np.int32)), "tiff"), GREY
    )
    unit = Image.fromarray(GREY.astype(np.float32) / 255)
    yield _case("float TIFF of 0 to 1", "a.tif", encoded(unit, "tiff"), GREY)
    yield _case("1-bit PNG", "a.png", encoded(Image.fromarray(GREY > 120), "png"), np.uint8(255) * (GREY > 120))
    yield _case("palette PNG", "a.png", encoded(Image.fromarray(GREY).convert("P"), "png"), GREY)
    yield _case("CMYK TIFF", "a.tif", encoded(Image.fromarray(GREY).convert("RGB").convert("CMYK"), "tiff"), GREY)
    yield _case("LAB TIFF", "a.tif", encoded(Image.new("LAB", (20, 20), (50, 128, 128)), "tiff"))
    clear = Image.fromarray(GREY).convert("LA")
    yield _case("grey with alpha", "a.png", encoded(clear, "png"), GREY)
    broken = GREY.astype(np.float32)
    broken[3, 3], broken[4, 4] = np.nan, np.inf
    yield Case(
        "images",
        "float TIFF with NaN and infinity",
        "hafbench",
        WORDS,
        lambda folder: (_images(folder) / "a.tif").write_bytes(encoded(Image.fromarray(broken), "tiff")),
        "accept",
        _is_failed,
    )
    for side in ((1, 1), (1, 20_000), (20_000, 1)):
        yield _case(f"{side[0]} x {side[1]} pixels", "a.png", encoded(Image.new("RGB", side), "png"))


def _is_failed(folder: Path) -> str | None:
    from hafbench.runs import read_run

    status = read_run(folder / OUT).records.set_index("image")["status"]["a.tif"]
    return None if status == "failed" else f"pixels that are no numbers are {status}"


def _no_files() -> Iterator[Case]:
    """What only looks like an image in a listing."""
    makers: dict[str, Callable[[Path], Any]] = {
        "a FIFO": os.mkfifo,
        "a folder": Path.mkdir,
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    }
    for name, maker in makers.items():
        yield Case("images", f"{name} named a.png", "hafbench", WORDS, _beside(maker))


def _beside(maker: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: maker(_images(folder) / "a.png")


def _png_header(width: int, height: int) -> bytes:
    """A PNG that says this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def at_random(rng: Random) -> Case:
    """One image of any format, damaged."""
    format_ = rng.choice(FORMATS)
    name, data = damaged(encoded(noise(rng.randrange(100)), format_), rng)
    suffix = format_ if format_ in SUFFIXES and rng.random() < 0.8 else rng.choice(SUFFIXES)
    return _case(f"{format_} {name}, named .{suffix}", f"a.{suffix}", data)
