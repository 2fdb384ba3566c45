"""Read labels that were given elsewhere: a table (CSV, Parquet), COCO or Label Studio JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

from pydantic import TypeAdapter, ValidationError

from hafbench.errors import HafError, first_problem, one_line
from hafbench.files import read_whole
from hafbench.labelling.answers import MOST_OF_A_NAME, ImageAnswer, Mark, Turn
from hafbench.types import Kind, Region

ANSWERS: Mapping[str, ImageAnswer] = {
    "good": "good",
    "bad": "error",
    "error": "error",
    "unclear": "unsure",
    "unsure": "unsure",
}
_MARKS = TypeAdapter(tuple[Mark, ...])


@dataclass(frozen=True)
class Read:
    """A label of a file.

    `choice` is how its image was drawn, `rater` who gave it and `turn` when, if the file says so (`labels export`).
    """

    image: str
    sha256: str | None
    answer: ImageAnswer
    marks: tuple[Mark, ...]
    choice: str | None = None
    rater: str | None = None
    turn: Turn = "first"


def read_file(path: Path) -> list[Read]:
    """The labels of a file by its ending; raises HafError, with the line or image, for what is none."""
    readers = {".csv": _table, ".parquet": _table, ".json": _json}
    reader = readers.get(path.suffix)
    if reader is None:
        raise HafError(f"{path}: labels are read from .csv, .parquet and .json (COCO, Label Studio).")
    try:
        return list(reader(path))
    except ValidationError as error:
        raise HafError(f"{path}: this is not a label ({first_problem(error)}).") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise HafError(f"{path}: the labels cannot be read ({one_line(error)}).") from error


def _answer(word: object, where: str) -> ImageAnswer:
    found = ANSWERS.get(str(word).strip().lower())
    if found is None:
        raise HafError(f"{where}: {word!r:.60} is not a label; use good, bad or unclear.")
    return found


def _table(path: Path) -> Iterator[Read]:
    import pandas as pd

    frame = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
    if not {"image", "label"} <= set(frame.columns):
        raise HafError(f"{path}: a table of labels has the columns image and label.")
    for number, row in enumerate(frame.astype(object).where(frame.notna(), None).to_dict("records"), 2):
        where = f"{path}, line {number}"
        answer = _answer(row["label"], where)
        marks = _MARKS.validate_json(row["marks"]) if row.get("marks") else ()
        if not marks and answer == "error" and row.get("region"):
            marks = (Mark.model_validate({"region": row["region"], "kind": row.get("kind")}),)
        yield Read(str(row["image"]), *_known(row, answer, marks), *_given_by(row, where))


def _given_by(row: Mapping[Any, Any], where: str) -> tuple[str | None, Turn]:
    """The rater, None where the row names none, and the turn."""
    rater, turn = (str(row[key]).strip() if row.get(key) is not None else "" for key in ("rater", "turn"))
    if len(rater) > MOST_OF_A_NAME:
        raise HafError(f"{where}: the rater's name has more than {MOST_OF_A_NAME} characters.")
    if turn and turn not in get_args(Turn):
        raise HafError(f"{where}: {turn!r:.60} is not a turn; use {', '.join(get_args(Turn))}, or leave it out.")
    return rater or None, cast("Turn", turn or "first")


def _json(path: Path) -> Iterator[Read]:
    content = json.loads(read_whole(path))
    yield from _coco(content, path) if isinstance(content, dict) else _label_studio(content, path)


def _coco(content: Mapping[str, Any], path: Path) -> Iterator[Read]:
    names = {one["id"]: str(one["name"]) for one in content["categories"]}
    boxes: dict[Any, list[Mark]] = {}
    for one in content["annotations"]:
        x, y, width, height = (float(value) for value in one["bbox"])
        mark = _mark(names[one["category_id"]], (x, y, x + width, y + height))
        boxes.setdefault(one["image_id"], []).append(mark)
    for image in content["images"]:
        marks = tuple(boxes.get(image["id"], ()))
        word = image.get("label", "bad" if marks else "good")
        answer = _answer(word, f"{path}, {image['file_name']}")
        yield Read(str(image["file_name"]), *_known(image, answer, marks))


def _label_studio(content: list[Any], path: Path) -> Iterator[Read]:
    for number, task in enumerate(content, 1):
        data = task["data"]
        given = [one for one in task["annotations"] if not one.get("was_cancelled")]  # skipped by its annotator
        if not given:
            continue
        if len(given) > 1:
            raise HafError(f"{path}, task {number}: it has {len(given)} annotations; export those of one annotator.")
        word, marks = None, []
        for result in given[0]["result"]:
            value = result["value"]
            if result["type"] == "choices":
                word = value["choices"][0]
            elif result["type"] == "rectanglelabels":
                width, height = result["original_width"], result["original_height"]
                x, y = value["x"] * width / 100, value["y"] * height / 100
                box = (x, y, x + value["width"] * width / 100, y + value["height"] * height / 100)
                marks.append(_mark(value["rectanglelabels"][0], box))
        answer = _answer(word if word is not None else "bad" if marks else "good", f"{path}, task {number}")
        name = PurePosixPath(str(data["image"])).as_posix()
        yield Read(name, *_known(data, answer, marks))


def _known(
    fields: Mapping[Any, Any], answer: ImageAnswer, marks: Sequence[Mark]
) -> tuple[str | None, ImageAnswer, tuple[Mark, ...], str | None]:
    """What a label says but for the image's name; only an error has marks."""
    sha256, choice = (str(fields[key]) if fields.get(key) else None for key in ("sha256", "choice"))
    return sha256, answer, tuple(marks) if answer == "error" else (), choice


def _mark(name: str, box: tuple[float, float, float, float]) -> Mark:
    """A box by its class, such as "hands extra"; a name that is none of the taxonomy says that there is an error."""
    words = name.lower().replace("_", " ").split()
    region = next((word for word in words if word in get_args(Region)), None)
    kind = next((word for word in words if word in get_args(Kind)), None)
    return Mark(region=cast("Region | None", region), kind=cast("Kind | None", kind), box=box)
