"""A leaderboard entry: what a run found, in one JSON file, with the verdicts that its figures follow from.

The published schema is leaderboards/schema/entry.json; docs/reference/leaderboard.md explains the fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from hafbench.cards import Frozen, Share
from hafbench.errors import HafError, first_problem
from hafbench.files import disk_errors, slug, write_whole
from hafbench.suites import ID_PATTERN

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=500)]
PromptId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Word = Annotated[str, StringConstraints(pattern=r"^[esu]+$")]

ERROR, SOUND, UNJUDGED = "e", "s", "u"


class RateFigure(Frozen):
    """An error rate with its 95 % interval, which knows that images of a prompt are alike.

    `wilson_low` and `wilson_high` take images as independent; `lowest` and `highest` are the rates with every image
    that was not judged counted as sound, and as an error.
    """

    errors: int = Field(ge=0)
    scored: int = Field(ge=0)
    total: int = Field(ge=0)
    estimate: float | None
    low: float | None
    high: float | None
    wilson_low: float | None
    wilson_high: float | None
    lowest: float | None
    highest: float | None


class MeanFigure(Frozen):
    """A mean of `n` images with its 95 % interval."""

    n: int = Field(ge=0)
    estimate: float | None
    low: float | None
    high: float | None


class CorrectedFigure(Frozen):
    """A rate corrected for the scorer's mistakes by its card; `reason` says why there is none, or what limits it."""

    estimate: float | None
    low: float | None
    high: float | None
    reason: str | None


class CardFacts(Frozen):
    """What a calibration card says of a scorer; `same_pictures` is whether it was made on this model's pictures."""

    scorer_version: str
    date: str
    made_on: str
    sha256: Sha256
    bad: int
    good: int
    sensitivity: Share
    specificity: Share
    auroc: Share
    same_pictures: bool


class Anatomy(Frozen):
    """An anatomy scorer, or all of them together: its verdicts, and the rates that follow from them.

    `verdicts` has a word for each prompt, a letter for each of the suite's seeds: e an error, s sound, u not judged.
    """

    version: str | None
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    rate: RateFigure
    by_category: Mapping[str, RateFigure]
    corrected: CorrectedFigure | None
    card: CardFacts | None
    verdicts: Mapping[PromptId, Word]


class Quality(Frozen):
    """A quality scorer and its mean."""

    version: str | None
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    higher_is_better: bool | None
    mean: MeanFigure


class ModelFacts(Frozen):
    """The model and how it was sampled; `settings` is empty for images made elsewhere."""

    name: Text
    link: Url | None
    licence: Text | None
    settings: Mapping[str, Any]


class SuiteFacts(Frozen):
    """The prompts that were judged: `sha256` is of their ids and texts (`sha256_of_prompts`).

    `seeds` are those that every prompt was drawn with, in the order of the words; None where images have no seed.
    """

    name: Text
    sha256: Sha256
    prompts: int = Field(ge=1)
    images: int = Field(ge=1)
    seeds: tuple[int, ...] | None
    categories: Mapping[str, tuple[PromptId, ...]]


class Made(Frozen):
    """Who ran it, when, and with what. `records_sha256` is of the run's records.parquet."""

    by: Text
    date: str
    hafbench: str
    git: str | None
    hardware: str
    records_sha256: Sha256


class Entry(Frozen):
    """One file of a leaderboard. `ranked_by` names the anatomy measure that ranks: the first one."""

    format: int = Field(ge=1, le=1)
    model: ModelFacts
    suite: SuiteFacts
    ranked_by: str
    anatomy: Mapping[str, Anatomy]
    quality: Mapping[str, Quality]
    notes: tuple[str, ...]
    made: Made

    @property
    def table(self) -> str:
        """Entries with the same value were made with the same prompts and the same anatomy scorers."""
        judges = {name: [one.version, dict(one.settings), dict(one.weights)] for name, one in self.anatomy.items()}
        return _digest([self.suite.sha256, self.ranked_by, judges])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of_prompts(texts: Mapping[str, str]) -> str:
    """A hash of prompt ids and their texts, whatever their order and wherever they came from."""
    return _digest(sorted(texts.items()))


def write_entry(entry: Entry, folder: Path) -> Path:
    """Write the entry into `folder`, whole or not at all; raises HafError if the same run has one there."""
    digest = entry.made.records_sha256
    path = folder / f"{slug(f'{entry.model.name}_{entry.suite.name}')}_{digest[:8]}.json"
    with disk_errors(folder):
        if path.exists():
            raise HafError(f"{path} is already the entry of this run; delete it to make a new one.")
        write_whole(path, entry.model_dump_json(indent=1) + "\n")
    return path


def check_entry(values: Any, where: str) -> Entry:
    """Plain values as an entry; raises HafError, with the field, if they are not one."""
    try:
        return Entry.model_validate(values)
    except ValidationError as error:
        raise HafError(f"{where}: this is not a leaderboard entry: {first_problem(error)}.") from error


def read_entry(path: Path) -> Entry:
    """Read an entry; raises HafError if it is not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HafError(f"{path}: the entry cannot be read ({error}).") from error
    return check_entry(values, str(path))
