"""Records as files: records.parquet and records.csv, written in their order, and read back as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError, one_line
from hafbench.files import write_whole
from hafbench.record_checks import check_findings, check_measures, check_rows, check_types
from hafbench.record_lines import csv_lines
from hafbench.records import COLUMNS, NESTED, UNTOLD, arrow_schema
from hafbench.types import Finding, Role

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PLAIN = tuple(name for name in COLUMNS if name not in NESTED)
CODED = ("image", "sha256", "prompt_id", "prompt", "category", "scorer", "scorer_version", "status", "reason", "cause")
"""Columns of text: many rows have one in common."""
NAMES = ("image", "sha256", "prompt_id")
"""Of these the columns that are sorted, joined, and compared with another run's, as categoricals cannot well be."""
FIELDS = ("region", "kind", "detail", "score", "box", "keypoints")
"""What a finding consists of."""
Tables = Callable[[Sequence[str]], Iterator["pa.Table"]]
"""All records of a run, some thousand rows at a time: the columns that are named."""
ROWS_AT_ONCE = 5_000


def write_tables(tables: Tables, folder: Path, images: Sequence[str], scorers: Sequence[str]) -> Counter[str]:
    """Write records.parquet and records.csv, each whole or not at all; returns how many rows have each status.

    Rows are in the order of these images and of the scorers. Records that are in this order already, as those of a run
    are that was never edited, are written as they are read; others are sorted in memory.
    """
    ordered = _in_order(tables, images, scorers)
    counts: Counter[str] = Counter()

    def both(csv: Path) -> None:  # read once
        write_whole(folder / "records.parquet", lambda path: _write(path, csv, ordered(), counts))

    write_whole(folder / "records.csv", both)
    return counts


def _in_order(tables: Tables, images: Sequence[str], scorers: Sequence[str]) -> Callable[[], Iterator[pa.Table]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = pa.concat_tables([arrow_schema().empty_table().select(["image", "scorer"]), *tables(("image", "scorer"))])
    place, rank = (
        pc.index_in(keys[name], pa.array(names, pa.string())).to_numpy().astype(np.int64)
        for name, names in (("image", images), ("scorer", scorers))
    )
    order = place * len(scorers) + rank
    if (np.diff(order) > 0).all():
        return lambda: tables(COLUMNS)

    def in_memory() -> Iterator[pa.Table]:
        whole = pa.concat_tables([arrow_schema().empty_table(), *tables(COLUMNS)])
        yield pc.take(whole, pa.array(np.argsort(order, kind="stable")))

    return in_memory


def _write(parquet: Path, csv: Path, tables: Iterator[pa.Table], counts: Counter[str]) -> None:
    import pyarrow.parquet as pq

    # With checksums, so that no damaged byte is read as another figure.
    with pq.ParquetWriter(parquet, arrow_schema(), write_page_checksum=True) as writer, csv.open("wb") as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for table in tables:
            writer.write_table(table)
            counts.update({one["values"]: one["counts"] for one in table["status"].value_counts().to_pylist()})
            for batch in table.select(list(COLUMNS)).to_batches(ROWS_AT_ONCE):
                file.write(csv_lines(batch))


def read_arrow(path: Path, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """These columns of a file of records, typed as in `arrow_schema`; raises HafError for what is no such file."""
    with _reading(path):
        return _File(path).read(columns)


class _File:
    """An open records.parquet, whichever version of hafbench wrote it. `texts` are columns to be read as dictionaries.

    Raises HafError where a column is missing or has another type, and what pyarrow raises.
    """

    def __init__(self, path: Path, texts: Sequence[str] = ()) -> None:
        import pyarrow.parquet as pq

        self._path, schema = path, pq.read_schema(path)
        there = [name for name in schema.names if name in (*COLUMNS, "unscored")]
        # Columns as they were called, or missing, before version 0.2.
        self._named = {"reason" if name == "unscored" and "reason" not in there else name: name for name in there}
        missing = set(COLUMNS) - set(self._named) - {"cause"}
        if missing or len(there) != len(set(there)):
            what = f"{', '.join(sorted(missing))} are missing" if missing else "are there twice"
            raise HafError(f"{path}: the columns {what}; see docs/reference/run-folder.md.")
        self._types = {name: schema.field(old).type for name, old in self._named.items() if name in COLUMNS}
        self._texts = [self._named[name] for name in texts if name in self._named]
        self._file = pq.ParquetFile(path, read_dictionary=self._texts, page_checksum_verification=True)
        self._leaves = [self._file.schema.column(place).path for place in range(len(self._file.schema))]
        meta = self._file.metadata
        self.groups = [meta.row_group(place).num_rows for place in range(meta.num_row_groups)]

    def read(self, columns: Sequence[str], group: int | None = None, fields: Sequence[str] = FIELDS) -> pa.Table:
        """These columns, of all rows or of one group of rows; of the findings these fields."""
        import pyarrow as pa

        told = [name for name in columns if name in self._named]
        names = [*told, *({"status"} - set(told) if len(told) < len(columns) else ())]
        schema = pa.schema({name: self._types[name] for name in names})
        check_types(schema, arrow_schema(), str(self._path))
        wanted = {self._named[name] for name in names}
        unread = {f for f in FIELDS if f not in fields}
        leaves = [leaf for leaf in self._leaves if leaf.split(".")[0] in wanted and not unread & set(leaf.split("."))]
        table = self._file.read(leaves) if group is None else self._file.read_row_group(group, leaves)
        table.validate(full=True)
        found = {name: table[self._named[name]] for name in names}
        if "cause" in columns and "cause" not in found:
            found["cause"] = _untold(found["status"])
        return pa.table({name: self._typed(name, found[name], fields) for name in columns})

    def _typed(self, name: str, column: pa.ChunkedArray, fields: Sequence[str]) -> pa.ChunkedArray:
        import pyarrow as pa

        kind = arrow_schema().field(name).type
        if name == "findings":
            kind = pa.list_(pa.struct([field for field in kind.value_type if field.name in fields]))
        if pa.types.is_dictionary(column.type):
            kind = pa.dictionary(pa.int32(), kind)
        return column.cast(kind)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, UnicodeDecodeError, MemoryError, pa.ArrowException) as error:
        raise HafError(
            f"{path}: the records cannot be read ({one_line(error)}); copy the file again, or run the same command "
            "again in a new folder."
        ) from error


def _untold(statuses: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column `cause` of runs made before there was one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(statuses.cast(pa.string()), "unknown"), UNTOLD, pa.scalar(None, pa.string()))


def read_table(path: Path, roles: Mapping[str, Role]) -> pd.DataFrame:
    """records.parquet as a data frame without its findings and measures; a missing value is NA.

    Columns of text are categoricals, which hold each text once, but for the names of images and prompts. `roles` are
    those of the run's scorers. Raises HafError for a row that cannot be (`hafbench.record_checks`).
    """
    import pandas as pd
    import pyarrow as pa

    with _reading(path):
        table = _File(path, CODED).read(PLAIN)
        # Each part of sha256 keeps its own dictionary: one for all costs more than what is done with it.
        whole = {
            name: table[name] if name == "sha256" else table[name].unify_dictionaries().combine_chunks()
            for name in PLAIN
        }
        check_rows(pa.table(whole), roles, str(path))
        columns = {
            name: _text(one) if name in NAMES else _categorical(one) if name in CODED else one.to_pandas()
            for name, one in whole.items()
        }
    kinds = {"seed": "Int64", "width": "Int64", "height": "Int64", "value": "float64", "is_error": "boolean"}
    return pd.DataFrame(columns, copy=False).astype(kinds)


def _text(column: pa.Array | pa.ChunkedArray) -> Any:
    """As a column `str` of pandas, without a look at each text."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    kind = pd.StringDtype(na_value=np.nan)
    text = column.cast(pa.large_string())
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    return text.to_pandas(types_mapper={pa.large_string(): kind}.get)


def _categorical(column: pa.Array) -> Any:
    import pandas as pd
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return pd.Categorical.from_codes(coded.indices.fill_null(-1).to_numpy(), pd.Index(_text(coded.dictionary)))


def _findings(cell: Iterable[Mapping[str, Any]] | None) -> list[Finding]:
    """A cell of the column findings."""
    return [
        Finding(
            **{
                **one,
                "box": None if one["box"] is None else tuple(one["box"]),
                "keypoints": None if one["keypoints"] is None else tuple(map(tuple, one["keypoints"])),
            }
        )
        for one in cell or ()
    ]


def read_findings(path: Path, fields: Sequence[str] = FIELDS) -> pd.DataFrame:
    """All findings of records.parquet, one a row: `row`, the record's place, and these fields.

    `box` and `keypoints` stay Arrow's, whose cells become Python's when they are looked at.
    """
    import pandas as pd
    import pyarrow.compute as pc

    with _reading(path):
        table = _File(path).read(("findings",), fields=fields)
    check_findings(table, str(path))
    lists = table["findings"].combine_chunks()
    flat = pc.list_flatten(lists)
    columns = {"row": pc.list_parent_indices(lists).to_pandas()}
    for name in fields:
        values = pc.struct_field(flat, name)
        columns[name] = values.to_pandas(types_mapper=pd.ArrowDtype if name in ("box", "keypoints") else None)
    return pd.DataFrame(columns)


def findings_of(path: Path, images: Iterable[str]) -> dict[tuple[str, str], list[Finding]]:
    """The findings of a few images of records.parquet, by image and scorer: those of others stay unread."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, found = pa.array(list(images), pa.string()), dict[tuple[str, str], list[Finding]]()
    if not len(wanted):
        return {}
    with _reading(path):
        file = _File(path, ("image",))
        rows = np.flatnonzero(pc.is_in(file.read(("image",))["image"], wanted))
        ends = np.cumsum(file.groups)
        for group in np.unique(np.searchsorted(ends, rows, "right")):  # of which one at a time is in memory
            first = ends[group] - file.groups[group]
            own = rows[(first <= rows) & (rows < ends[group])] - first
            table = file.read(("image", "scorer", "findings"), int(group)).take(own)
            check_findings(table, str(path))
            found |= {(row["image"], row["scorer"]): _findings(row["findings"]) for row in table.to_pylist()}
    return found


def read_measures(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """These measures of records.parquet, a row for each record in their order: NaN where it does not have one."""
    import numpy as np
    import pandas as pd
    import pyarrow.compute as pc

    table = read_arrow(path, ("measures",))
    rows, keys, values = _pairs(table, path)
    found = {}
    for name in names:
        there = pc.equal(keys, name).to_numpy(zero_copy_only=False)
        found[name] = np.full(len(table), np.nan)
        found[name][rows[there]] = values[there]
    return pd.DataFrame(found)


def every_measure(path: Path) -> pd.DataFrame:
    """All measures of records.parquet, one a row: the record's `image` and `scorer`, `name` and `value`."""
    import pandas as pd

    table = read_arrow(path, ("image", "scorer", "measures"))
    rows, keys, values = _pairs(table, path)
    of_record = {name: table[name].take(rows).to_pandas() for name in ("image", "scorer")}
    return pd.DataFrame({**of_record, "name": keys.to_pandas(), "value": values})


def _pairs(table: pa.Table, path: Path) -> tuple[Any, pa.Array, Any]:
    """Of all measures the record's place, the name and the value, each (n,)."""
    import numpy as np

    check_measures(table, str(path))
    maps = table["measures"].combine_chunks()
    offsets = maps.offsets.to_numpy() if len(maps) else np.zeros(1, dtype=np.int32)
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys, items = (child.slice(first, count) for child in (maps.keys, maps.items))
    rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
    return rows, keys, items.to_numpy(zero_copy_only=False).astype(np.float64)
