"""A shard while it grows: rows are appended as Arrow record batches, and become Parquet when it closes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asap_train.hap.columns import Row, arrow_schema
from hafbench.errors import HafError, one_line
from hafbench.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_BYTES = 16 * 2**20
ROW_GROUP_ROWS = 100
"""Small row groups, so that reading needs little memory."""
BEGINNING = b"\xff\xff\xff\xff"
"""Of every encapsulated Arrow message."""


def append_rows(path: Path, rows: Iterable[Row], durable: bool) -> int:
    """Append rows, and have them on disk if `durable`; returns the file's new length in bytes."""
    import pyarrow as pa

    schema = arrow_schema()
    with path.open("ab") as file:
        for row in rows:
            file.write(pa.RecordBatch.from_pylist([row], schema).serialize())
        if durable:
            file.flush()
            os.fsync(file.fileno())
        return file.tell()


def is_growing(path: Path) -> bool:
    """Whether a file begins as one that `append_rows` wrote; an empty one does."""
    with path.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING[: path.stat().st_size]


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """What was appended, one row at a time; raises HafError for a damaged file."""
    import pyarrow as pa

    schema = arrow_schema()
    with pa.OSFile(str(path)) as file:
        while file.tell() < file.size():
            try:
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
                batch.validate(full=True)
            except (OSError, pa.ArrowException) as error:
                raise HafError(
                    f"{path} is damaged ({one_line(error)}); restore it, or choose another --out."
                ) from error
            yield batch


def write_shard(growing: Path, path: Path) -> int:
    """The rows as a Parquet file, on disk whole or not at all; returns their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0

    def write(partial: Path) -> None:
        nonlocal rows
        waiting: list[pa.RecordBatch] = []
        size = 0
        # Without dictionaries: the images, nearly all of the bytes, are compressed already, and no two are alike.
        with pq.ParquetWriter(partial, arrow_schema(), compression="zstd", use_dictionary=False) as writer:
            for batch in batches_of(growing):
                waiting.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if size >= ROW_GROUP_BYTES or len(waiting) >= ROW_GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting, size = [], 0
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))

    write_whole(path, write, durable=True)
    return rows
