"""The images of docs/guides/people.md: for each kind of error good, bad and its mask, several times.

python recipes/people/sheets.py --out docs/guides/people --rows FOLDER [--view hand] [--columns 2] [--size 150]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hafbench.people.defects import Defect, of_view
from hafbench.people.pairs import pair

if TYPE_CHECKING:
    from hafbench.people.scene import View

SEED = 990_000_000  # of no data set
RENDERED = 224
GAP, LABEL, INK = 3, 18, (40, 40, 46)
MOST_BYTES = 390_000


def tiles(detail: str, first: int, columns: int, size: int) -> list[Image.Image]:
    """Good, bad and mask of as many scenes as there are columns, or fewer if few of the seeds show the error."""
    found: list[Image.Image] = []
    for seed in range(first, first + 12 * columns):
        if len(found) == 3 * columns:
            break
        made = pair(seed, detail, size=RENDERED)
        if made is not None:
            mask = np.where(made.mask[..., None], made.bad.image, made.bad.image // 6)
            small = [Image.fromarray(image.astype(np.uint8)) for image in (made.good.image, made.bad.image, mask)]
            found += [image.resize((size, size), Image.Resampling.LANCZOS) for image in small]
    return found


def strip(row: Defect, first: int, columns: int, size: int) -> Image.Image:
    """An error's name, and below it its pairs side by side."""
    block = 3 * (size + GAP) + 3 * GAP
    page = Image.new("RGB", (columns * block, size + LABEL + GAP), "white")
    text = f"{row.detail}  ({row.kind}, {row.region})"
    ImageDraw.Draw(page).text((GAP, 2), text, fill=INK, font=ImageFont.load_default(12))
    for number, image in enumerate(tiles(row.detail, first, columns, size)):
        page.paste(image, (number // 3 * block + number % 3 * (size + GAP) + GAP, LABEL))
    return page


def sheet(view: View, columns: int, size: int, rows: Path) -> Image.Image:
    """All errors of a view, one a row; rows that the folder `rows` has are not made again."""
    strips = []
    for number, row in enumerate(of_view(view)):
        path = rows / f"{row.detail}.png"
        if not path.exists():
            # Every row has scenes of its own, so that the sheet shows many.
            strip(row, SEED + 100 * number, columns, size).save(path)
            print(row.detail, flush=True)
        strips.append(Image.open(path))
    page = Image.new("RGB", (strips[0].width, sum(one.height for one in strips)), "white")
    for number, one in enumerate(strips):
        page.paste(one, (0, sum(other.height for other in strips[:number])))
    return page


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="where finished rows are kept")
    parser.add_argument("--view", choices=("hand", "figure"), action="append")
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--size", type=int, default=150)
    asked = parser.parse_args()
    asked.rows.mkdir(parents=True, exist_ok=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    for view in asked.view or ("hand", "figure"):
        page = sheet(view, asked.columns, asked.size, asked.rows)
        for quality in range(88, 40, -6):
            page.save(asked.out / f"{view}.jpg", quality=quality, optimize=True)
            if (asked.out / f"{view}.jpg").stat().st_size <= MOST_BYTES:
                break


if __name__ == "__main__":
    main()
