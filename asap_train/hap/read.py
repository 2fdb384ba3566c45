"""Read a HAP data set: pair by pair with flat memory, or its columns without the images as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from asap_train.hap import Pair, from_row
from asap_train.hap.columns import COLUMNS, IMAGES, Row
from asap_train.hap.manifest import HapManifest, read_manifest
from hafbench.errors import BadImage, HafError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq


def read_hap(folder: Path) -> HapManifest:
    """hap.json of a finished data set; raises HafError if `folder` is not one."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise HafError(f"{folder} is not a HAP data set: it has no hap.json.")
    if manifest.ended is None:
        raise HafError(f"{folder} is an unfinished data set; run the command that started it again to finish it.")
    return manifest


def read_pairs(folder: Path, split: str | None = None) -> Iterator[Pair]:
    """The pairs of one split, or of all, in the order they were written, one row group in memory at a time.

    Raises HafError for a folder that is not a data set, a split that it does not have, and a broken shard.
    """
    manifest = read_hap(folder)
    shards = [name for name, shard in manifest.shards.items() if split in (None, shard.split)]
    if not shards:
        there = sorted({shard.split for shard in manifest.shards.values()})
        raise HafError(f"{folder} has no split '{split}'; it has {', '.join(there) or 'no pairs at all'}.")
    for name in shards:
        for row in rows_of(folder / name):
            try:
                yield from_row(row)
            except (BadImage, TypeError, ValueError) as error:
                raise HafError(f"{folder / name}: the pair {row['id']} is broken ({error}); copy it again.") from error


def rows_of(shard: Path) -> Iterator[Row]:
    """The rows of one shard, images still as files' bytes; raises HafError for a broken shard."""
    import pyarrow.parquet as pq

    with _broken(shard), pq.ParquetFile(shard) as file:
        lacking = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if lacking:
            raise HafError(f"{shard}: the columns {', '.join(lacking)} are missing; see docs/reference/pairs.md.")
        for group in range(file.num_row_groups):
            yield from _rows(file, group)


def rows_by_id(folder: Path, ids: Set[str]) -> Iterator[Row]:
    """The rows of these ids, in the order they were written; images are read of their row groups only."""
    import pyarrow.parquet as pq

    for name in read_hap(folder).shards:
        with _broken(folder / name), pq.ParquetFile(folder / name) as file:
            for group in range(file.num_row_groups):
                if not ids.isdisjoint(file.read_row_group(group, columns=["id"])["id"].to_pylist()):
                    yield from (row for row in _rows(file, group) if row["id"] in ids)


def _rows(file: pq.ParquetFile, group: int) -> list[Row]:
    return cast("list[Row]", file.read_row_group(group, columns=list(COLUMNS)).to_pylist())


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The columns of all pairs as a data frame, without the images if `columns` does not name them."""
    import pandas as pd

    wanted = list(columns or [name for name in COLUMNS if name not in IMAGES])
    shards = [table_of(folder / name, wanted) for name in read_hap(folder).shards]
    return pd.concat(shards, ignore_index=True) if shards else pd.DataFrame(columns=wanted)


def table_of(shard: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of one shard; raises HafError for a broken one."""
    import pyarrow.parquet as pq

    with _broken(shard):
        # Not by pandas' metadata: plain strings and floats, None and NaN where there is nothing.
        table = pq.read_table(shard, columns=list(columns))
    import pandas as pd

    return pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=_dtype(name)) for name in columns})


def _dtype(column: str) -> str:
    return {"int32": "int64", "float64": "float64"}.get(COLUMNS[column], "object")


@contextmanager
def _broken(shard: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise HafError(f"{shard} is broken ({reason}); replace it by a good copy.") from error
