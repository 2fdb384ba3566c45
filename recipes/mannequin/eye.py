"""The model's own samples, judged by eye: numbered sheets to look at, and how far the scorers agree with the labels.

    python recipes/mannequin/eye.py sheets --run RUN --out DIR
    python recipes/mannequin/eye.py agree --run RUN --labels recipes/mannequin/labels.csv

Labels are lines of `image,label,note`: good, bad (an anatomical error that can be seen) or unclear, which counts for
neither side and is numbered.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from hafbench.runs import read_run

COLUMNS, ROWS, SIDE = 8, 5, 224
VERDICTS = ("digits", "limbs")


def sheets(run: Path, out: Path) -> None:
    """Write sheets of forty numbered images, and a list of what the numbers are."""
    records = read_run(run).records
    images = sorted(set(records["image"]))
    out.mkdir(parents=True, exist_ok=True)
    font = ImageFont.load_default(16)
    for first in range(0, len(images), COLUMNS * ROWS):
        page = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE), "white")
        draw = ImageDraw.Draw(page)
        for place, name in enumerate(images[first : first + COLUMNS * ROWS]):
            x, y = (place % COLUMNS) * SIDE, (place // COLUMNS) * SIDE
            tile = Image.open(run / "images" / name).convert("RGB")
            tile = tile.resize((SIDE - 2, SIDE - 2), Image.Resampling.BICUBIC)
            page.paste(tile, (x, y))
            draw.text((x + 4, y + 2), str(first + place), fill="white", font=font, stroke_width=2, stroke_fill="black")
        page.save(out / f"sheet-{first:03d}.png")
    (out / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(images)))


def share(count: int, of: int) -> dict[str, float | int]:
    """A proportion with its Wilson interval."""
    low, high = proportion_confint(count, max(1, of), method="wilson")
    return {"share": round(count / max(1, of), 4), "low": round(low, 4), "high": round(high, 4), "n": of}


def agree(run: Path, labels: Path) -> dict[str, Any]:
    """How often the scorers' verdict on an image is the label's."""
    records = read_run(run).records
    anatomy = records[records["scorer"].isin(VERDICTS)]
    flagged = {str(name): bool((rows["is_error"] == True).any()) for name, rows in anatomy.groupby("image")}  # noqa: E712
    judged = {str(name): bool((rows["status"] == "scored").any()) for name, rows in anatomy.groupby("image")}
    with labels.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    clear = [row for row in rows if row["label"] in ("good", "bad") and judged[row["image"]]]
    table = np.zeros((2, 2), dtype=int)
    for row in clear:
        table[int(row["label"] == "bad"), int(flagged[row["image"]])] += 1
    kappa = cohens_kappa(table)
    return {
        "labelled": len(rows),
        "unclear": sum(row["label"] == "unclear" for row in rows),
        "not_judged": sum(not judged[row["image"]] for row in rows),
        "bad_by_eye": share(int(table[1].sum()), int(table.sum())),
        "flagged": share(int(table[:, 1].sum()), int(table.sum())),
        "agreement": share(int(np.trace(table)), int(table.sum())),
        "sensitivity": share(int(table[1, 1]), int(table[1].sum())),
        "specificity": share(int(table[0, 0]), int(table[0].sum())),
        "kappa": {"kappa": round(kappa.kappa, 3), "low": round(kappa.kappa_low, 3), "high": round(kappa.kappa_upp, 3)},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sheets", "agree"))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--labels", type=Path)
    asked = parser.parse_args()
    if asked.what == "sheets":
        sheets(asked.run, asked.out)
    else:
        print(json.dumps(agree(asked.run, asked.labels), indent=1))


if __name__ == "__main__":
    main()
