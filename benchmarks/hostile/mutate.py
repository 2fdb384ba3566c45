"""Damage to bytes and to JSON, drawn at random from a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Damage = Callable[[bytes, Random], bytes]


def _truncated(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(max(1, len(data)))]


def _flipped(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 32))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeroed(data: bytes, rng: Random) -> bytes:
    first = rng.randrange(len(data))
    length = rng.randrange(1, 64)
    return data[:first] + bytes(len(data[first : first + length])) + data[first + length :]


def _inserted(data: bytes, rng: Random) -> bytes:
    first = rng.randrange(len(data))
    return data[:first] + rng.randbytes(rng.randrange(1, 64)) + data[first:]


def _doubled(data: bytes, rng: Random) -> bytes:
    return data + data[rng.randrange(len(data)) :]


def _header(data: bytes, rng: Random) -> bytes:
    """Sizes and types of most formats stand in the first bytes."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(min(64, len(changed)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(changed)


DAMAGES: dict[str, Damage] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "zeroed": _zeroed,
    "inserted": _inserted,
    "doubled": _doubled,
    "header": _header,
}


def damaged(data: bytes, rng: Random) -> tuple[str, bytes]:
    """The name of a damage, and the data with it."""
    name = rng.choice(sorted(DAMAGES))
    return name, DAMAGES[name](data or b"\0", rng)


DEEP = "[" * 100_000 + "]" * 100_000
VALUES: dict[str, str] = {
    "null": "null",
    "true": "true",
    "a negative number": "-1",
    "a huge number": "1e308",
    "an integer of 400 digits": "9" * 400,
    "NaN": "NaN",
    "infinity": "Infinity",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list of null": "[null]",
    "an empty text": '""',
    "a lone surrogate": '"\\ud800"',
    "NUL": '"a\\u0000b"',
    "a long text": '"' + "x" * 100_000 + '"',
    "a path out of the folder": '"../../../../etc/passwd"',
    "100,000 brackets": DEEP,
}
"""JSON that takes the place of a value."""
MARK = "\0the place\0"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a JSON value, itself left out."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*path, key), *places(item, (*path, key))]]


def with_json(value: Any, path: tuple[Any, ...], text: str | None) -> str:
    """The JSON text of a value where that of the place is another text, or the place is gone (None)."""
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if text is None:
        del inner[path[-1]]
        return json.dumps(changed)
    inner[path[-1]] = MARK
    return json.dumps(changed).replace(json.dumps(MARK), text)


def damaged_json(value: Any, rng: Random) -> tuple[str, str]:
    """The name of a damage to one place of a JSON value, and the text with it. Outer places are as likely as inner."""
    every = places(value)
    depth = rng.choice(sorted({len(place) for place in every}))
    path = rng.choice([place for place in every if len(place) == depth])
    name = rng.choice(["gone", *VALUES])
    return f"{'.'.join(map(str, path))}: {name}", with_json(value, path, None if name == "gone" else VALUES[name])


def copied(source: Path, folder: Path) -> None:
    """A copy of a folder whose files may be replaced, though not written into: they are links."""
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)


def replaced(path: Path, data: bytes | str) -> None:
    """Another content of a file that may be a link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def at(name: str, change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A change of the file of that name in a folder."""
    return lambda folder: change(folder / name)


def content(data: bytes | str) -> Callable[[Path], Any]:
    """A change of a file to this content."""
    return lambda path: replaced(path, data)
