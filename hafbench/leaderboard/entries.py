"""A leaderboard entry: what a run found, in one JSON file, with the verdicts that its figures follow from.

The published schema is leaderboards/schema/entry.json; docs/reference/leaderboard.md explains the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from hafbench.cards import Chance, Count, Date, Frozen, Name, Sha256, Share, Words, ordered
from hafbench.errors import HafError, first_problem, one_line
from hafbench.provenance import sha256_of_json
from hafbench.statistics import WinTieLoss
from hafbench.suites import ID_PATTERN

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=500)]
PromptId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Word = Annotated[str, StringConstraints(pattern=r"^[esua]+$")]
Replies = Annotated[str, StringConstraints(pattern=r"^([fstu]{2}|--)+$")]
LabelWord = Annotated[str, StringConstraints(pattern=r"^[esu-]+$")]
Ratio = Annotated[float, Field(ge=0)] | Literal["inf"]

ERROR, SOUND, UNJUDGED, ABSENT = "e", "s", "u", "a"
NO_PAIR = "--"
UNSURE, NO_LABEL = "u", "-"
FORMAT = 2
"""Since 2 a scorer may be left out of the rate of all together, and a letter says that it found nothing there."""


class RateFigure(Frozen):
    """An error rate with its 95 % interval, which knows that images of a prompt are alike.

    `wilson_low` and `wilson_high` take images as independent; `lowest` and `highest` are the rates with every image
    that was not judged counted as sound, and as an error.
    """

    errors: Count
    scored: Count
    total: Count
    estimate: Chance | None
    low: Chance | None
    high: Chance | None
    wilson_low: Chance | None
    wilson_high: Chance | None
    lowest: Chance | None
    highest: Chance | None


class MeanFigure(Frozen):
    """A mean of `n` images with its 95 % interval; claimed, since the entry does not have the values behind it."""

    n: int = Field(ge=1)
    estimate: float
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return ordered(self, self.estimate, self.low, self.high)


class CorrectedFigure(Frozen):
    """A rate corrected for the scorer's mistakes by its card; `reason` says why there is none, or what limits it."""

    estimate: Chance | None
    low: Chance | None
    high: Chance | None
    reason: Words | None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return ordered(self, self.estimate, self.low, self.high)


class CardFacts(Frozen):
    """What a calibration card says of a scorer; `same_pictures` is whether it was made on this model's pictures.

    All of it is claimed: the entry does not have the labelled images.
    """

    scorer_version: Words
    date: Date
    made_on: Words
    sha256: Sha256
    bad: Count
    good: Count
    sensitivity: Share
    specificity: Share
    auroc: Share
    same_pictures: bool


class Anatomy(Frozen):
    """An anatomy scorer, or all of them together: its verdicts, and the rates that follow from them.

    `left_out` says why the scorer does not count among all of them together; None if it does. `verdicts` has a word for
    each prompt, a letter for each of the suite's seeds: e an error, s sound, u not judged, a not judged since the image
    shows nothing that the scorer judges.
    """

    version: Words | None
    settings: Mapping[str, Any]
    weights: Mapping[str, Words]
    left_out: Words | None = None
    rate: RateFigure
    by_category: Mapping[str, RateFigure]
    corrected: CorrectedFigure | None
    card: CardFacts | None
    verdicts: Mapping[PromptId, Word]


class Quality(Frozen):
    """A quality scorer and its mean."""

    version: Words | None
    settings: Mapping[str, Any]
    weights: Mapping[str, Words]
    higher_is_better: bool | None
    mean: MeanFigure


class BaselineFacts(Frozen):
    """The run that pairs were judged against; `records_sha256` is that of its own entry, if it has one."""

    name: Text
    records_sha256: Sha256


class PairFigures(Frozen):
    """What one judge says of this model's images beside a baseline's of the same prompts and seeds, in both orders.

    The figures are those of `hafbench compare`, `p_value` before Holm's correction, and follow from `replies`: a word
    for each prompt with a pair, with two letters for each letter of the prompt's verdicts. They say which image is
    sounder where the baseline's comes first, and where this model's does: f the first, s the second, t a tie, u no
    reply; -- stands for an image without a pair.
    """

    judge: Text
    protocol: Text
    protocol_sha256: Sha256
    baseline: BaselineFacts
    pairs: Count
    win: Count
    tie: Count
    lose: Count
    rsi: Ratio | None
    rsi_low: Ratio | None
    rsi_high: Ratio | None
    p_value: Chance | None
    inconsistent: Share
    first: Share
    replies: Mapping[PromptId, Replies]

    @property
    def wins(self) -> WinTieLoss:
        """The counts and the RSI as numbers."""
        rsi, low, high = (None if value is None else float(value) for value in (self.rsi, self.rsi_low, self.rsi_high))
        return WinTieLoss(self.win, self.tie, self.lose, rsi, low, high, mcnemar=None)


class LabelledFigure(Frozen):
    """A rate by `labels` clear labels, worth `effective` independent ones; `weight` is how far verdicts are trusted."""

    labels: Count
    estimate: Chance | None
    low: Chance | None
    high: Chance | None
    effective: float | None = Field(ge=0)
    weight: Chance

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return ordered(self, self.estimate, self.low, self.high)


class RaterCount(Frozen):
    """Somebody who labelled, and how many images; the name only if they wish it."""

    name: Text | None
    answers: int = Field(ge=1)


class PeopleFacts(Frozen):
    """What people say of the images: who of them labelled how many.

    `labels` has a word for each prompt beside that of the verdicts: e an error, s sound, u none was sure or they
    disagree, - nobody looked. `chances` are those with which the labelled images were drawn, up to a factor, None where
    all are alike, and `chosen` says how. `human` is the rate by the labels alone, `powered` that with the verdicts that
    rank (PPI++); both follow from the letters.
    """

    raters: tuple[RaterCount, ...] = Field(min_length=1)
    chosen: tuple[Words, ...]
    labels: Mapping[PromptId, LabelWord]
    chances: Mapping[PromptId, tuple[Chance, ...]] | None
    human: LabelledFigure
    powered: LabelledFigure


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
    date: Date
    hafbench: Text
    git: Text | None
    hardware: Words
    records_sha256: Sha256


class Entry(Frozen):
    """One file of a leaderboard. `ranked_by` is what ranks: all anatomy scorers that count together, or the only one.

    `pairs` are what judges say of its images beside those of other runs, `people` what people's labels say; they do
    not rank.
    """

    format: Literal[2]
    model: ModelFacts
    suite: SuiteFacts
    ranked_by: Name
    anatomy: Mapping[Name, Anatomy]
    quality: Mapping[Name, Quality]
    pairs: tuple[PairFigures, ...] = ()
    people: PeopleFacts | None = None
    notes: tuple[Words, ...]
    made: Made

    @property
    def table(self) -> str:
        """Entries with the same value were made with the same prompts and the same anatomy scorers."""
        judges = {
            name: [one.version, dict(one.settings), dict(one.weights), one.left_out]
            for name, one in self.anatomy.items()
        }
        return sha256_of_json([self.suite.sha256, self.ranked_by, judges])


def sha256_of_prompts(texts: Mapping[str, str]) -> str:
    """A hash of prompt ids and their texts, whatever their order and wherever they came from."""
    return sha256_of_json(sorted(texts.items()))


def check_entry(values: Any, where: str) -> Entry:
    """Plain values as an entry; raises HafError, with the field, if they are not one."""
    if isinstance(values, dict) and values.get("format") == 1:
        raise HafError(
            f"{where}: this entry has format 1, whose rate of all anatomy scorers together was another; make it again "
            "from its run: `hafbench leaderboard add`."
        )
    try:
        return Entry.model_validate(values)
    except ValidationError as error:
        raise HafError(f"{where}: this is not a leaderboard entry: {first_problem(error)}.") from error


def parse_entry(text: bytes, where: str) -> Entry:
    """JSON as an entry; raises HafError if it is not one."""
    try:
        values = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise HafError(f"{where}: the entry cannot be read ({one_line(error)}).") from error
    return check_entry(values, where)


def read_entry(path: Path) -> Entry:
    """Read an entry; raises HafError if it is not one."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise HafError(f"{path}: the entry cannot be read ({error.strerror}).") from error
    return parse_entry(text, str(path))
