"""Look at every row of a data set and say what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asap_train.hap import Pair, from_row, pair_id
from asap_train.hap.card import COUNTED, UNKNOWN
from asap_train.hap.columns import IMAGES, ROUNDED, Row, problems_of
from asap_train.hap.read import read_hap, stored_rows
from hafbench.errors import BadImage, HafError
from hafbench.images import sha256_of

CLEARLY = 24
"""Levels of 255 in any channel from which two pixels differ clearly: more than JPEG and a decoder's noise."""
OUTSIDE = 0.01
"""The share of the pixels outside of M that may differ clearly."""


def validate(folder: Path, outside: float = OUTSIDE) -> list[str]:
    """Every problem as a sentence that says where it is; none for a sound data set.

    Found are: a shard that is missing, broken, not the one that hap.json speaks of, or not spoken of; an image that
    cannot be read; images or a mask of another size; an empty mask; pixels that differ clearly outside of the mask, on
    over the share `outside` of them; an id that is not of the contents, or there twice; a photo in two splits; a row in
    another split's shard; a value that cannot be, such as a null, text in a column of numbers, or a similarity that is
    not finite or out of its range; an area that is not M's; counts in hap.json that are not those of the rows. Raises
    HafError if `folder` is not a finished data set.
    """
    return list(_problems(folder, outside))


def _problems(folder: Path, outside: float) -> Iterator[str]:
    manifest = read_hap(folder)
    for path in sorted((folder / "data").glob("*.parquet")):
        if f"data/{path.name}" not in manifest.shards:
            yield f"data/{path.name} is not in hap.json: it is of another data set."
    places: dict[str, str] = {}
    splits: dict[str, str] = {}
    found: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    for name, shard in manifest.shards.items():
        if not (folder / name).is_file():
            yield f"{name} is missing."
            continue
        if sha256_of(folder / name) != shard.sha256:
            yield f"{name} is not the file that was written: its SHA-256 is another."
        rows = 0
        try:
            for rows, row in enumerate(stored_rows(folder / name), 1):
                where = f"{name}, row {rows}"
                unlikely = list(problems_of(row))
                yield from (f"{where}: {problem}" for problem in unlikely or _problems_of_pair(row, outside))
                if unlikely:
                    continue
                for column, counter in found.items():
                    counter[UNKNOWN if (value := row[column]) is None else value] += 1  # type: ignore[literal-required]
                if row["id"] in places:
                    yield f"{where}: the id {row['id'][:12]}... is there already, in {places[row['id']]}."
                places.setdefault(row["id"], where)
                if row["split"] != shard.split:
                    yield f"{where}: it is of the split {row['split']}, and lies in one of {shard.split}."
                first = splits.setdefault(row["source"], shard.split)
                if first != shard.split:
                    yield f"{where}: its photo {row['source'][:12]}... is in {first}, too."
        except HafError as error:
            yield str(error)
            continue
        if rows != shard.rows:
            yield f"{name} has {rows} rows, and hap.json says {shard.rows}."
    for column, counter in found.items():
        if getattr(manifest.counts, column) != counter:
            yield f"hap.json counts other values of {column} than the rows have."
    if manifest.counts.pairs != len(places):
        yield f"hap.json says {manifest.counts.pairs} pairs, and there are {len(places)}."
    if manifest.counts.photos != len(splits):
        yield f"hap.json says {manifest.counts.photos} photos, and the rows are of {len(splits)}."


def _problems_of_pair(row: Row, outside: float) -> Iterator[str]:
    try:
        pair = from_row(row)
    except BadImage as error:
        yield f"it cannot be read ({error})."
        return
    yield from _problems_of_images(pair, (row["height"], row["width"]), outside)


def _problems_of_images(pair: Pair, size: tuple[int, int], outside: float) -> Iterator[str]:
    sizes = {name: getattr(pair, name).shape[:2] for name in IMAGES}
    wrong = [f"the {name} has {found[1]} x {found[0]}" for name, found in sizes.items() if found != size]
    if wrong:
        yield f"{' and '.join(wrong)} pixels, and the row says {size[1]} x {size[0]}."
        return
    if pair_id(pair.winner, pair.loser, pair.mask) != pair.id:
        yield f"the id {pair.id[:12]}... is not that of its contents."
    if not pair.mask.any():
        yield "the mask is empty."
    if abs(pair.similarity.area - pair.mask.mean()) > ROUNDED:
        yield f"the area is {pair.similarity.area:.4f}, and the mask covers {pair.mask.mean():.4f} of the picture."
    beyond = clear_changes(pair.winner, pair.loser)[~pair.mask]
    if beyond.size and beyond.mean() > outside:
        yield f"{100 * beyond.mean():.1f} % of the pixels outside of the mask differ clearly."
    if not clear_changes(pair.winner, pair.loser).any():
        yield "winner and loser are the same."


def clear_changes(winner: np.ndarray, loser: np.ndarray) -> np.ndarray:
    """Where two RGB images differ by at least CLEARLY levels in any channel, (height, width)."""
    import cv2

    return np.asarray(cv2.absdiff(winner, loser).max(-1) >= CLEARLY)
