"""Pictures labelled by eye without knowing whose they are: numbered sheets, and the rates that follow from the labels.

A drawn picture carries no truth, and the judge errs on tuned models' pictures. Labels are lines of `number,label,kind`
in DIR/labels/labels-WHO.csv: good, bad (an anatomical error that can be seen) or unclear, and of bad ones, if it is
told, what is wrong; labelling.md is what labellers are told. Where several looked at one picture the first file's label
counts, and the others tell how far they agree.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from making import judged
from measures import Picture, pictures
from PIL import Image, ImageDraw, ImageFont
from plan import BASE, Plan

from hafbench.errors import HafError
from hafbench.files import write_whole
from hafbench.images import load_image
from hafbench.runs import Run

COLUMNS, ROWS, SIDE = 6, 4, 230
SHOWN = 140
"""Pixels of a tile in the documentation."""
LABELS = ("good", "bad", "unclear")
TINT = "tint"
"""The kind of a good picture whose colours are wrong at a whole digit."""
BAD: Mapping[str, bool | None] = {"good": False, "bad": True, "unclear": None}


def make_sheets(plan: Plan, base: Run, runs: Mapping[str, Sequence[Run]], each: int) -> None:
    """Sheets of `each` pictures of the base and of every method, all shuffled, and key.csv.

    Methods show the same prompts and seeds: prompts in turn, and of their fits in turn. Raises HafError where there are
    labels of other sheets.
    """
    shown = {BASE: pictures([base]), **{method: pictures(own) for method, own in runs.items()}}
    prompts, seeds = (sorted(set(column)) for column in zip(*shown[BASE], strict=True))
    of_a_fit = len(seeds) // plan.sizes.seeds
    kept = set()
    for place in range(min(each, len(shown[BASE]))):
        round_, prompt = divmod(place, len(prompts))
        fit, seed = (prompt + round_) % plan.sizes.seeds, round_ // plan.sizes.seeds
        kept.add((prompts[prompt], seeds[fit * of_a_fit + seed % of_a_fit]))
    drawn = [(name, own[key]) for name, own in shown.items() for key in own if key in kept]
    tiles = [drawn[place] for place in np.random.default_rng(0).permutation(len(drawn))]
    folder = plan.out / "labels"
    folder.mkdir(exist_ok=True)
    key = [f"{number},{name},{tile.prompt_id},{tile.seed}" for number, (name, tile) in enumerate(tiles)]
    text = "\n".join(["number,name,prompt_id,seed", *key]) + "\n"
    if any(folder.glob("labels-*.csv")) and (folder / "key.csv").read_text() != text:
        raise HafError(f"{folder} has labels of other sheets; move them away before you make new ones.")
    for first in range(0, len(tiles), COLUMNS * ROWS):
        numbers = range(first, min(len(tiles), first + COLUMNS * ROWS))
        sheet({number: tiles[number][1] for number in numbers}).save(folder / f"sheet-{first:04d}.png")
    write_whole(folder / "key.csv", text)
    print(f"{len(tiles)} pictures on sheets in {folder}; labels go into {folder}/labels-WHO.csv (number,label).")


def sheet(tiles: Mapping[int, Picture]) -> Image.Image:
    """Numbered pictures, enlarged."""
    page = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for place, (number, picture) in enumerate(tiles.items()):
        x, y = (place % COLUMNS) * SIDE, (place // COLUMNS) * SIDE
        tile = load_image(picture.place).resize((SIDE - 2, SIDE - 2), Image.Resampling.BICUBIC)
        page.paste(tile, (x, y))
        draw.text((x + 4, y + 2), str(number), fill="white", font=font, stroke_width=2, stroke_fill="black")
    return page


def copy_sheets(plan: Plan, to: Path) -> None:
    """The sheets as small WebP files, for those who want to label them again."""
    to.mkdir(exist_ok=True)
    for path in sorted((plan.out / "labels").glob("sheet-*.png")):
        page = load_image(path)
        page.resize((COLUMNS * SHOWN, ROWS * SHOWN), Image.Resampling.LANCZOS).save(
            to / path.with_suffix(".webp").name, quality=80
        )


def read(plan: Plan) -> pd.DataFrame | None:
    """The labelled pictures: number, name (a method's, or base), prompt_id, seed, bad, kind, second; None without any.

    `bad` is None where it is unclear. `kind` is empty where none was told, and TINT of a good one that is tinted.
    `second` is the label of whoever came second, None where that is unclear, and "none" where nobody did.
    """
    files = sorted((plan.out / "labels").glob("labels-*.csv"))
    if not files:
        return None
    key = pd.read_csv(plan.out / "labels" / "key.csv").set_index("number")
    labels: dict[int, list[str]] = {}
    kinds: dict[int, str] = {}
    for path in files:
        with path.open(encoding="utf-8", newline="") as lines:
            for place, line in enumerate(csv.DictReader(lines), start=2):
                number, label = int(line["number"]), line["label"].strip()
                if label not in LABELS or number not in key.index:
                    raise HafError(
                        f"{path}, line {place}: '{number},{label}' is no picture's label: {', '.join(LABELS)}."
                    )
                labels.setdefault(number, []).append(label)
                kinds.setdefault(number, (line.get("kind") or "").strip())
    found = key.loc[sorted(labels)].reset_index()
    found["bad"] = pd.Series([BAD[labels[number][0]] for number in found["number"]], dtype=object)
    found["kind"] = [kinds[number] for number in found["number"]]
    found["second"] = pd.Series(
        [BAD[labels[n][1]] if len(labels[n]) > 1 else "none" for n in found["number"]], dtype=object
    )
    return found


def verdicts(runs: Sequence[Run]) -> pd.DataFrame:
    """By (prompt_id, seed) what the judge said of the images of runs: error and chance, as `making.judged`."""
    parts = []
    for run in runs:
        records = run.records.drop_duplicates("image").set_index("image")
        own = records[["prompt_id", "seed"]].join(judged(run))
        parts.append(own.set_index(["prompt_id", "seed"]))
    return pd.concat(parts)
