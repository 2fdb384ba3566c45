"""What a judge replies, as typed values: a pydantic model for each kind of question, and its JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from hafbench.errors import first_problem
from hafbench.types import Kind, Region

Words = Annotated[str, StringConstraints(max_length=4000)]
BOX_UNITS = 1000
"""Boxes are in thousandths of the picture's sides, as vision-language models are used to."""


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Reply):
    """One error; `box` is (left, top, right, bottom) in thousandths of the picture, or empty."""

    region: Region
    kind: Kind
    detail: Words
    box: tuple[float, ...]

    @field_validator("box")
    @classmethod
    def _four_numbers(cls, box: tuple[float, ...]) -> tuple[float, ...]:
        if box and (len(box) != 4 or not all(0 <= value <= BOX_UNITS for value in box)):
            raise ValueError("a box is four numbers from 0 to 1000, or none")
        if box and (box[0] >= box[2] or box[1] >= box[3]):
            raise ValueError("a box has its left and top side before its right and bottom side")
        return box


class Verdict(_Reply):
    """Whether a picture, or a part of it, shows an error."""

    VERDICT: ClassVar[str] = "error"
    WORDS: ClassVar[tuple[str, ...]] = ("yes", "no", "unclear", "absent")

    observations: Words
    error: Literal["yes", "no", "unclear", "absent"]
    sure: float = Field(ge=0, le=100)
    faults: tuple[Fault, ...]


class Choice(_Reply):
    """Which of two pictures is sounder."""

    VERDICT: ClassVar[str] = "sounder"
    WORDS: ClassVar[tuple[str, ...]] = ("first", "second", "tie")

    observations: Words
    sounder: Literal["first", "second", "tie"]
    sure: float = Field(ge=0, le=100)


R = TypeVar("R", Verdict, Choice)
_LEFT_OUT = ("title", "default", "minimum", "maximum", "maxLength")


@cache
def schema_of(model: type[R]) -> dict[str, Any]:
    """The JSON schema, without references and ranges, which not every endpoint can follow; replies are validated."""
    whole = model.model_json_schema()
    definitions = whole.pop("$defs", {})

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            if "$ref" in value:
                return plain(definitions[value["$ref"].rpartition("/")[2]])
            kept = {key: plain(inner) for key, inner in value.items()}
            return {key: inner for key, inner in kept.items() if key not in _LEFT_OUT or isinstance(inner, dict)}
        return [plain(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = plain({key: value for key, value in whole.items() if key != "description"})
    return found


def read_reply(text: str, model: type[R]) -> R:
    """The reply; raises ValueError, with what is wrong, for a text that is not such a JSON object.

    What stands before and after the object, as from endpoints that ignore a schema, is passed over.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    try:
        return model.model_validate_json(text[start : end + 1])
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
