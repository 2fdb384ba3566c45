"""The columns of a HAP data set's shards, defined once: as the type of a row, and from it as Arrow's schema."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, TypedDict, get_args, get_type_hints

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

COLUMNS: dict[str, str] = {name: _KINDS[(get_args(hint) or (hint,))[0]] for name, hint in get_type_hints(Row).items()}
"""Each column's kind: image, string, int32 or float64."""
IMAGES = tuple(name for name, kind in COLUMNS.items() if kind == "image")


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
