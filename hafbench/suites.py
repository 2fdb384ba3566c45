"""Prompts and suites: read and validate the JSON Lines files in prompts/."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from hafbench.errors import HafError, first_problem, nearest
from hafbench.files import is_utf8, read_whole

Category = Literal[
    "basic_anatomy",
    "semantic_gestures",
    "self_interaction",
    "object_interaction",
    "full_body",
    "uncategorized",
]
CATEGORIES: tuple[Category, ...] = tuple(c for c in get_args(Category) if c != "uncategorized")

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MAX_SEED = 2**63 - 1
"""What records hold."""


def _spelt(text: str) -> str:
    """Programs in C take NUL for the end of a text, and UTF-8 has no lone surrogates."""
    if "\0" in text or not is_utf8(text):
        raise ValueError("there is a NUL character or half a character in the text")
    return text


SPELT = AfterValidator(_spelt)


class Expect(BaseModel):
    """What the prompt makes knowable about a correct image; a field left out is not knowable.

    `digits` are those that a gesture holds up or spreads, `arms` those in the picture (docs/reference/suites.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: Annotated[int, Field(ge=0, le=50)] | None = None
    hands: Annotated[int, Field(ge=0, le=100)] | None = None
    digits: Annotated[int, Field(ge=0, le=100)] | None = None
    arms: Annotated[int, Field(ge=0, le=100)] | None = None


class Prompt(BaseModel):
    """One line of a suite. `id` names files, so it is held to letters, digits, dot, dash and underscore."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=ID_PATTERN)]
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), SPELT]
    category: Category = "uncategorized"
    tags: tuple[Annotated[str, SPELT], ...] = ()
    expect: Expect = Expect()


@dataclass(frozen=True)
class Suite:
    """A named list of prompts with the SHA-256 of the file it was read from."""

    name: str
    prompts: tuple[Prompt, ...]
    sha256: str


def suites_folder() -> Path:
    """Where the suites that come with the package lie."""
    here = Path(__file__).parent
    packaged = here / "prompts"
    return packaged if packaged.is_dir() else here.parent / "prompts"


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in suites_folder().glob("*.jsonl"))


def load_suite(name: str) -> Suite:
    """Read a packaged suite by its name, or a suite file by its path.

    Raises HafError as `read_prompts` does, and for two prompts of one text, whose pictures of a seed would be the same.
    """
    path = Path(name)
    if path.suffix != ".jsonl":
        path = suites_folder() / f"{name}.jsonl"
        if name not in suite_names():
            raise HafError(f"There is no suite '{name}': {nearest(name, suite_names())}")
    content = _read(path)
    prompts = _parse_prompts(content, path)
    ids: dict[str, str] = {}
    for prompt in prompts:
        first = ids.setdefault(prompt.text, prompt.id)
        if first != prompt.id:
            raise HafError(
                f"{path}: the prompts '{first}' and '{prompt.id}' have the same text, and would have the same images, "
                "counted twice; leave one out, and draw more seeds instead."
            )
    return Suite(path.stem, prompts, hashlib.sha256(content).hexdigest())


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read a JSON Lines file of prompts; raises HafError with file, line number and reason for a bad line."""
    return _parse_prompts(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        return read_whole(path)
    except OSError as error:
        raise HafError(f"{path}: the suite cannot be read ({error.strerror or error}).") from error


def _parse_prompts(content: bytes, path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file's bytes; the rest is as in `read_prompts`."""
    try:
        # Some editors put a byte order mark first (-sig); a text may hold U+2028, where splitlines would cut.
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise HafError(f"{path}: the suite cannot be read ({error}).") from error
    prompts = tuple(_parse(line, f"{path}, line {number}") for number, line in _numbered(lines))
    if not prompts:
        raise HafError(f"{path}: there is no prompt in this file; write one JSON object a line.")
    seen: dict[str, int] = {}
    for (number, _), prompt in zip(_numbered(lines), prompts, strict=True):
        key = prompt.id.lower()  # ids name folders, and not every file system tells A from a
        if key in seen:
            raise HafError(f"{path}, line {number}: the id '{prompt.id}' was used on line {seen[key]}; ids are unique.")
        seen[key] = number
    return prompts


def _numbered(lines: list[str]) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _parse(line: str, where: str) -> Prompt:
    try:
        return Prompt.model_validate_json(line)
    except ValidationError as error:
        raise HafError(f"{where}: {first_problem(error)}.") from error
