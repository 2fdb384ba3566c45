"""Images made elsewhere: which prompt and seed each file of a folder belongs to."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hafbench.errors import HafError, first_problem, one_line
from hafbench.files import is_utf8, read_whole
from hafbench.images import SUFFIXES, find_images
from hafbench.suites import CATEGORIES, Category, Prompt, read_prompts

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "path")
TEXT_COLUMNS = ("prompt", "text", "caption")
ID_COLUMNS = ("prompt_id", "id")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class FolderImage:
    """A file and what is known of it; `path` is absolute and lies in the folder."""

    path: Path
    prompt: Prompt | None = None
    seed: int | None = None


def read_folder(folder: Path, prompts_file: Path | None = None) -> list[FolderImage]:
    """Every image of `folder` in a fixed order, with its prompt and seed where `prompts_file` gives them.

    `prompts_file` is a suite (.jsonl with id and text: files are matched by name, as ID.png, ID_SEED.png, ID-SEED.png
    or ID/SEED.png), or a table (.csv, .jsonl, .parquet) with a column for the file's name and any of prompt,
    prompt_id, seed, category, tags, expect. An image that it does not name is scored without a prompt.
    Raises HafError for a folder without images, and for a table that is broken, names a file that is not there, or
    contradicts itself.
    """
    if not folder.is_dir():
        raise HafError(f"{folder} is not a folder.")
    root = folder.resolve()
    if not is_utf8(str(root)):
        raise HafError(f"{folder}: the folder's path is not UTF-8; rename it.")
    found = find_images(root)
    paths = [path for path in found if _is_within(path, root)]
    if not paths:
        raise HafError(
            f"All {len(found)} images in {folder} are links that point outside of it; "
            "copy the files, or name their folder."
            if found
            else f"There is no image in {folder}."
        )
    if prompts_file is None:
        return [FolderImage(path) for path in paths]
    content = _read(prompts_file)
    if _is_suite(prompts_file, content):
        known = _from_suite(paths, root, prompts_file)
    else:
        known = _from_table(root, prompts_file, content)
    if not any(path in known for path in paths):
        raise HafError(f"{prompts_file} names none of the {len(paths)} images in {folder}; see docs/guides/images.md.")
    _check_pairs(known.values(), root, prompts_file)
    return [known.get(path, FolderImage(path)) for path in paths]


def subfolders(folder: Path) -> list[Path]:
    """The folders right below `folder`, each of which holds images, in the order of their names; hidden ones left out.

    Raises HafError where there is none, and for images that lie in none of them, which would be left out.
    """
    if not folder.is_dir():
        raise HafError(f"{folder} is not a folder.")
    found = find_images(folder)
    outside = [path for path in found if path.parent == folder]
    if outside:
        raise HafError(
            f"{folder}: {len(outside)} of {len(found)} images lie in no subfolder, such as {outside[0].name}; "
            "move them into one, or leave out --per-subfolder."
        )
    names = sorted({path.relative_to(folder).parts[0] for path in found})
    if not names:
        raise HafError(f"There is no image in the subfolders of {folder}.")
    return [folder / name for name in names]


def category_of(image: PurePosixPath) -> Category | None:
    """The category of an image that has no prompt: the first folder on its path with the name of one."""
    return next((name for part in image.parts[:-1] for name in CATEGORIES if part.lower() == name), None)


def _check_pairs(images: Iterable[FolderImage], root: Path, prompts_file: Path) -> None:
    """Comparisons pair images by (prompt, seed), and count prompts by their ids: both have to be unambiguous."""
    prompts: dict[str, Prompt] = {}
    pairs: dict[tuple[str, int], Path] = {}
    for image in images:
        if image.prompt is None:
            continue
        prompt_id, name = image.prompt.id, image.path.relative_to(root)
        if prompts.setdefault(prompt_id, image.prompt) != image.prompt:
            raise HafError(f"{prompts_file}: {name} gives the id '{prompt_id}' another prompt than the images before.")
        if image.seed is None:
            continue
        first = pairs.setdefault((prompt_id, image.seed), image.path)
        if first != image.path:
            raise HafError(
                f"{prompts_file}: {first.relative_to(root)} and {name} are both of prompt '{prompt_id}', "
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


def _from_suite(paths: Sequence[Path], root: Path, prompts_file: Path) -> dict[Path, FolderImage]:
    prompts = {prompt.id: prompt for prompt in read_prompts(prompts_file)}
    found = {}
    for path in paths:
        name, seed = _id_and_seed(path.relative_to(root).with_suffix("").as_posix(), prompts)
        if name is not None:
            found[path] = FolderImage(path, prompts[name], seed)
    return found


def _id_and_seed(name: str, prompts: Mapping[str, Prompt]) -> tuple[str | None, int | None]:
    """The prompt's id and the seed that a file's name spells; the whole name first, then name and number."""
    for candidate in (name, PurePosixPath(name).name):
        if candidate in prompts:
            return candidate, None
        match = re.fullmatch(r"(.+?)[_/-](?:seed[_-]?)?(\d{1,18})", candidate)
        if match:
            prompt_id = match[1].rsplit("/", 1)[-1]
            if prompt_id in prompts:
                return prompt_id, int(match[2])
    return None, None


def _from_table(root: Path, prompts_file: Path, content: bytes) -> dict[Path, FolderImage]:
    rows = _read_rows(prompts_file, content)
    columns = {column for row in rows for column in row}
    name_column = next((column for column in IMAGE_COLUMNS if column in columns), None)
    if name_column is None:
        raise HafError(f"{prompts_file} has no column for the file's name: call one of its columns 'image'.")
    found: dict[Path, FolderImage] = {}
    for number, row in enumerate(rows, 1):
        where = f"{prompts_file}, row {number}"
        path = _inside(root, row.get(name_column), where)
        if path in found:
            raise HafError(f"{where}: {row[name_column]} was named before; each image has one row.")
        found[path] = FolderImage(path, _prompt(row, where), _seed(row.get("seed"), where))
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


def _inside(root: Path, name: Any, where: str) -> Path:
    """The image that a row names, spelt as find_images spells it."""
    if not isinstance(name, str):
        raise HafError(f"{where}: there is no file name.")
    path = Path(os.path.normpath(root / name))
    try:
        inside = not Path(name).is_absolute() and path.is_relative_to(root) and _is_within(path, root)
        exists = path.is_file()
    except (OSError, ValueError) as error:  # too long, NUL or a lone surrogate
        raise HafError(f"{where}: {name[:100]!r} cannot be the name of a file ({one_line(error)}).") from error
    if not inside:
        raise HafError(f"{where}: {name} points outside of the folder; name files relative to it.")
    if not exists:
        raise HafError(f"{where}: there is no file {name} in {root}.")
    if path.suffix.lower() not in SUFFIXES:
        raise HafError(f"{where}: {name} is not an image by its suffix.")
    return path


def _is_within(path: Path, root: Path) -> bool:
    """Does a path stay in a folder if its links are followed? Links in a circle lead nowhere, and stay."""
    try:
        return path.resolve().is_relative_to(root)
    except RuntimeError:
        return True


def _seed(value: Any, where: str) -> int | None:
    if value is None:
        return None
    digits = re.fullmatch(r"(\d{1,19})(\.0)?", str(value).strip())
    if not digits or int(digits[1]) > MAX_SEED:
        raise HafError(f"{where}: the seed {value!r} is not a whole number from 0 to 2**63 - 1.")
    return int(digits[1])


def _prompt(row: Mapping[str, Any], where: str) -> Prompt | None:
    """The row as a prompt; an id is made of the text where none is given, so that equal texts are one prompt."""
    import hashlib

    from pydantic import ValidationError

    text = next((row[column] for column in TEXT_COLUMNS if column in row), None)
    given = next((str(row[column]) for column in ID_COLUMNS if column in row), None)
    if text is None:
        if given is not None:
            raise HafError(f"{where}: there is an id but no text; add a column 'prompt'.")
        return None
    fields = {
        "id": given or f"prompt-{hashlib.sha256(str(text).encode(errors='replace')).hexdigest()[:12]}",
        "text": text,
        **{key: _parsed(row[key]) for key in ("category", "tags", "expect") if key in row},
    }
    try:
        return Prompt.model_validate(fields)
    except ValidationError as error:
        raise HafError(f"{where}: {first_problem(error)}.") from error


def _parsed(value: Any) -> Any:
    """A cell of a CSV that holds a list or an object as JSON."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
