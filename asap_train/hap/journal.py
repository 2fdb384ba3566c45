"""journal.jsonl of a data set: a line for each finished item of work, and one for each closed shard."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from asap_train.hap import Rejection
from asap_train.hap.manifest import JOURNAL, ShardName
from asap_train.types import Split
from hafbench.errors import HafError, first_problem
from hafbench.files import sync


@dataclass(frozen=True)
class ItemLine:
    """An item: the ids of its rows, and what was rejected; with rows, their shard's stem and its length after them.

    `whole` is False where more rows are to come: a later line of the item then has them, and all that was rejected.
    """

    item: str
    rows: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    shard: str | None = None
    end: int = 0
    whole: bool = True


@dataclass(frozen=True)
class ClosedLine:
    """A shard that is closed, by its path below the data set."""

    closed: ShardName
    split: Split
    rows: int
    sha256: str


Line = ItemLine | ClosedLine


def read_journal(folder: Path) -> list[Line]:
    """The whole lines; a last one that a killed process left unfinished is dropped. HafError for a damaged journal."""
    from pydantic import ValidationError

    path = folder / JOURNAL
    found: list[Line] = []
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else (), 1):
        try:
            found.append(_parser().validate_json(text))
        except ValidationError as error:
            raise HafError(
                f"{path}, line {number} is damaged ({first_problem(error)}); restore the file, or choose another --out."
            ) from error
    return found


def append_line(folder: Path, line: Line) -> None:
    """Add a line."""
    with (folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(as_text([line]))


def sync_journal(folder: Path) -> None:
    """Have all lines on the disk."""
    sync(folder / JOURNAL)


def as_text(lines: Iterable[Line]) -> str:
    """The lines as they stand in the file."""
    return "".join(json.dumps(_as_plain(line), ensure_ascii=False) + "\n" for line in lines)


def _as_plain(line: Line) -> dict[str, Any]:
    plain = asdict(line)
    if isinstance(line, ItemLine) and line.shard is None:
        del plain["shard"], plain["end"]
    if isinstance(line, ItemLine) and line.whole:
        del plain["whole"]
    return plain


@cache
def _parser() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(ItemLine | ClosedLine)
