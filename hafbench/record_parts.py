"""The records of a run that grows: a journal of the latest, and Parquet parts of all before, listed in parts.json.

What is in a part takes no time or memory when a run is resumed but for the names of its images. A part is written, then
listed, and then the journal is emptied: rows of a part that the journal still has are dropped when it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hafbench import record_tables, records
from hafbench.errors import HafError, first_problem
from hafbench.files import write_whole
from hafbench.records import Record
from hafbench.types import Role

if TYPE_CHECKING:
    import pyarrow as pa

JOURNAL, PARTS, FOLDER, WHOLE = "records.jsonl", "parts.json", "parts", "records.parquet"
PART_ROWS = 20_000
"""Rows of the journal that become a part: a few seconds of reading, and some ten megabytes of memory."""


class Part(BaseModel):
    """A Parquet file below the run's folder: its path, and how many rows and images it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    rows: int
    images: int


_PARTS = TypeAdapter(tuple[Part, ...])


class GrowingRecords:
    """The records of a run folder, of which only the journal's are in memory. `roles` are those of the run's scorers.

    `known` are the images whose records were all there when it was opened.
    """

    def __init__(self, folder: Path, roles: Mapping[str, Role]) -> None:
        self.folder, self._roles = folder, roles
        self.parts = read_parts(folder / PARTS)
        self.journal: list[Record] = []
        self.known: set[str] = set()
        for table in self.tables(("image",)):
            self.known.update(table["image"].unique().to_pylist())
        self._read_journal()

    def tables(self, columns: Sequence[str] = records.COLUMNS) -> Iterator[pa.Table]:
        """Of each part in turn these columns, checked; then the journal's rows."""
        for part in self.parts:
            table = record_tables.read_arrow(self.folder / part.file, columns)
            if len(table) != part.rows:
                raise HafError(f"{self.folder / part.file} has {len(table)} rows, and {PARTS} counts {part.rows}.")
            yield table
        if self.journal:
            yield records.as_table(self.journal).select(list(columns))

    def append(self, added: Sequence[Record]) -> None:
        """Add all records of one image in one write, and have them on disk before returning."""
        text = "".join(map(records.to_line, added))
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.journal += added
        if len(self.journal) >= PART_ROWS:
            self._close_part()

    def replace(self, whole: Path, images: int, rows: int) -> None:
        """Take a file of all records in the place of the parts, if there are any, and of the journal."""
        if not self.parts:
            return
        old = [part.file for part in self.parts]
        self._list((Part(file=whole.name, rows=rows, images=images),))
        for name in {*old} - {whole.name}:
            (self.folder / name).unlink(missing_ok=True)

    def _close_part(self) -> None:
        import pyarrow.parquet as pq

        taken = {int(Path(part.file).stem) for part in self.parts if part.file != WHOLE}
        name = f"{FOLDER}/{max(taken, default=-1) + 1:06d}.parquet"
        table = records.as_table(self.journal)
        write_whole(
            self.folder / name, lambda path: pq.write_table(table, path, write_page_checksum=True), durable=True
        )
        images = len({record.image for record in self.journal})
        self._list((*self.parts, Part(file=name, rows=len(self.journal), images=images)))

    def _list(self, parts: tuple[Part, ...]) -> None:
        text = json.dumps([part.model_dump() for part in parts], indent=1) + "\n"
        write_whole(self.folder / PARTS, text, durable=True)
        write_whole(self.folder / JOURNAL, "", durable=True)
        self.parts, self.journal = parts, []

    def _read_journal(self) -> None:
        """The completely recorded images of the journal; what else it holds is cut off, whole or not at all."""
        path = self.folder / JOURNAL
        if not path.exists():
            return
        found = [record for record in records.read_lines(path, self._roles) if record.image not in self.known]
        count: dict[str, int] = {}
        for record in found:
            count[record.image] = count.get(record.image, 0) + 1
        whole = [record for record in found if count[record.image] == len(self._roles)]
        text = "".join(map(records.to_line, whole))
        if text.encode() != path.read_bytes():
            write_whole(path, text)
        self.journal = whole
        self.known.update(record.image for record in whole)


def read_parts(path: Path) -> tuple[Part, ...]:
    """What parts.json lists; nothing where there is none. Raises HafError for what is no such list."""
    try:
        parts = _PARTS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise HafError(f"{path} cannot be read ({reason}); copy it again, or choose another --out.") from error
    for part in parts:
        if part.file != WHOLE and (Path(part.file).parent != Path(FOLDER) or not Path(part.file).stem.isdecimal()):
            raise HafError(f"{path}: {part.file!r:.100} is not a part of this run.")
    return parts
