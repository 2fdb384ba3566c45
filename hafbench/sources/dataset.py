"""A folder that the library datasets wrote with save_to_disk: one data set, or one for each split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from hafbench.errors import HafError, Unavailable, one_line
from hafbench.sources.parquet import image_column, names_of
from hafbench.sources.places import Place
from hafbench.sources.rows import COLUMNS, of_prompts, prompt_of, seed_of
from hafbench.sources.source import SourceImage, SourceName, check_once

MARKS = ("state.json", "dataset_dict.json")
"""The file that tells such a folder: of one data set, of several splits."""


def marks_among(names: Iterable[str]) -> list[str]:
    """Those of the paths of files that tell a data set: other programs call a file state.json, too."""
    names = list(names)
    marks = [name for name in names if name.rpartition("/")[2] in MARKS]
    tables = {PurePosixPath(name).parent for name in names if marks and name.endswith((".arrow", "dataset_info.json"))}
    return [one for one in marks if one.endswith(MARKS[1]) or PurePosixPath(one).parent in tables]


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """An image in a row of a data set on this machine; rows are counted from 0."""

    folder: str
    split: str
    row: int

    def __str__(self) -> str:
        return f"{self.folder}{f', {self.split}' if self.split else ''}, row {self.row}"

    def read(self) -> bytes:
        """The bytes of the image's file; a row that names a file elsewhere raises OSError."""
        try:
            table, column = _split(self.folder, self.split)
            cell = table.select_columns([column])[self.row][column]
        except HafError as error:
            raise OSError(str(error).replace(self.folder, PurePosixPath(self.folder).name)) from error
        content = cell if isinstance(cell, bytes) or cell is None else cell["bytes"]
        if content is None:
            raise OSError("its row has no bytes: the image lies elsewhere")
        return bytes(content)


@dataclass(frozen=True)
class Dataset:
    """A folder of save_to_disk; an image is named SPLIT/PATH or SPLIT/ROW, without SPLIT where there is one alone."""

    address: str
    kind: SourceName = "dataset"

    @property
    def name(self) -> str:
        """The folder's own name."""
        return PurePosixPath(self.address).name

    def images(self, prompts: bool = True) -> list[SourceImage]:
        """The images of all splits, row by row."""
        found = [image for split in _splits(self.address) for image in self._images_of(split, prompts)]
        if not found:
            raise HafError(f"There is no image in {self.address}.")
        return found

    def place(self, image: str) -> Place:
        """The row of an image."""
        for split in _splits(self.address):
            for name, place in zip(_names(self.address, split), _rows(self.address, split), strict=True):
                if name == image:
                    return place
        raise HafError(f"{self.address} has no image {image}.")

    def _images_of(self, split: str, prompts: bool) -> Iterator[SourceImage]:
        table, _ = _split(self.address, split)
        stamp = "\n".join(f"{file}{Path(file).stat().st_mtime_ns}" for file in _files(table))
        about = table.select_columns([name for name in COLUMNS if prompts and name in table.column_names])
        said: Any = about if about.column_names else [{}] * len(table)
        names = _names(self.address, split)
        for place, name, cells in zip(_rows(self.address, split), names, said, strict=True):
            kept = of_prompts(cells)
            yield SourceImage(name, place, prompt_of(kept, str(place)), seed_of(kept, str(place)), stamp=stamp)


def _files(table: Any) -> list[str]:
    return [one["filename"] for one in table.cache_files]


def _rows(folder: str, split: str) -> Iterator[DatasetRow]:
    return (DatasetRow(folder, split, row) for row in range(len(_split(folder, split)[0])))


@lru_cache(maxsize=4)
def _names(folder: str, split: str) -> list[str]:
    table, column = _split(folder, split)
    cells = table.data.column(column)
    given = cells.combine_chunks().field("path").to_pylist() if hasattr(cells.type, "field") else [None] * len(table)
    names = [f"{split}/{name}" if split else name for name in names_of(given, len(table))]
    check_once([SourceImage(name, DatasetRow(folder, split, 0)) for name in names], folder)
    return names


@lru_cache(maxsize=4)
def _split(folder: str, split: str) -> tuple[Any, str]:
    """A split without decoding of images, and the name of their column."""
    loaded = _load(folder)
    table = (loaded[split] if split else loaded).with_format(None)
    column = image_column(table.data.schema, folder)
    from datasets import Image

    if isinstance(table.features[column], Image):
        table = table.cast_column(column, Image(decode=False))
    return table, column


def _splits(folder: str) -> list[str]:
    return sorted(_load(folder)) if (Path(folder) / MARKS[1]).exists() else [""]


@lru_cache(maxsize=2)
def _load(folder: str) -> Any:
    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise Unavailable(f"{folder} is a data set of the library datasets: `pip install datasets`.") from error
    try:
        return load_from_disk(folder)
    except Exception as error:  # a damaged folder makes it raise errors of many kinds
        raise HafError(f"{folder} cannot be read as a data set ({one_line(error)}).") from error
