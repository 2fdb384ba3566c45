"""The images of docs/reference/gallery.md: `gallery.py --out docs/reference/gallery [--samples RUN]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hafbench.mannequin.attributes import FRAMINGS, Framing
from hafbench.mannequin.errors import JUDGING
from hafbench.mannequin.picture import Pair, correct_picture, make_pair
from hafbench.mannequin.taxonomy import DETAILS

SEED = 990_000_000  # of no data set
GAP, LABEL, INK = 4, 22, (40, 40, 46)
OUTLINE = (226, 0, 116)


def sheet(rows: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Rows of tiles under their titles, on white."""
    height, width = rows[0][1][0].shape[:2]
    columns = max(len(tiles) for _, tiles in rows)
    page = Image.new("RGB", (columns * (width + GAP) + GAP, len(rows) * (height + LABEL + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for line, (title, tiles) in enumerate(rows):
        top = GAP + line * (height + LABEL + GAP)
        draw.text((GAP, top + 2), title, fill=INK, font=font)
        for column, tile in enumerate(tiles):
            page.paste(Image.fromarray(tile), (GAP + column * (width + GAP), top + LABEL))
    return page


def outlined(pair: Pair) -> np.ndarray:
    """The erroneous picture with the edge of its mask."""
    inner = pair.mask.copy()
    inner[1:-1, 1:-1] &= pair.mask[:-2, 1:-1] & pair.mask[2:, 1:-1] & pair.mask[1:-1, :-2] & pair.mask[1:-1, 2:]
    image = pair.erroneous.image.copy()
    image[pair.mask & ~inner] = OUTLINE
    return image


def world(columns: int) -> Image.Image:
    """Correct pictures of each framing."""
    rows = []
    for framing in FRAMINGS:
        tiles = [correct_picture(SEED + 37 * i, framing).image for i in range(2 * columns)]
        title = framing.replace("_", " ")
        rows += [(title, tiles[:columns]), ("", tiles[columns:])]
    return sheet(rows)


def errors(region: str, pairs: int) -> Image.Image:
    """Every error of a region: pairs of the correct picture and the erroneous one, its mask outlined."""
    rows = []
    for detail, (kind, where) in DETAILS.items():
        if where != region:
            continue
        framing: Framing = "hand" if region == "hands" else "full_body"
        tiles: list[np.ndarray] = []
        seed = SEED
        while len(tiles) < 2 * pairs:
            seed += 1
            pair = make_pair(seed, JUDGING, detail, framing)
            if pair is not None:
                tiles += [pair.correct.image, outlined(pair)]
        rows.append((f"{detail.replace('_', ' ')} ({kind}, {where})", tiles))
    return sheet(rows)


def samples(run: Path, columns: int) -> Image.Image:
    """Some 48 images from all over a run, row by row."""
    files = sorted((run / "images").rglob("*.png"))
    shown = files[:: max(1, len(files) // 48)][:48]
    tiles = [np.array(Image.open(file).convert("RGB")) for file in shown]
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    return sheet([("" if i else "as the built-in model draws the suite mannequin", row) for i, row in enumerate(rows)])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=Path, help="a run folder")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    made = {"world": world(10), "errors_hands": errors("hands", 4), "errors_limbs": errors("limbs", 4)}
    if asked.samples:
        made["samples"] = samples(asked.samples, 8)
    for name, page in made.items():
        page.save(asked.out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
