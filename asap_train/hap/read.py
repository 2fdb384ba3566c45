"""Read a HAP data set: pair by pair with flat memory, or its columns without the images as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from asap_train.hap import Pair, from_row
from asap_train.hap.columns import COLUMNS, IMAGES, Row, problem_of, problems_of
from asap_train.hap.manifest import HapManifest, read_manifest
from hafbench.errors import HafError, one_line

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
        if not there:
            raise HafError(f"{folder} has no pairs.")
        raise HafError(f"{folder} has no split '{split}'; it has {', '.join(there)}.")
    for name in shards:
        for row in rows_of(folder / name):
            yield pair_of(row, folder / name)


def pair_of(row: Row, where: Path) -> Pair:
    """A row of a data set or a shard, decoded; raises HafError for a broken image and for one of another size."""
    from asap_train.data.similarity import check_sizes

    try:
        pair = from_row(row)
        check_sizes(pair.winner, pair.loser, pair.mask)
    except HafError as error:
        reason = str(error).rstrip(".")
        raise HafError(f"{where}: the pair {row['id']} is broken ({reason}); copy or make it again.") from error
    return pair


def rows_of(shard: Path) -> Iterator[Row]:
    """The rows of one shard, images still as files' bytes; HafError for a broken shard or a value that cannot be."""
    for number, row in enumerate(stored_rows(shard), 1):
        yield _checked(row, f"{shard}, row {number}")


def stored_rows(shard: Path) -> Iterator[Row]:
    """The rows of one shard as they are, whatever their values; raises HafError for a broken shard."""
    with _opened(shard, list(COLUMNS)) as file:
        for group in range(file.num_row_groups):
            yield from _rows(file, group)


def rows_by_id(folder: Path, ids: Set[str]) -> Iterator[Row]:
    """The rows of these ids, in the order they were written; images are read of their row groups only."""
    for name in read_hap(folder).shards:
        with _opened(folder / name, list(COLUMNS)) as file:
            for group in range(file.num_row_groups):
                if not ids.isdisjoint(file.read_row_group(group, columns=["id"])["id"].to_pylist()):
                    wanted = (row for row in _rows(file, group) if row["id"] in ids)
                    yield from (_checked(row, f"{folder / name}, row of {row['id'][:12]}...") for row in wanted)


def _checked(row: Row, where: str) -> Row:
    problem = next(problems_of(row), None)
    if problem:
        raise HafError(f"{where}: {problem.rstrip('.')}; `asap-train validate` finds all such rows.")
    return row


def _rows(file: pq.ParquetFile, group: int) -> list[Row]:
    return cast("list[Row]", file.read_row_group(group, columns=list(COLUMNS)).to_pylist())


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The columns of all pairs as a data frame, without the images if `columns` does not name them."""
    import pandas as pd

    wanted = list(columns or [name for name in COLUMNS if name not in IMAGES])
    shards = [table_of(folder / name, wanted) for name in read_hap(folder).shards]
    return pd.concat(shards, ignore_index=True) if shards else pd.DataFrame(columns=wanted)


def table_of(shard: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of one shard; raises HafError for a broken one and for a value that cannot be."""
    with _opened(shard, columns) as file:
        # Not by pandas' metadata: plain strings and floats, None and NaN where there is nothing.
        table = file.read(columns=list(columns))
        values = {name: table[name].to_pylist() for name in columns}
    for name, column in values.items():
        for number, value in enumerate(column, 1):
            problem = problem_of(name, value)
            if problem:
                raise HafError(
                    f"{shard}, row {number}: {problem.rstrip('.')}; `asap-train validate` finds all such rows."
                )
    import pandas as pd

    return pd.DataFrame({name: pd.Series(column, dtype=_dtype(name)) for name, column in values.items()})


def _dtype(column: str) -> str:
    return {"int32": "int64", "float64": "float64"}.get(COLUMNS[column], "object")


@contextmanager
def _opened(shard: Path, columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """A shard that has these columns; HafError for one that lacks them, and for what is found broken within."""
    import pyarrow.parquet as pq

    with parquet_errors(shard), pq.ParquetFile(shard) as file:
        lacking = [name for name in columns if name not in file.schema_arrow.names]
        if lacking:
            raise HafError(f"{shard}: the columns {', '.join(lacking)} are missing; see docs/reference/pairs.md.")
        yield file


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Say in one sentence that a Parquet file is broken; a text in it that is not UTF-8 is found late, too."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise HafError(f"{path} is broken ({one_line(error, 160)}); replace it by a good copy.") from error
