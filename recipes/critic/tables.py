"""A table of labelled squares: what a critic is trained on. One JSON object a line, written by the other scripts.

id       unique in its table           image    path of the picture, from the table's folder
roi      x, y, side (pixels of the image) and rotation (radians) of the square
label    good, bad, or none (no such part there)
kind     of a bad one: a word of KINDS, or null where it is of several kinds
group    what must not be split between training and test: a generator, a photo, a seed
mask     path of the error's mask (white where it is), or null where it is not known
sure     false where whoever labelled it hesitated
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from hafbench.detectors.nets import Roi

KINDS = {
    "hands": ("extra", "missing", "fused", "shape", "bent", "proportion"),
    "figures": ("extra", "missing", "fused", "shape", "bent", "orientation", "proportion"),
}
LABELS = {"good": 0, "bad": 1, "none": 2}


@dataclass(frozen=True)
class Square:
    """A line of a table; `label` is LABELS' number."""

    id: str
    image: Path
    roi: Roi
    label: int
    kind: str | None
    group: str
    mask: Path | None
    sure: bool


def read_table(path: Path) -> Iterator[Square]:
    """The squares of a table."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        mask = row.get("mask")
        yield Square(
            row["id"],
            path.parent / row["image"],
            Roi(*row["roi"]),
            LABELS[row["label"]],
            row.get("kind"),
            row["group"],
            path.parent / mask if mask else None,
            row.get("sure", True),
        )


@lru_cache(8)
def picture(path: Path) -> np.ndarray:
    """An RGB image (height, width, 3)."""
    found = cv2.imread(str(path))
    if found is None:
        raise SystemExit(f"{path} is not an image that OpenCV reads.")
    return np.ascontiguousarray(found[..., ::-1])
