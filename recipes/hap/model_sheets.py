"""The images of docs/guides/pairs.md that models and the renderer make: `model_sheets.py [--out docs/guides/pairs]`.

Also prints how many of the built-in model's redrawn hands change enough inside the mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from asap_train.data.inpainting import PainterOptions, load_painter
from asap_train.data.regions import Finder
from asap_train.data.similarity import measure_similarity
from asap_train.data.spec import Thresholds
from asap_train.degrade.inpaint import InpaintFamily
from asap_train.degrade.mannequin import mannequin_pair
from asap_train.degrade.openpose import DRAWN_AT, draw_skeleton
from asap_train.degrade.redraw import window_about
from asap_train.degrade.skeleton import CORRUPTIONS, skeleton_of
from asap_train.types import Candidate, Part, Photo
from hafbench.mannequin.attributes import Framing
from hafbench.mannequin.picture import correct_picture
from hafbench.mannequin.taxonomy import DETAILS

SEED = 991_000_000  # of no data set
GAP, LABEL, INK, TILE = 4, 20, (40, 40, 46), 128

Tile = np.ndarray
Row = tuple[str, list[Tile]]


def sheet(rows: list[Row], across: int = 1) -> Image.Image:
    """Rows of tiles of one size under their titles, on white, in so many columns of rows."""
    height, width = rows[0][1][0].shape[:2]
    tiles = max(len(row) for _, row in rows)
    wide, high = tiles * (width + GAP) + 3 * GAP, height + LABEL + GAP
    lines = -(-len(rows) // across)
    page = Image.new("RGB", (across * wide - 2 * GAP + GAP, lines * high + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for number, (title, row) in enumerate(rows):
        left, top = GAP + number // lines * wide, GAP + number % lines * high
        draw.text((left, top + 2), title, fill=INK, font=font)
        for column, tile in enumerate(row):
            page.paste(Image.fromarray(tile), (left + column * (width + GAP), top + LABEL))
    return page


def save(page: Image.Image, path: Path) -> None:
    """As a PNG of 256 colours, which keeps the repository small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {page.width} x {page.height}, {path.stat().st_size / 1000:.0f} kB")


def grey(mask: np.ndarray) -> Tile:
    """A mask, white inside."""
    return np.repeat(mask[..., None].astype(np.uint8) * 255, 3, -1)


def difference(photo: Photo, loser: Candidate) -> Tile:
    """Twice how far the two lie apart, a channel each, on black."""
    return np.clip(2 * np.abs(photo.pixels.astype(np.int16) - loser.pixels), 0, 255).astype(np.uint8)


def pairs() -> Image.Image:
    """An exact pair of every error detail, the first that the seeds give."""
    rows: dict[str, Row] = {}
    seed = SEED
    while len(rows) < len(DETAILS):
        pair = mannequin_pair(seed)
        seed += 1
        if pair is None or pair[1].detail in rows:
            continue
        photo, loser = pair
        title = f"{loser.detail.replace('_', ' ')} ({loser.kind}, {loser.region})"
        rows[loser.detail] = (title, [photo.pixels, loser.pixels, grey(loser.mask), difference(photo, loser)])
    return sheet([rows[detail] for detail in DETAILS], across=3)


def posed(framing: Framing, seed: int) -> tuple[Tile, Part]:
    """A picture and its hand, or an arm or leg in the order of the seeds."""
    picture = correct_picture(seed, framing, size=2 * TILE)
    if framing == "hand":
        hand = picture.truth.hands[0]
        return picture.image, Part("hands", f"{hand.side}_hand", picture.truth.mask("hand0"), np.array(hand.keypoints))
    limb = picture.truth.people[0].limbs[seed % 4]
    return picture.image, Part("limbs", limb.name, picture.truth.mask(limb.name), np.array(limb.points))


def skeletons() -> Image.Image:
    """Sound skeletons of rendered hands and limbs, and what each corruption makes of them, in the model's window."""
    rows = []
    for framing, seeds in (("hand", (0, 3, 12)), ("full_body", (1, 2))):
        for seed in seeds:
            image, part = posed(framing, SEED + seed)
            sound = skeleton_of(part)
            if sound is None:
                continue
            suited = [c for c in CORRUPTIONS if c.error.region == part.region]
            changed = [c.change(sound, np.random.default_rng(seed)) for c in suited]
            window = window_about(cv2.dilate(part.mask.astype(np.uint8), np.ones((9, 9))) > 0, DRAWN_AT)
            drawn = [draw_skeleton(replace(one, points=window.points(one.points)), *window.painted)
                     for one in (sound, *changed)]  # fmt: skip
            tiles = [cv2.resize(tile, (160, 160), interpolation=cv2.INTER_AREA)
                     for tile in (image[window.place], *drawn)]  # fmt: skip
            names = ", ".join(c.error.detail.replace("_", " ") for c in suited)
            rows.append((f"{part.name.replace('_', ' ')}: picture, sound skeleton, {names}", tiles))
    return sheet(rows)


def hands(count: int, size: int) -> Iterator[tuple[Photo, Part]]:
    """Rendered hands that the built-in detector finds, the largest of each picture."""
    finder = Finder("mannequins")
    for seed in range(SEED + 1000, SEED + 1000 + count):
        pair = mannequin_pair(seed, size, "hand")
        found = [part for part in finder.find(pair[0].pixels).parts if part.region == "hands"] if pair else []
        if pair and found:
            yield pair[0], found[0]


def redrawn(count: int, shown: int) -> Image.Image:
    """Hands redrawn by the built-in model, with the SSIM inside the mask; the counts of all of them are printed."""
    family = InpaintFamily(load_painter(PainterOptions(model="mannequin")), candidates=4)
    most = Thresholds().inside_ssim
    rows: list[Row] = []
    inside: list[float] = []
    for number, (photo, part) in enumerate(hands(count, TILE)):
        tiles = [photo.pixels, grey(part.mask)]
        for loser in family.degrade(photo, part, np.random.default_rng(number)):
            inside.append(measure_similarity(photo.pixels, loser.pixels, loser.mask).ssim_in)
            tiles.append(loser.pixels)
        likeness = ", ".join(f"{value:.2f}" for value in inside[-family.candidates :])
        rows.append((f"asked for: {loser.detail.replace('_', ' ')}; SSIM inside {likeness}", tiles))
    print(
        f"{len(inside)} candidates for {len(rows)} hands of {count} renders: SSIM inside from {min(inside):.2f} to "
        f"{max(inside):.2f}, mean {np.mean(inside):.3f}; {np.mean(np.array(inside) <= most):.1%} at most {most}"
    )
    return sheet(rows[:shown])


def main() -> None:
    """Write mannequin.png, skeletons.png and inpaint_mannequin.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/guides/pairs"))
    parser.add_argument("--count", type=int, default=40, help="renders whose hand is redrawn")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    save(pairs(), asked.out / "mannequin.png")
    save(skeletons(), asked.out / "skeletons.png")
    save(redrawn(asked.count, 8), asked.out / "inpaint_mannequin.png")


if __name__ == "__main__":
    main()
