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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from statsmodels.stats.inter_rater import cohens_kappa

from hafbench.runs import read_run
from hafbench.statistics import error_rate

COLUMNS, ROWS, SIDE = 6, 4, 230
VERDICTS = ("digits", "limbs")


@dataclass(frozen=True)
class Row:
    """A labelled image: the scorer that judged it, whether that flagged it (None: it could not tell), the label."""

    prompt: str
    scorer: str
    flagged: bool | None
    bad: bool


def sheets(run: Path, out: Path) -> None:
    """Write sheets of 24 numbered images, and a list of what the numbers are."""
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


def agreement(rows: Sequence[Row]) -> dict[str, Any]:
    """How far the scorers' verdict on images is the label's, of those that they could judge."""
    judged = [row for row in rows if row.flagged is not None]

    def rate(of: Callable[[Row], bool], chosen: Sequence[Row]) -> dict[str, float | int | None]:
        # The images of a prompt are not independent.
        found = error_rate([of(row) for row in chosen], [row.prompt for row in chosen])
        return {"share": found.estimate, "low": found.low, "high": found.high, "n": found.scored}

    bad, good = [row for row in judged if row.bad], [row for row in judged if not row.bad]
    table = [[sum(row.flagged == flag for row in some) for flag in (False, True)] for some in (good, bad)]
    return {
        "bad_by_eye": rate(lambda row: row.bad, rows),
        "bad_by_eye_of_the_judged": rate(lambda row: row.bad, judged),
        "flagged": rate(lambda row: bool(row.flagged), judged),
        "agreement": rate(lambda row: row.flagged == row.bad, judged),
        "sensitivity": rate(lambda row: bool(row.flagged), bad),
        "specificity": rate(lambda row: not row.flagged, good),
        "kappa": round(float(cohens_kappa(np.array(table)).kappa), 3),
        "good_flagged_bad_flagged": table,
    }


def agree(run: Path, labels: Path) -> dict[str, Any]:
    """The agreement on all labelled images, and on each scorer's."""
    records = read_run(run).records
    anatomy = records[records["scorer"].isin(VERDICTS)]
    verdicts: dict[str, tuple[str, str, bool | None]] = {}
    for name, own in anatomy.groupby("image"):
        scored = own[own["status"] == "scored"]
        flagged = bool((scored["is_error"] == True).any()) if len(scored) else None  # noqa: E712
        scorer = scored["scorer"].iloc[0] if len(scored) else "none"
        verdicts[str(name)] = (str(own["prompt_id"].iloc[0]), scorer, flagged)
    with labels.open(encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    clear = [line for line in found if line["label"] in ("good", "bad")]
    rows = [Row(*verdicts[line["image"]], bad=line["label"] == "bad") for line in clear]
    by_scorer = {name: agreement([row for row in rows if row.scorer == name]) for name in VERDICTS}
    return {
        "labelled": len(found),
        "unclear": len(found) - len(clear),
        "not_judged": sum(row.flagged is None for row in rows),
        "all": agreement(rows),
        **by_scorer,
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
