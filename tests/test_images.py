"""Any image file becomes upright 8-bit RGB, or one clear sentence."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hafbench.errors import BadImage, HafError
from hafbench.images import MAX_PIXELS, find_images, load_image

RED = (255, 0, 0)


def test_an_ordinary_png_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), pixels)


@given(value=st.integers(0, 65535))
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path_factory: pytest.TempPathFactory, value: int) -> None:
    path = tmp_path_factory.mktemp("deep") / "deep.png"
    Image.fromarray(np.full((2, 2), value, dtype=np.uint16)).save(path)
    assert abs(np.asarray(load_image(path))[0, 0, 0] - value * 255 / 65535) <= 0.5


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    red, green, blue = np.asarray(load_image(tmp_path / "c.jpg"))[1, 1]
    assert red > 240
    assert green < 15
    assert blue < 15


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), RED).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    image = load_image(tmp_path / "p.png")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    if mode == "P":
        image.convert("P").save(tmp_path / "t.png", transparency=image.convert("P").getpixel((0, 0)))
    else:
        image.convert(mode).save(tmp_path / "t.png")
    assert load_image(tmp_path / "t.png").getpixel((0, 0)) == (255, 255, 255)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_that_is_transparent_is_laid_over_white(tmp_path: Path, bits: int) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    row, clear = bytes([0, *[7] * (bits // 8), *[9] * (bits // 8)]), bytes([7 if bits == 16 else 0, 7])
    parts = chunk(b"IHDR", header) + chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "t.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert np.asarray(load_image(tmp_path / "t.png"))[0].tolist() == [[255] * 3, [9] * 3]


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), "white")
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated: to be turned a quarter clockwise for display
    image.save(tmp_path / "r.png", exif=exif)
    upright = load_image(tmp_path / "r.png")
    assert upright.size == (4, 6)
    assert upright.getpixel((3, 0)) == RED


def test_a_bomb_is_refused_by_its_header_alone(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    assert MAX_PIXELS < 20_000 * 20_000
    with pytest.raises(BadImage, match=r"bomb\.png.*20000 x 20000|bomb\.png.*400000000 pixels"):
        load_image(tmp_path / "bomb.png")


def test_a_truncated_png_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=r"cut\.png.*cannot be decoded"):
        load_image(tmp_path / "cut.png")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"I am text\n" * 50, "not an image in a format that is read")]
)
def test_files_that_are_no_images_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(BadImage, match=rf"x\.jpg.*{words}"):
        load_image(tmp_path / "x.jpg")


@given(content=st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_bad_image(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(BadImage):
        load_image(path)


def test_images_are_found_in_a_fixed_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ["b/2.PNG", "a.jpg", "b/1.png", ".hidden/x.png", ".x.png", "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == [
        "a.jpg",
        "b/1.png",
        "b/2.PNG",
    ]


def test_a_subfolder_that_cannot_be_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(HafError, match=r"closed cannot be read \(Permission denied\)"):
            find_images(Path())
    finally:
        os.seteuid(user)
