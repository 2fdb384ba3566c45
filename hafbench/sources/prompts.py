"""Which prompt and seed each image of a source belongs to: by a suite and the images' names, or by a table."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hafbench.errors import HafError, one_line
from hafbench.files import is_utf8, read_whole
from hafbench.images import SUFFIXES
from hafbench.sources.folder import Folder, is_within
from hafbench.sources.rows import prompt_of, seed_of
from hafbench.sources.source import ImageSource, SourceImage
from hafbench.suites import CATEGORIES, Category, Prompt, read_prompts

LONGEST_NAME = 255
IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "path")


def read_images(source: ImageSource, prompts_file: Path | None = None) -> list[SourceImage]:
    """Every image of a source in a fixed order, with prompt and seed: those of `prompts_file`, or the source's own.

    `prompts_file` is a suite (.jsonl with id and text: images are matched by name, as ID.png, ID_SEED.png, ID-SEED.png
    or ID/SEED.png), or a table (.csv, .jsonl, .parquet) with a column for the image's name and any of prompt,
    prompt_id, seed, category, tags, expect. An image that it does not name is scored without a prompt.
    Raises HafError for a source without images, and for a table that is broken, names an image that is not there, or
    contradicts itself.
    """
    images = source.images(prompts=prompts_file is None)
    if prompts_file is None:
        _check_pairs(images, source.address)
        return images
    content = _read(prompts_file)
    if _is_suite(prompts_file, content):
        known = _from_suite(images, prompts_file)
    else:
        known = _from_table(images, source, prompts_file, content)
    if not known:
        raise HafError(
            f"{prompts_file} names none of the {len(images)} images in {source.address}; see docs/guides/images.md."
        )
    _check_pairs(known.values(), str(prompts_file))
    return [known.get(image.name, replace(image, prompt=None, seed=None)) for image in images]


def category_of(image: PurePosixPath) -> Category | None:
    """The category of an image that has no prompt: the first folder on its path with the name of one."""
    return next((name for part in image.parts[:-1] for name in CATEGORIES if part.lower() == name), None)


def _check_pairs(images: Iterable[SourceImage], where: str) -> None:
    """Comparisons pair images by (prompt, seed), and count prompts by their ids: both have to be unambiguous."""
    prompts: dict[str, Prompt] = {}
    pairs: dict[tuple[str, int], str] = {}
    for image in images:
        if image.prompt is None:
            continue
        prompt_id, name = image.prompt.id, image.name
        if prompts.setdefault(prompt_id, image.prompt) != image.prompt:
            raise HafError(f"{where}: {name} gives the id '{prompt_id}' another prompt than the images before.")
        if image.seed is None:
            continue
        first = pairs.setdefault((prompt_id, image.seed), name)
        if first != name:
            raise HafError(
                f"{where}: {first} and {name} are both of prompt '{prompt_id}', "
                f"seed {image.seed}; keep one, or give them different seeds."
            )


def _read(prompts_file: Path) -> bytes:
    try:
        return read_whole(prompts_file)
    except OSError as error:
        raise HafError(f"{prompts_file} cannot be read ({error.strerror or one_line(error)}).") from error


def _is_suite(prompts_file: Path, content: bytes) -> bool:
    if prompts_file.suffix != ".jsonl":
        return False
    lines = content.decode("utf-8-sig", errors="replace").split("\n")
    try:
        first = json.loads(next((line for line in lines if line.strip()), "{}"))
    except (ValueError, RecursionError):
        return True
    return not (isinstance(first, dict) and any(column in first for column in IMAGE_COLUMNS))


def _from_suite(images: Sequence[SourceImage], prompts_file: Path) -> dict[str, SourceImage]:
    prompts = {prompt.id: prompt for prompt in read_prompts(prompts_file)}
    found = {}
    for image in images:
        name, seed = _id_and_seed(PurePosixPath(image.name).with_suffix("").as_posix(), prompts)
        if name is not None:
            found[image.name] = replace(image, prompt=prompts[name], seed=seed)
    return found


def _id_and_seed(name: str, prompts: Mapping[str, Prompt]) -> tuple[str | None, int | None]:
    """The prompt's id and the seed that a path spells: ID/SEED, then ID alone, then ID_SEED."""
    path = PurePosixPath(name)
    # The folder first: a number may be the id of another prompt, too.
    number = re.fullmatch(r"(?:seed[_-]?)?(\d{1,18})", path.name)
    if number and path.parent.name in prompts:
        return path.parent.name, int(number[1])
    if path.name in prompts:
        return path.name, None
    both = re.fullmatch(r"(.+?)[_-](?:seed[_-]?)?(\d{1,18})", path.name)
    if both and both[1] in prompts:
        return both[1], int(both[2])
    return None, None


def _from_table(
    images: Sequence[SourceImage], source: ImageSource, prompts_file: Path, content: bytes
) -> dict[str, SourceImage]:
    rows = _read_rows(prompts_file, content)
    columns = {column for row in rows for column in row}
    name_column = next((column for column in IMAGE_COLUMNS if column in columns), None)
    if name_column is None:
        raise HafError(f"{prompts_file} has no column for the file's name: call one of its columns 'image'.")
    there = {image.name: image for image in images}
    found: dict[str, SourceImage] = {}
    for number, row in enumerate(rows, 1):
        where = f"{prompts_file}, row {number}"
        name = _named(source, there, row.get(name_column), where)
        if name in found:
            raise HafError(f"{where}: {row[name_column]} was named before; each image has one row.")
        found[name] = replace(there[name], prompt=prompt_of(row, where), seed=seed_of(row, where))
    return found


def _rows_of_csv(content: bytes) -> list[Any]:
    import csv

    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def _rows_of_jsonl(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.decode("utf-8-sig").split("\n") if line.strip()]


def _rows_of_parquet(content: bytes) -> list[Any]:
    import pyarrow.parquet as pq

    return list(pq.read_table(io.BytesIO(content)).to_pylist())


READERS: Mapping[str, Callable[[bytes], list[Any]]] = {
    ".csv": _rows_of_csv,
    ".jsonl": _rows_of_jsonl,
    ".parquet": _rows_of_parquet,
}


def _read_rows(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The rows, empty cells left out."""
    if path.suffix not in READERS:
        raise HafError(f"{path}: give prompts as .jsonl, .csv or .parquet.")
    try:
        rows = READERS[path.suffix](content)
    except Exception as error:  # a damaged Parquet file makes pyarrow raise errors of many kinds
        raise HafError(f"{path} cannot be read ({one_line(error)}).") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise HafError(f"{path}, row {number}: this is not a JSON object.")
        if None in row:
            raise HafError(f"{path}, row {number}: there are more cells than columns; put text with commas in quotes.")
    return [{str(key): value for key, value in row.items() if value not in (None, "")} for row in rows]


def _named(source: ImageSource, there: Mapping[str, SourceImage], name: Any, where: str) -> str:
    """The image that a row names, spelt as the source spells it."""
    if not isinstance(name, str):
        raise HafError(f"{where}: there is no file name.")
    if "\0" in name or not is_utf8(name) or max(map(len, name.split("/"))) > LONGEST_NAME:
        raise HafError(f"{where}: {name[:100]!r} cannot be the name of a file.")
    spelt = os.path.normpath(name)
    if spelt in there:
        return spelt
    if spelt.startswith(("/", "..")) or _leads_out(source, spelt):
        raise HafError(f"{where}: {name} points outside of the folder; name files relative to it.")
    if PurePosixPath(spelt).suffix.lower() not in SUFFIXES and _is_file(source, spelt):
        raise HafError(f"{where}: {name} is not an image by its suffix.")
    raise HafError(f"{where}: there is no file {name} in {source.address}.")


def _leads_out(source: ImageSource, name: str) -> bool:
    """Is a name that of a link that was left out? Only a local folder has them."""
    if not isinstance(source, Folder) or not source.local:
        return False
    return not is_within(source.local / name, source.local)


def _is_file(source: ImageSource, name: str) -> bool:
    return isinstance(source, Folder) and source.local is not None and (source.local / name).is_file()
