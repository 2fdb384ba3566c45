"""The columns of a HAP data set's shards, defined once: as a row's type, Arrow's schema, and what a value can be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict, get_args, get_type_hints

from hafbench.types import Kind, Region

if TYPE_CHECKING:
    import pyarrow as pa


class ImageFile(TypedDict):
    """An embedded image, as `datasets` has it: the file's bytes, and a name for it."""

    bytes: bytes
    path: str


class Row(TypedDict):
    """A row of a shard; the columns are these, in this order. docs/reference/pairs.md describes them.

    `skipped` and `settings` are JSON, `split` is None until the row is written.
    """

    id: str
    winner: ImageFile
    loser: ImageFile
    mask: ImageFile
    caption: str
    region: str | None
    kind: str | None
    detail: str
    family: str
    split: str | None
    source: str
    name: str
    width: int
    height: int
    area: float
    ssim_in: float
    ssim_out: float
    lpips_in: float | None
    lpips_out: float | None
    skipped: str
    settings: str
    fingerprint: str


_KINDS = {ImageFile: "image", str: "string", int: "int32", float: "float64"}
_HINTS = get_type_hints(Row)

COLUMNS: dict[str, str] = {name: _KINDS[(get_args(hint) or (hint,))[0]] for name, hint in _HINTS.items()}
"""Each column's kind: image, string, int32 or float64."""
IMAGES = tuple(name for name, kind in COLUMNS.items() if kind == "image")
NULLABLE = frozenset(name for name, hint in _HINTS.items() if type(None) in get_args(hint))
BOUNDS: Mapping[str, tuple[float, float]] = {
    "width": (1, math.inf),
    "height": (1, math.inf),
    "area": (0, 1),
    "ssim_in": (-1, 1),
    "ssim_out": (-1, 1),
    "lpips_in": (0, math.inf),
    "lpips_out": (0, math.inf),
}
ROUNDED = 1e-6
"""By so much a float may be beyond its bounds."""
NAMES: Mapping[str, tuple[str, ...]] = {"region": get_args(Region), "kind": get_args(Kind)}
HEXADECIMAL: Mapping[str, int] = {"id": 64, "fingerprint": 32}
"""Columns of hexadecimal digits, and how many."""
OBJECTS = ("skipped", "settings")
"""Columns that are JSON objects."""


def problems_of(row: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each value of a row that cannot be; images are not decoded."""
    return filter(None, (problem_of(name, row[name]) for name in COLUMNS))


def problem_of(column: str, value: Any) -> str | None:
    """What is wrong with a value of a column; None if it can be."""
    kind = COLUMNS[column]
    if value is None and kind != "image":
        return None if column in NULLABLE else f"{column} is null."
    return {"image": _of_image, "string": _of_text}.get(kind, _of_number)(column, value)


def _of_image(column: str, value: Any) -> str | None:
    data = value.get("bytes") if isinstance(value, Mapping) else None
    return None if isinstance(data, bytes) and data else f"{column} cannot be read: it has no bytes of an image."


def _of_text(column: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"{column} is {_brief(value)}, not text."
    if column in NAMES and value not in NAMES[column]:
        return f"{_brief(value)} is not a {column}."
    if column in HEXADECIMAL and not re.fullmatch(f"[0-9a-f]{{{HEXADECIMAL[column]}}}", value):
        return f"{column} is {_brief(value)}, not {HEXADECIMAL[column]} hexadecimal digits."
    return None if column not in OBJECTS or _is_object(value) else f"{column} cannot be read as a JSON object."


def _is_object(text: str) -> bool:
    from pydantic_core import from_json

    try:
        return isinstance(from_json(text), dict)
    except ValueError:
        return False


def _of_number(column: str, value: Any) -> str | None:
    whole = COLUMNS[column] == "int32"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return f"{column} is {_brief(value)}, not a {'whole ' if whole else ''}number."
    low, high = BOUNDS[column]
    if math.isfinite(value) and low - ROUNDED <= value <= high + ROUNDED:
        return None
    return f"{column} is {_brief(value)}, not {low:g} to {high:g}."


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@cache
def arrow_schema() -> pa.Schema:
    """The columns, with the `huggingface` metadata by which `datasets` and hub viewers know the images."""
    import pyarrow as pa

    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    types = {"image": image, "string": pa.string(), "int32": pa.int32(), "float64": pa.float64()}
    features = {
        name: {"_type": "Image"} if kind == "image" else {"dtype": kind, "_type": "Value"}
        for name, kind in COLUMNS.items()
    }
    schema = pa.schema({name: types[kind] for name, kind in COLUMNS.items()})
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
