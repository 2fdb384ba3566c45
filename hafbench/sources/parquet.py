"""Parquet files with the images inside, as the hub's data sets have them: a column of {bytes, path}, or of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError, RunStopped
from hafbench.files import is_utf8
from hafbench.images import SUFFIXES
from hafbench.sources.addresses import Found, is_remote, open_at, reading
from hafbench.sources.places import Place
from hafbench.sources.rows import COLUMNS, of_prompts, prompt_of, seed_of
from hafbench.sources.source import SourceImage, SourceName, check_once, stem_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

AT_ONCE, KEPT = 16, 4
"""Rows that are decoded together, and how many such groups are kept: images are read in order, a few at a time."""
BUFFER = 1 << 20
"""Bytes of a column that are read at once: whole columns of a group of rows may be larger than the memory."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An image in a row of a Parquet file, as it was with this stamp; rows are counted from 0."""

    address: str
    column: str
    row: int
    stamp: str

    def __str__(self) -> str:
        return f"{self.address}, row {self.row}"

    def read(self) -> bytes:
        """The bytes of the cell; an empty one raises OSError."""
        try:
            content = _opened(self.address, self.column, self.stamp).cell(self.row)
        except HafError as error:
            if is_remote(self.address):
                raise RunStopped(f"{error} Run the same command again to resume.") from error
            # Records are shared, and paths name people.
            raise OSError(str(error).replace(self.address, PurePosixPath(self.address).name)) from error
        if content is None:
            raise OSError("its row has no bytes: the image lies elsewhere")
        return content


class _Rows:
    """The cells of one column, decoded a few rows at a time; it goes on from where the last one was."""

    def __init__(self, address: str, column: str) -> None:
        self._address, self._column = address, column
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._file, self._groups = _open(address)
        self._batches: Iterator[tuple[int, Any]] = iter(())
        self._next = -1

    def cell(self, row: int) -> bytes | None:
        with self._lock, reading(self._address):
            start = next((first for first, cells in self._kept.items() if first <= row < first + len(cells)), None)
            if start is None:
                start = self._seek(row)
            value = self._kept[start][row - start].as_py()
        return value if value is None or isinstance(value, bytes) else value["bytes"]

    def _seek(self, row: int) -> int:
        group = max(place for place, first in enumerate(self._groups) if first <= row)
        if not self._groups[group] <= self._next <= row:
            self._batches = self._decode(group)
        for first, cells in self._batches:
            self._kept[first] = cells
            self._next = first + len(cells)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            if row < self._next:
                return first
        raise HafError(f"{self._address} has no row {row}.")

    def _decode(self, group: int) -> Iterator[tuple[int, Any]]:
        first = self._groups[group]
        later = range(group, self._file.num_row_groups)
        kind = self._file.schema_arrow.field(self._column).type
        columns = [self._column if not hasattr(kind, "num_fields") or not kind.num_fields else f"{self._column}.bytes"]
        for batch in self._file.iter_batches(AT_ONCE, row_groups=list(later), columns=columns):
            yield first, batch.column(0)
            first += len(batch)


@lru_cache(maxsize=2)
def _opened(address: str, column: str, stamp: str) -> _Rows:
    return _Rows(address, column)


def _open(address: str) -> tuple[pq.ParquetFile, list[int]]:
    """The file, and the first row of each group of rows."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(open_at(address), buffer_size=BUFFER, pre_buffer=False)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return file, [sum(sizes[:group]) for group in range(len(sizes))]


@dataclass(frozen=True)
class Parquet:
    """Parquet files below `root`; an image is named FILE/PATH by its path in the table, or FILE/ROW."""

    address: str
    name: str
    root: str
    files: tuple[Found, ...]
    kind: SourceName = "parquet"

    @cached_property
    def _by_stem(self) -> dict[str, Found]:
        return {stem_of(one.address, self.root): one for one in self.files}

    @cached_property
    def _listed(self) -> dict[str, list[SourceImage]]:
        return {}

    def images(self, prompts: bool = True) -> list[SourceImage]:
        """The images of all files, row by row."""
        found = [image for stem in self._by_stem for image in self._images_of(stem, prompts)]
        if not found:
            raise HafError(f"There is no image in {self.address}.")
        return found

    def place(self, image: str) -> Place:
        """The cell of an image."""
        for stem in self._by_stem:
            if image.startswith(f"{stem}/"):
                if stem not in self._listed:
                    self._listed[stem] = self._images_of(stem, prompts=False)
                for one in self._listed[stem]:
                    if one.name == image:
                        return one.place
        raise HafError(f"{self.address} has no image {image}.")

    def _images_of(self, stem: str, prompts: bool) -> list[SourceImage]:
        found = self._by_stem[stem]
        with reading(found.address):
            images = list(_images(stem, found, prompts))
        check_once(images, found.address)
        return images


def _images(stem: str, found: Found, prompts: bool) -> Iterator[SourceImage]:
    import pyarrow.parquet as pq

    with open_at(found.address) as opened:
        file = pq.ParquetFile(opened)
        column = image_column(file.schema_arrow, found.address)
        about = [name for name in COLUMNS if prompts and name in file.schema_arrow.names]
        kind = file.schema_arrow.field(column).type
        paths = [f"{column}.path"] if _has(kind, "path") else []
        rows = file.read(columns=[*about, *paths])
        count = file.metadata.num_rows
    given = [cell and cell["path"] for cell in rows[column].to_pylist()] if paths else [None] * count
    names = names_of(given, count)
    said = rows.select(about).to_pylist() if about else [{}] * count
    for row, (name, cells) in enumerate(zip(names, said, strict=True)):
        where, kept = f"{found.address}, row {row}", of_prompts(cells)
        place = Cell(found.address, column, row, found.stamp)
        # The size of the whole file stands for that of its cells, which are not read before they are scored.
        yield SourceImage(
            f"{stem}/{name}", place, prompt_of(kept, where), seed_of(kept, where), found.size, found.stamp
        )


def names_of(paths: list[str | None], count: int) -> list[str]:
    """The paths that a table gives its images, where each has a plain one of its own; otherwise the rows' numbers."""
    whole = [path for path in paths if path and _is_plain(path)]
    if count and len(set(whole)) == count:
        return whole
    return [f"{row:08d}" for row in range(count)]


def _is_plain(path: str) -> bool:
    parts = path.split("/")
    return (
        is_utf8(path)
        and "\0" not in path
        and not any(part in ("", ".", "..") or part.startswith(".") for part in parts)
        and any(path.lower().endswith(suffix) for suffix in SUFFIXES)
    )


def _has(kind: pa.DataType, field: str) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind) and any(kind.field(place).name == field for place in range(kind.num_fields))


def image_column(schema: pa.Schema, where: str) -> str:
    """The column with the images: structs with `bytes`, or bytes; one called image, where there are several.

    Raises HafError where there is none, or it is not clear which.
    """
    import pyarrow as pa

    found = []
    for field in schema:
        bare = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        if bare or _has(field.type, "bytes"):
            found.append(field.name)
    if "image" in found:
        return "image"
    if len(found) != 1:
        what = f"several columns may be the images ({', '.join(found)})" if found else "there is no column of images"
        raise HafError(f"{where}: {what}; call one 'image', with the bytes of a file in each row.")
    return str(found[0])
