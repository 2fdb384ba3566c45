"""Images made elsewhere: which prompt and seed each file of a folder belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hafbench.errors import HafError
from hafbench.images import find_images
from hafbench.suites import Prompt, read_prompts

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "path")
TEXT_COLUMNS = ("prompt", "text", "caption")
ID_COLUMNS = ("prompt_id", "id")


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
    Raises HafError for a folder without images, and for a table that is broken or names a file that is not there.
    """
    if not folder.is_dir():
        raise HafError(f"{folder} is not a folder.")
    root = folder.resolve()
    paths = [path for path in find_images(root) if path.resolve().is_relative_to(root)]
    if not paths:
        raise HafError(f"There is no image in {folder}.")
    if prompts_file is None:
        return [FolderImage(path) for path in paths]
    if not prompts_file.is_file():
        raise HafError(f"There is no file {prompts_file}.")
    known = _from_suite(paths, root, prompts_file) if _is_suite(prompts_file) else _from_table(root, prompts_file)
    if not any(path in known for path in paths):
        raise HafError(f"{prompts_file} names none of the {len(paths)} images in {folder}; see docs/generators.md.")
    return [known.get(path, FolderImage(path)) for path in paths]


def _is_suite(prompts_file: Path) -> bool:
    if prompts_file.suffix != ".jsonl":
        return False
    with prompts_file.open(encoding="utf-8", errors="replace") as file:
        try:
            first = json.loads(next((line for line in file if line.strip()), "{}"))
        except ValueError:
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


def _from_table(root: Path, prompts_file: Path) -> dict[Path, FolderImage]:
    rows = _read_rows(prompts_file)
    columns = {column for _, row in rows for column in row}
    name_column = next((column for column in IMAGE_COLUMNS if column in columns), None)
    if name_column is None:
        raise HafError(f"{prompts_file} has no column for the file's name: call one of its columns 'image'.")
    found: dict[Path, FolderImage] = {}
    for number, row in rows:
        where = f"{prompts_file}, row {number}"
        path = _inside(root, row.get(name_column), where)
        if path in found:
            raise HafError(f"{where}: {row[name_column]} was named before; each image has one row.")
        found[path] = FolderImage(path, _prompt(row, path, where), _seed(row.get("seed"), where))
    return found


def _read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows with their numbers, empty cells left out."""
    import pandas as pd

    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows = table.to_dict("records")
        elif path.suffix == ".parquet":
            rows = pd.read_parquet(path).to_dict("records")
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        else:
            raise HafError(f"{path}: give prompts as .jsonl, .csv or .parquet.")
    except (OSError, ValueError) as error:
        raise HafError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}).") from error
    if not all(isinstance(row, dict) for row in rows):
        raise HafError(f"{path}: each line must be a JSON object.")
    return [
        (number, {str(key): value for key, value in row.items() if _is_given(value)})
        for number, row in enumerate(rows, 1)
    ]


def _is_given(value: Any) -> bool:
    return not (value is None or value == "" or (isinstance(value, float) and value != value))


def _inside(root: Path, name: Any, where: str) -> Path:
    if not isinstance(name, str):
        raise HafError(f"{where}: there is no file name.")
    path = root / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(root):
        raise HafError(f"{where}: {name} leads out of the folder; name files relative to it.")
    if not path.is_file():
        raise HafError(f"{where}: there is no file {name} in {root}.")
    return root / path.resolve().relative_to(root)


def _seed(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        return int(str(value).removesuffix(".0"))
    except ValueError as error:
        raise HafError(f"{where}: the seed {value!r} is not a whole number.") from error


def _prompt(row: Mapping[str, Any], path: Path, where: str) -> Prompt | None:
    """The row as a prompt; an id is made of the text where none is given, so that equal texts are one prompt."""
    import hashlib

    from pydantic import ValidationError

    text = next((row[column] for column in TEXT_COLUMNS if column in row), None)
    if text is None:
        return None
    digest = hashlib.sha256(str(text).encode()).hexdigest()[:12]
    fields = {
        "id": next((str(row[column]) for column in ID_COLUMNS if column in row), f"prompt-{digest}"),
        "text": text,
        **{key: _parsed(row[key]) for key in ("category", "tags", "expect") if key in row},
    }
    try:
        return Prompt.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise HafError(f"{where}: {field}: {first['msg']}.") from error


def _parsed(value: Any) -> Any:
    """A cell of a CSV that holds a list or an object as JSON."""
    if isinstance(value, str) and value[:1] in "[{":
        return json.loads(value)
    return value.tolist() if hasattr(value, "tolist") else value
