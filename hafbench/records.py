"""Records: one row per image and scorer. `Record` defines the columns (docs/reference/run-folder.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from hafbench.errors import HafError, first_problem
from hafbench.record_checks import check_rows, problem_of
from hafbench.types import Cause, Finding, Role, Score, Status

if TYPE_CHECKING:
    import pyarrow as pa

    from hafbench.sources.places import Place
    from hafbench.suites import Category, Prompt


@dataclass(frozen=True, slots=True)
class Sample:
    """One image that a run scores; `image` is its path below `image_root`, with `/`.

    `category` is that of an image without a prompt, if it is known. `place` is where its bytes are; None is the run's
    own folder, or the source that it names.
    """

    image: str
    prompt: Prompt | None = None
    seed: int | None = None
    category: Category | None = None
    place: Place | None = None


@dataclass(frozen=True)
class FileFacts:
    """What is known of an image file once it has been read."""

    sha256: str | None = None
    width: int | None = None
    height: int | None = None


class Record(BaseModel):
    """One row. `reason` says why, whenever `status` is not scored; runs of earlier versions call it `unscored`.

    `cause` is there exactly where `status` is unknown. Runs of earlier versions do not have it: theirs is unjudgeable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    sha256: str | None
    width: int | None
    height: int | None
    prompt_id: str | None
    prompt: str | None
    category: str | None
    seed: int | None
    scorer: str
    scorer_version: str | None
    status: Status
    value: float | None
    is_error: bool | None
    reason: str | None = Field(validation_alias=AliasChoices("reason", "unscored"))
    cause: Cause | None = Field(None, validate_default=True)
    findings: tuple[Finding, ...]
    measures: dict[str, float]

    @field_validator("cause", mode="before")
    @classmethod
    def _told(cls, cause: Any, info: ValidationInfo) -> Any:
        return UNTOLD if cause is None and info.data.get("status") == "unknown" else cause


UNTOLD: Cause = "unjudgeable"
"""The cause of an unknown score that has none."""
NESTED = ("findings", "measures")
COLUMNS = tuple(Record.model_fields)


def make_record(sample: Sample, facts: FileFacts, scorer: str, version: str | None, score: Score, role: Role) -> Record:
    """The record of one score; raises ValueError for a score that contradicts its own status or leaves its range."""
    if problem := problem_of(score, role):
        raise ValueError(problem)
    prompt = sample.prompt
    return Record.model_validate(
        {
            "image": sample.image,
            **asdict(facts),
            "prompt_id": prompt.id if prompt else None,
            "prompt": prompt.text if prompt else None,
            "category": prompt.category if prompt else sample.category,
            "seed": sample.seed,
            "scorer": scorer,
            "scorer_version": version,
            "status": score.status,
            "value": score.value,
            "is_error": score.is_error,
            "reason": score.reason,
            "cause": score.cause,
            "findings": [_plain(asdict(finding)) for finding in score.findings],
            "measures": {**_finite(score.measures), **_expected(prompt, score.measures)},
        }
    )


COUNTS = ("people", "hands", "arms")
"""Measures of scorers that a prompt may say, too: `Prompt.expect`."""


def _expected(prompt: Prompt | None, measures: Mapping[str, float]) -> dict[str, float]:
    """Beside what a scorer counted, what the prompt says there should be."""
    known = prompt.expect.model_dump(include=set(COUNTS)) if prompt else {}
    return {f"{name}_expected": float(n) for name, n in known.items() if n is not None and name in measures}


def _finite(measures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in measures.items() if math.isfinite(value)}


def _plain(value: Any) -> Any:
    """Numpy numbers as Python's, so that JSON and Parquet hold the same thing."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def to_line(record: Record) -> str:
    """One line of records.jsonl."""
    return json.dumps(record.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n"


def read_lines(path: Path, roles: Mapping[str, Role]) -> list[Record]:
    """The whole rows of records.jsonl; a last line that a killed process left unfinished is dropped.

    `roles` are those of the run's scorers. Raises HafError for any other line that is not a record of this run.
    """
    records: list[Record] = []
    numbers: list[int] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise HafError(f"{path}: the records cannot be read ({error.strerror}).") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            records.append(Record.model_validate_json(line, strict=True))
        except ValidationError as error:
            if number == len(lines):
                break
            raise HafError(
                f"{path}, line {number}: this is not a record ({first_problem(error)}); "
                "delete the line to score the image again."
            ) from error
        numbers.append(number)
    check_rows(as_table(records), roles, str(path), numbers=numbers, whole=False)
    return records


def arrow_schema() -> pa.Schema:
    """The typed columns of records.parquet: those of `Record`."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    finding = {
        **dict.fromkeys(("region", "kind", "detail"), pa.string()),
        "score": pa.float64(),
        "box": numbers,
        "keypoints": pa.list_(numbers),
    }
    nested = {"findings": pa.list_(pa.struct(finding)), "measures": pa.map_(pa.string(), pa.float64())}
    plain = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

    def type_of(name: str) -> pa.DataType:
        annotation = Record.model_fields[name].annotation
        kinds = [plain[kind] for kind in (annotation, *get_args(annotation)) if kind in plain]
        return nested.get(name) or next(iter(kinds), pa.string())

    return pa.schema({name: type_of(name) for name in COLUMNS})


def as_table(records: Iterable[Record]) -> pa.Table:
    """Records as rows, typed as in `arrow_schema`."""
    import pyarrow as pa

    rows = [record.model_dump(mode="json") for record in records]
    return pa.Table.from_pylist([{**row, "measures": list(row["measures"].items())} for row in rows], arrow_schema())
