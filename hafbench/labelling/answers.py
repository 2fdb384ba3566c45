"""What a person says of an image or a pair, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from hafbench.types import Box, Kind, Region

ImageAnswer = Literal["good", "error", "unsure"]
PairAnswer = Literal["left", "right", "tie"]
Turn = Literal["first", "again", "settled"]
"""first: of this rater. again: the same image, shown to the same rater later. settled: after raters disagreed."""

IMAGE_ANSWERS = ("good", "error", "unsure")
PAIR_ANSWERS = ("left", "right", "tie")
SIDES = ("baseline", "candidate", "tie")
"""What is kept of a pair: which of the two images is sounder."""
UNDO = "undo"
MOST_MARKS = 20

Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}(-[0-9a-f]{64})?$")]
"""An image by the SHA-256 of its file; a pair by those of the baseline's and the candidate's image."""
EventId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{8,64}$")]
"""Made by the page for each answer: what is sent twice is kept once."""
MOST_OF_A_NAME = 60
Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_OF_A_NAME)]
Tab = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class Mark(BaseModel):
    """One error: where and what, as far as the rater said it; `box` in pixels of the image (x1, y1, x2, y2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    region: Region | None = None
    kind: Kind | None = None
    box: Box | None = None

    @model_validator(mode="after")
    def _has_an_area(self) -> Self:
        if self.box and not (0 <= self.box[0] < self.box[2] <= 100_000 and 0 <= self.box[1] < self.box[3] <= 100_000):
            raise ValueError("a box is x1, y1, x2, y2 in pixels, from 0 on, with an area")
        return self


class Given(BaseModel):
    """An answer as a page sends it. Only an error has marks; `seconds` is how long the image was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: EventId
    item: Key
    turn: Turn
    rater: Rater
    answer: ImageAnswer | PairAnswer
    marks: tuple[Mark, ...] = Field((), max_length=MOST_MARKS)
    seconds: float = Field(ge=0, le=86_400)
    blind: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.marks and self.answer != "error":
            raise ValueError("only an error has marks")
        if ("-" in self.item) != (self.answer in PAIR_ANSWERS):
            raise ValueError("left, right and tie are answers about pairs, good, error and unsure about images")
        return self


@dataclass(frozen=True)
class Label:
    """One answer in the store. `answer` is good, error or unsure; of a pair baseline, candidate or tie.

    `swapped` is whether the candidate's image stood on the left. `plan` is None for labels that were imported.
    """

    item: str
    rater: str
    turn: Turn
    answer: str
    marks: tuple[Mark, ...] = ()
    seconds: float | None = None
    blind: bool = True
    swapped: bool = False
    plan: str | None = None
    time: str = ""

    @property
    def bad(self) -> bool | None:
        """True for an error, False for good, None where the rater was not sure."""
        return {"error": True, "good": False}.get(self.answer)
