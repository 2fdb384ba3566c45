"""Pairs in the format of Diffusion-DPO and Pick-a-Pic: Parquet with jpg_0, jpg_1 (files' bytes), label_0 and caption.

label_0 is 1 if jpg_0 is the preferred image, 0 if jpg_1 is, 0.5 for a tie. Such pairs have no mask: on the way in it is
found where the two images differ clearly, and pairs that differ nearly everywhere are refused as unrelated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from asap_train.data.gates import fingerprint, is_kept, judge, refusal, skipped
from asap_train.data.similarity import measure_similarity
from asap_train.data.spec import Thresholds
from asap_train.hap import Pair, decode_image, decode_mask, pair_id, to_row
from asap_train.hap.columns import Row, problem_of
from asap_train.hap.manifest import Details, HapManifest, ImportSpec
from asap_train.hap.read import parquet_errors, read_hap, rows_of
from asap_train.hap.validate import clear_changes
from asap_train.hap.write import open_hap
from asap_train.types import SPLITS
from hafbench.errors import BadImage, HafError, nearest, one_line

if TYPE_CHECKING:
    from asap_train.data.similarity import Lpips
    from asap_train.types import Mask
    from hafbench.types import Pixels

A = TypeVar("A")
TheirRow = dict[str, Any]
NEEDED = ("jpg_0", "jpg_1", "label_0", "caption")
RIDING = ("region", "kind", "detail", "family", "split", "source", "name")
"""Columns of ours that ride along."""
TYPES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("jpg_0", "jpg_1", "mask"), ("binary", "large_binary")),
    "label_0": ("double", "float", "int64", "int32", "int8", "uint8"),
    **dict.fromkeys(("caption", *RIDING), ("string", "large_string", "null")),
}
"""The types in Arrow that columns may have on the way in."""
RELATED = 0.5
"""The share of the picture that may differ clearly; two drawings of one prompt differ in more."""
SPECK = 1e-4
"""Regions of change below this share of the picture are noise."""
MERGED = 0.01
"""Regions nearer to each other than this share of the longer side are one; M reaches as far beyond what changed."""


NO_GATES = "imported without gates"


class Refused(Exception):
    """A pair that cannot be taken over: the gate's name and the sentence."""


def export_pairs(folder: Path, out: Path, split: str | None = None) -> int:
    """Write the pairs of one split, or of all, as one Parquet file `out`; returns how many.

    The images are the same PNG bytes, whatever the columns' names say; which of the two comes first is decided by the
    id, so that a place tells nothing. `id`, `mask` (PNG bytes), region, kind, detail, family, split, source and name
    ride along. Raises HafError where there is nothing to export, of an unknown split, for an `out` that is
    there already or of another suffix.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from hafbench.files import disk_errors, write_whole

    if out.suffix != ".parquet":
        raise HafError(f"{out}: pairs are written as Parquet; give a file that ends in .parquet.")
    if split is not None and split not in SPLITS:
        raise HafError(f"There is no split '{split}': {nearest(split, list(SPLITS))}")
    if out.exists():
        raise HafError(f"{out} is there already; choose another --out.")
    shards = [name for name, shard in read_hap(folder).shards.items() if split in (None, shard.split)]
    if not shards:
        raise HafError(f"{folder} has no pairs{f' of the split {split!r}' if split else ''} to export.")
    strings, binaries = ("caption", "id", *RIDING), ("jpg_0", "jpg_1", "mask")
    types = {**dict.fromkeys(binaries, pa.binary()), **dict.fromkeys(("label_0", "label_1"), pa.float64())}
    schema = pa.schema({**types, **dict.fromkeys(strings, pa.string())})
    count = 0

    def write(partial: Path) -> None:
        nonlocal count
        with pq.ParquetWriter(partial, schema, compression="zstd", use_dictionary=False) as writer:
            for name in shards:
                for rows in _some(rows_of(folder / name)):
                    writer.write_table(pa.Table.from_pylist([_exported(row) for row in rows], schema))
                    count += len(rows)

    with disk_errors(out):
        write_whole(out, write)
    return count


def _some(rows: Iterator[Row], many: int = 32) -> Iterator[list[Row]]:
    from itertools import islice

    while some := list(islice(rows, many)):
        yield some


def _exported(row: Row) -> TheirRow:
    first = int(row["id"], 16) % 2 == 0
    images = [row["winner"]["bytes"], row["loser"]["bytes"]]
    return {
        "jpg_0": images[0 if first else 1],
        "jpg_1": images[1 if first else 0],
        "label_0": 1.0 if first else 0.0,
        "label_1": 0.0 if first else 1.0,
        "mask": row["mask"]["bytes"],
        **{name: value for name, value in row.items() if name in ("caption", "id", *RIDING)},
    }


def import_pairs(
    source: Path,
    out: Path,
    *,
    details: Details | None = None,
    thresholds: Thresholds | None = None,
    lpips: Lpips | None = None,
) -> HapManifest:
    """A HAP data set in `out` from a Parquet file, or a folder of them; returns its hap.json.

    A column `mask` (bytes) is taken as it is; without one M is found by `changed_region`. The columns region, kind,
    detail, family, source and name are taken over; without a source, pairs of one preferred image share a split.
    Left out, and counted by reason: ties, images that cannot be read, are of different sizes, are the same, or are
    unrelated. With `thresholds` the gates decide, too. Run again, an interrupted import is resumed. Raises HafError
    for a file that is not in this format.
    """
    files = sorted(source.glob("**/*.parquet")) if source.is_dir() else [source]
    if not files:
        raise HafError(f"{source} has no Parquet files.")
    # Below the folder, by their paths: files of several splits often have the same names.
    names = tuple(path.relative_to(source).as_posix() if source.is_dir() else path.name for path in files)
    request = ImportSpec(files=names, rows=tuple(map(_check, files)), gates=thresholds)
    facts = {"lpips": None if lpips is None else dict(lpips.settings)}
    with open_hap(out, request, facts=facts, details=details) as hap:
        for path, name in zip(files, names, strict=True):
            for number, row in enumerate(_rows(path)):
                item = f"{name}:{number}"
                if hap.done(item):
                    continue
                try:
                    pair = _imported(row, item, thresholds, lpips)
                except Refused as refused:
                    hap.add(item, [], [refused.args])
                else:
                    hap.add(item, [to_row(pair)])
        return hap.finish()


def _check(path: Path) -> int:
    """The number of rows; raises HafError for a file that is not in the format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            lacking = [name for name in NEEDED if name not in file.schema_arrow.names]
            types = {column.name: str(column.type) for column in file.schema_arrow}
            rows = int(file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise HafError(f"{path} cannot be read as Parquet ({one_line(error, 120)}).") from error
    if lacking:
        raise HafError(f"{path} has no column {', '.join(lacking)}; pairs have {', '.join(NEEDED)}.")
    for name, kinds in TYPES.items():
        if name in types and types[name] not in kinds:
            raise HafError(f"{path}: the column {name} has the type {types[name]}; {kinds[0]} is expected.")
    return rows


def _rows(path: Path) -> Iterator[TheirRow]:
    import pyarrow.parquet as pq

    with parquet_errors(path), pq.ParquetFile(path) as file:
        columns = [name for name in (*NEEDED, "mask", *RIDING) if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=16, columns=columns):
            yield from batch.to_pylist()


def _imported(row: TheirRow, item: str, thresholds: Thresholds | None, lpips: Lpips | None) -> Pair:
    for name in RIDING:
        if row.get(name) is not None and (problem := problem_of(name, row[name])):
            raise Refused("row", problem)
    label = row["label_0"]
    if label not in (0, 1):
        raise Refused("tie", "neither image is preferred")
    names = ("jpg_0", "jpg_1") if label == 1 else ("jpg_1", "jpg_0")
    winner, loser = (_taken(decode_image, "an image", row[name]) for name in names)
    if winner.shape != loser.shape:
        raise Refused("size", "the two images are of different sizes")
    mask = _taken(decode_mask, "the mask", row["mask"]) if row.get("mask") else changed_region(winner, loser)
    if mask.shape != winner.shape[:2] or not mask.any():
        raise Refused("mask", "the mask is empty or of another size than the images")
    similarity = measure_similarity(winner, loser, mask, lpips)
    verdicts = judge(similarity, thresholds or Thresholds())
    if thresholds and not is_kept(verdicts):
        raise Refused(*refusal(verdicts))
    return Pair(
        id=pair_id(winner, loser, mask),
        winner=winner,
        loser=loser,
        mask=mask,
        caption=row["caption"] or "",
        region=row.get("region"),
        kind=row.get("kind"),
        detail=row.get("detail") or "unknown",
        family=row.get("family") or "imported",
        source=row.get("source") or hashlib.sha256(np.ascontiguousarray(winner).data).hexdigest(),
        name=row.get("name") or item,
        similarity=similarity,
        fingerprint=fingerprint(winner, loser, mask),
        skipped=skipped(verdicts) if thresholds else dict.fromkeys((verdict.gate for verdict in verdicts), NO_GATES),
        settings={"mask": "given" if row.get("mask") else "where the images differ clearly"},
    )


def _taken(decode: Callable[[bytes], A], what: str, data: bytes | None) -> A:
    try:
        return decode(data or b"")
    except BadImage as error:
        raise Refused("broken", f"{what} cannot be read: {error}") from error


def changed_region(winner: Pixels, loser: Pixels) -> Mask:
    """M of a pair that has none: where its images differ clearly (validate.CLEARLY levels in any channel).

    Specks are dropped, places near each other are joined, holes are filled, and a margin is added. Raises Refused where
    nothing differs, and where so much does that one image is not the other with a local change.
    """
    import cv2
    from scipy.ndimage import binary_fill_holes

    changed = clear_changes(winner, loser)
    if changed.mean() > RELATED:
        raise Refused("unrelated", f"over {100 * RELATED:.0f} % of the picture differ: the images are unrelated")
    _, labels, about, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8), connectivity=8)
    large = about[:, cv2.CC_STAT_AREA] >= max(2, SPECK * changed.size)
    large[0] = False
    if not large.any():
        raise Refused("same", "the images do not differ clearly anywhere")
    reach = max(2, round(MERGED * max(changed.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(large[labels].astype(np.uint8), cv2.MORPH_CLOSE, disc)
    return np.asarray(binary_fill_holes(cv2.dilate(joined, disc)), dtype=np.bool_)
