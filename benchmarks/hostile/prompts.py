"""Hostile prompt files: what maps images to prompts, damaged and forged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

from benchmarks.hostile.cases import Case
from benchmarks.hostile.images import WORDS, noise
from benchmarks.hostile.mutate import DEEP, damaged, damaged_json

ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "id": "p1", "text": "an open hand", "seed": 3, "category": "basic_anatomy", "tags": ["hand"]},
    {"image": "b.png", "id": "p2", "text": "two people", "seed": 4, "expect": {"people": 2}},
]
CSV = 'image,id,text,seed\na.png,p1,"an open hand",3\nb.png,p2,two people,4\n'
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def _case(name: str, file: str, content: bytes | str, must: Literal["refuse", "accept", "either"] = "either") -> Case:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return _made(name, file, lambda path: path.write_bytes(data), must)


def _made(name: str, file: str, write: Callable[[Path], Any], must: Any = "either") -> Case:
    def make(folder: Path) -> None:
        (folder / "images").mkdir()
        for number, image in enumerate(("a.png", "b.png")):
            noise(number).save(folder / "images" / image)
        write(folder / file)

    return Case("prompt files", name, "hafbench", (*WORDS, "--prompts", file), make, must)


def special(rng: Random) -> Iterator[Case]:
    """Each once."""
    yield _case("sound JSON lines", "p.jsonl", LINES, "accept")
    yield _case("sound CSV", "p.csv", CSV, "accept")
    yield _case("JSON lines with a byte-order mark", "p.jsonl", "\ufeff" + LINES, "accept")
    yield _case("CSV with the line ends of Windows", "p.csv", CSV.replace("\n", "\r\n"), "accept")
    for suffix, text in (("jsonl", LINES), ("csv", CSV)):
        yield _case(f"an empty .{suffix}", f"p.{suffix}", "", "refuse")
        yield _case(f"UTF-16 .{suffix}", f"p.{suffix}", text.encode("utf-16"), "refuse")
        yield _case(f"Latin-1 .{suffix}", f"p.{suffix}", text.replace("open", "öpen").encode("latin-1"), "refuse")
        yield _case(f"NUL in .{suffix}", f"p.{suffix}", text.replace("open", "op\0en"))
        yield _case(f"NUL only in .{suffix}", f"p.{suffix}", bytes(5000))
        yield _case(f"one row twice in .{suffix}", f"p.{suffix}", text + text)
        yield _made(f"a FIFO named .{suffix}", f"p.{suffix}", os.mkfifo, "refuse")
        yield _made(f"a folder named .{suffix}", f"p.{suffix}", Path.mkdir, "refuse")
        yield _case(f"an unknown suffix for .{suffix}", "p.xyz", text)
    yield _case("100,000 brackets", "p.jsonl", DEEP, "refuse")
    yield _case("a lone surrogate in a text", "p.jsonl", LINES.replace("open", "\\ud800"))
    yield _case("NUL written out in an image's name", "p.jsonl", LINES.replace("a.png", "a\\u0000.png"))
    yield _case("an image outside the folder", "p.jsonl", LINES.replace("a.png", "../../etc/passwd"))
    yield _case("a quote that never ends", "p.csv", CSV.replace('hand"', "hand"))
    yield _case("a cell of a megabyte", "p.csv", CSV.replace("two people", "x" * 1_000_000))
    yield _case("a seed of 400 digits", "p.jsonl", LINES.replace('"seed": 3', '"seed": ' + "9" * 400), "refuse")
    yield _case("a name of NUL on the command line", "p\udc80.jsonl", LINES)


def at_random(rng: Random) -> Case:
    """A damaged file, or one with a damaged value."""
    suffix, text = rng.choice((("jsonl", LINES), ("csv", CSV)))
    if suffix == "jsonl" and rng.random() < 0.6:
        name, row = damaged_json(ROWS[0], rng)
        return _case(f"{name} in .jsonl", "p.jsonl", row + "\n" + json.dumps(ROWS[1]) + "\n")
    name, data = damaged(text.encode(), rng)
    return _case(f"{name} .{suffix}", f"p.{suffix}", data)
