"""The page of an audit: its figures, and pairs to look at: x_w, x_l, M and the difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asap_train.hap import Pair
from asap_train.hap.read import pair_of, read_table, rows_by_id
from asap_train.page import render_page
from asap_train.reporting.audit import Audit, written
from hafbench.reports.overlays import data_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.types import Mask
    from hafbench.types import Pixels

PAIRS = 60
"""Shown at most, as evenly over families and details as there are pairs."""
PAGE_CHARACTERS = 13_000_000
"""Where the pairs stop, so that the page opens on a phone."""
SIDE = 320
"""Of each picture, in pixels."""
WHOLE = 0.7
"""From this share of the picture's side on, the close-up about M is the whole picture."""
AMPLIFIED = 4
TINT = (217, 72, 15)


@dataclass(frozen=True)
class Shown:
    """A pair with its pictures as data URIs: the whole x_w with M tinted, then x_w, x_l and difference about M."""

    pair: Pair
    place: str
    winner: str
    loser: str
    difference: str

    @property
    def characters(self) -> int:
        """How much they add to a page."""
        return sum(map(len, (self.place, self.winner, self.loser, self.difference)))


def build_page(found: Audit, folder: Path, out: Path, most: int = PAIRS) -> Path:
    """Write the page `out`, self-contained, and return its path."""
    from hafbench.files import disk_errors, write_whole

    shown: list[Shown] = []
    room = PAGE_CHARACTERS
    for pair in sample(folder, most):
        item = show(pair)
        room -= item.characters
        if shown and room < 0:
            break
        shown.append(item)
    page = render_page(
        "audit",
        "audit.js",
        audit=found,
        shown=shown,
        left_out=found.counts.pairs - len(shown),
        amplified=AMPLIFIED,
        written=written,
    )
    with disk_errors(out):
        return write_whole(out, page)


def sample(folder: Path, most: int) -> Iterator[Pair]:
    """At most `most` pairs, one of each family and detail in turn, always the same ones: by their ids."""
    table = read_table(folder, ["id", "family", "detail"]).sort_values("id")
    groups = [rows["id"].tolist() for _, rows in table.groupby(["family", "detail"], sort=True)]
    turns = chain.from_iterable(zip_longest(*groups))
    wanted = [one for one in turns if one is not None][:most]
    rows = {row["id"]: row for row in rows_by_id(folder, set(wanted))}
    for one in wanted:
        yield pair_of(rows[one], folder)


def show(pair: Pair) -> Shown:
    """The pictures of one pair."""
    import cv2

    box = close_up(pair.mask)
    near = slice(box[1], box[3]), slice(box[0], box[2])
    difference = cv2.absdiff(pair.winner, pair.loser)[near]
    return Shown(
        pair,
        place=_uri(tinted(pair.winner, pair.mask)),
        winner=_uri(pair.winner[near]),
        loser=_uri(pair.loser[near]),
        difference=_uri(cv2.multiply(difference, np.array(4 * [AMPLIFIED], np.float64))),
    )


def close_up(mask: Mask) -> tuple[int, int, int, int]:
    """The square (x1, y1, x2, y2) about M with a fifth to spare, kept within the picture; all of it if that is near."""
    import cv2

    height, width = mask.shape
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    side = min(round(1.4 * max(w, h, 16)), height, width)
    if side >= WHOLE * min(height, width):
        return 0, 0, width, height
    left = min(max(0, x + w // 2 - side // 2), width - side)
    top = min(max(0, y + h // 2 - side // 2), height - side)
    return left, top, left + side, top + side


def tinted(image: Pixels, mask: Mask) -> Pixels:
    """The picture with M tinted and outlined."""
    import cv2

    scene = image.copy()
    scene[mask] = (0.6 * scene[mask] + 0.4 * np.array(TINT)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(scene, outlines, -1, TINT, max(1, round(max(mask.shape) / SIDE)))
    return scene


def _uri(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return data_uri(picture.resize(size, Image.Resampling.BICUBIC))
