"""A row of a table, of a shard's texts or of a data set, as the prompt and the seed of an image."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hafbench.errors import HafError, first_problem
from hafbench.suites import CATEGORIES, MAX_SEED, Prompt

TEXT_COLUMNS = ("prompt", "text", "caption")
ID_COLUMNS = ("prompt_id", "id")
COLUMNS = (*TEXT_COLUMNS, "prompt_id", "seed", "category", "tags", "expect")
"""What is looked for beside an embedded image. Not `id`, which is mostly that of the image."""


def of_prompts(*rows: Mapping[str, Any]) -> dict[str, Any]:
    """The cells beside an embedded image that are about its prompt, of one row or of several that add up to one.

    A category is taken where it is one of ours, tags where they are a list of texts, and expect where it is an object:
    others have columns of these names, too. A prompt_id without a text is left out.
    """
    kept = {name: row[name] for row in rows for name in COLUMNS if row.get(name) not in (None, "")}
    if kept.get("category") not in CATEGORIES:
        kept.pop("category", None)
    tags = _parsed(kept.get("tags"))
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        kept.pop("tags", None)
    if not isinstance(_parsed(kept.get("expect")), dict):
        kept.pop("expect", None)
    if not any(name in kept for name in TEXT_COLUMNS):
        kept.pop("prompt_id", None)
    return kept


def seed_of(row: Mapping[str, Any], where: str) -> int | None:
    """The seed of a row; raises HafError, with `where`, for what is none."""
    value = row.get("seed")
    if value is None:
        return None
    digits = re.fullmatch(r"(\d{1,19})(\.0)?", str(value).strip())
    if not digits or int(digits[1]) > MAX_SEED:
        raise HafError(f"{where}: the seed {value!r} is not a whole number from 0 to 2**63 - 1.")
    return int(digits[1])


def prompt_of(row: Mapping[str, Any], where: str) -> Prompt | None:
    """The row as a prompt; an id is made of the text where none is given, so that equal texts are one prompt.

    Raises HafError, with `where`, for a row that is no prompt.
    """
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
