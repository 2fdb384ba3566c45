"""Images made to break a decoder, or folders of them: each is one sentence in a row of its own, and the run goes on."""

import io
import os
import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hafbench import images
from hafbench.errors import BadImage, HafError
from hafbench.evaluate import evaluate
from hafbench.images import find_images, load_image, sha256_of
from hafbench.records import Sample
from hafbench.runs import open_run
from small import Brightness, folder_manifest

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))
FORMATS: dict[str, dict[str, Any]] = {
    "a.png": {},
    "a.jpg": {"quality": 80},
    "b.jpg": {"progressive": True},
    "a.webp": {"lossless": True},
    "b.webp": {"quality": 50},
    "a.bmp": {},
    "a.gif": {},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
    "c.tif": {"compression": "jpeg"},
    "a.avif": {"quality": 60, "speed": 10},
    "a.ppm": {},
}
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(100)
JPEG_XL = b"\xff\n" + bytes(100)
DDS_WITH_A_LIE = b"DDS " + struct.pack("<7I", 124, 0, 8, 8, 0, 0, 0) + bytes(96)


def encoded(name: str, picture: Image.Image = NOISE) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, {"tif": "TIFF", "jpg": "JPEG"}.get(name[2:], name[2:].upper()), **FORMATS[name])
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_and_half_of_it_is_not_taken_for_the_whole(tmp_path: Path, name: str) -> None:
    whole = encoded(name)
    assert load_image(put(tmp_path / name, whole)).size == (40, 48)
    with pytest.raises(BadImage, match=rf"{name}: .* (cannot be decoded \(.+\); make or copy it again|is damaged)"):
        load_image(put(tmp_path / name, whole[: len(whole) * 2 // 3]))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.heic", HEIC, "this is HEIC"),
        ("renamed.jpg", HEIC, "this is HEIC"),
        ("a.jxl", JPEG_XL, "this is JPEG XL"),
        ("dds.png", DDS_WITH_A_LIE, "not an image in a format that is read"),
        ("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image in a format that is read"),
    ],
)
def test_other_formats_are_named_and_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, words: str
) -> None:
    monkeypatch.setattr(images, "_formats", lambda: images.FORMATS)  # as where pillow-heif is not installed
    with pytest.raises(BadImage, match=words):
        load_image(put(tmp_path / name, content))


@pytest.mark.parametrize(
    ("pixels", "grey"),
    [
        (np.full((4, 4), 200, np.int32), 200),
        (np.full((4, 4), 51400, np.int32), 200),
        (np.full((4, 4), 51400, np.uint16), 200),
        (np.full((4, 4), 100, np.uint16), 0),
        (np.full((4, 4), 0.2, np.float32), 51),
        (np.full((4, 4), 200, np.float32), 200),
    ],
)
def test_numbers_of_many_bits_are_scaled_by_their_range(tmp_path: Path, pixels: np.ndarray, grey: int) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    assert load_image(tmp_path / "x.tif").getpixel((0, 0)) == (grey, grey, grey)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.array([[0.5, np.nan]], np.float32), "NaN"),
        (np.array([[0.5, np.inf]], np.float32), "infinite"),
        (np.array([[0.5, 1000]], np.float32), "from 0 to 1000; save them as floats"),
        (np.array([[-0.5, 1]], np.float32), r"from -0\.5 to 1; save them as floats"),
        (np.array([[0, 70000]], np.int32), "from 0 to 70000; save them as integers"),
        (np.array([[-1, 5]], np.int32), "from -1 to 5; save them as integers"),
    ],
)
def test_numbers_that_mean_no_grey_are_refused(tmp_path: Path, pixels: np.ndarray, words: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    with pytest.raises(BadImage, match=words):
        load_image(tmp_path / "x.tif")


def test_a_pipe_a_device_and_a_folder_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(BadImage, match=r"pipe or a device|a folder"):
            load_image(path)
        with pytest.raises(OSError, match=r"pipe or a device|a folder"):
            sha256_of(path)


@pytest.mark.parametrize(
    "error", [RuntimeError, NotImplementedError, MemoryError, struct.error, KeyError, RecursionError]
)
def test_whatever_a_decoder_raises_is_a_bad_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Stands for the decoders of all versions of Pillow: which of them raises what changes from one to the next."""

    def load(_: Image.Image) -> None:
        raise error("what went wrong")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(BadImage, match=rf"a\.png: .*{error.__name__}.*what went wrong"):
        load_image(put(tmp_path / "a.png", encoded("a.png")))


def tiff_of_one_tile(side: int, tile: int, data: bytes) -> bytes:
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 134, 325: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_a_tile_larger_than_its_image_counts_by_its_own_size(tmp_path: Path) -> None:
    tile = zlib.compress(bytes(64 * 64))
    assert load_image(put(tmp_path / "a.tif", tiff_of_one_tile(10, 64, tile))).size == (10, 10)
    with pytest.raises(BadImage, match="20000 x 20000 pixels is over the limit"):
        load_image(put(tmp_path / "a.tif", tiff_of_one_tile(10, 20_000, tile)))


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "a.gif", "a.bmp", "a.ppm"])
def test_decoding_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(images, "MAX_SECONDS", -1.0)
    with pytest.raises(BadImage, match="it takes more than"):
        load_image(put(tmp_path / name, encoded(name)))


def test_an_animation_costs_no_more_than_its_first_frame(tmp_path: Path) -> None:
    frames = [NOISE, *(Image.new("RGB", NOISE.size, (i, 0, 0)) for i in range(3))]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        first = np.asarray(load_image(tmp_path / name))
        content = (tmp_path / name).read_bytes()
        assert first.std() > 50, name
        if name != "a.webp":  # whose decoder wants the whole file
            cut = put(tmp_path / f"cut_{name}", content[:-40])
            assert np.array_equal(np.asarray(load_image(cut)), first)


def test_broken_exif_is_told_to_nobody(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a hand " * 50
    NOISE.save(tmp_path / "a.jpg", exif=exif)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    start = content.find(b"Exif\0\0") + 6
    content[start + 8 : start + 10] = b"\xff\xff" if content[start : start + 2] == b"II" else b"\x7f\xff"
    path = put(tmp_path / "b.jpg", bytes(content))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Image.open(path).getexif()
    assert told  # Pillow does warn of this file
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert load_image(path).size == NOISE.size
    assert told == []


def test_what_libtiff_finds_wrong_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It writes to the process's stderr, past Python."""
    content = bytearray(encoded("b.tif"))
    content[20:400] = bytes(range(190)) * 2
    with pytest.raises(BadImage):
        load_image(put(tmp_path / "a.tif", bytes(content)))
    assert capfd.readouterr().err == ""


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded("a.png"))
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")), encoded("a.png"))
    with pytest.raises(HafError, match=r"caf\\xe9\.png: this name is not UTF-8, as 1 of the 2 images' are not"):
        find_images(tmp_path)


def test_a_folder_of_horrors_is_scored_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    put(folder / "good.png", encoded("a.png"))
    put(folder / "phone.heic", HEIC)
    put(folder / "dds.png", DDS_WITH_A_LIE)
    put(folder / "cut.avif", encoded("a.avif")[:-60])
    put(folder / "zero.gif", b"")
    put(folder / "line\nbreak \x1b[31m.png", encoded("a.png"))
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nothing.png")
    samples = [Sample(path.relative_to(folder).as_posix()) for path in find_images(folder)]
    assert len(samples) == 8
    with open_run(tmp_path / "run", folder_manifest({"hands": Brightness()}, folder)) as run:
        records = evaluate(run, samples, {"hands": Brightness()}).records
    status = dict(zip(records.image, records.status, strict=True))
    assert {name for name, value in status.items() if value == "scored"} == {"good.png", "line\nbreak \x1b[31m.png"}
    assert set(status.values()) == {"scored", "failed"}
    assert all(str(tmp_path) not in reason for reason in records.reason.dropna())


@pytest.mark.parametrize("name", FORMATS)
def test_files_with_any_bytes_changed_are_images_or_bad_images(tmp_path: Path, name: str) -> None:
    """A small sample of a longer search: bytes changed, parts cut out, doubled, or put from one file into another."""
    rng = random.Random(name)
    whole, other = encoded(name), encoded("a.png")
    for number in range(60):
        content = mutated(rng, whole, other)
        try:
            loaded = load_image(put(tmp_path / f"{number}{name[1:]}", content))
        except BadImage as error:
            assert "\n" not in str(error)
        else:
            assert loaded.mode == "RGB"


def mutated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = min(int(rng.expovariate(1 / 60)), len(data) - 1) if rng.random() < 0.5 else rng.randrange(len(data))
        length = rng.randint(1, 12)
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + length] = rng.choice([b"\xff", b"\0", b"\x7f"]) * length
            case 2:
                del data[at : at + rng.randint(1, 200)]
                data += b"\0"
            case 3:
                data[at:at] = data[at : at + 100]
            case _:
                start = rng.randrange(len(other))
                data[at : at + length] = other[start : start + length]
    return bytes(data)
