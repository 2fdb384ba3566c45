"""Records: one row per image and scorer. `Record` defines the columns (docs/reference/run-folder.md)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from hafbench.errors import HafError, first_problem, one_line
from hafbench.files import write_whole
from hafbench.record_checks import check_findings, check_rows, check_types, problem_of
from hafbench.types import Cause, Finding, Role, Score, Status

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from hafbench.sources.places import Place
    from hafbench.suites import Category, Prompt


@dataclass(frozen=True)
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


Tables = Callable[[Sequence[str] | None], Iterator["pa.Table"]]
"""All records of a run, some thousand rows at a time: every column, or the ones that are named."""
ROWS_AT_ONCE = 20_000


def write_tables(tables: Tables, folder: Path, images: Sequence[str], scorers: Sequence[str]) -> Counter[str]:
    """Write records.parquet and records.csv, each whole or not at all; returns how many rows have each status.

    Rows are in the order of these images and of the scorers. Records that are in this order already, as those of a run
    are that was never edited, are written as they are read; others are sorted in memory.
    """
    ordered = _in_order(tables, images, scorers)
    counts: Counter[str] = Counter()
    write_whole(folder / "records.parquet", lambda path: _write_parquet(path, ordered(), counts))
    write_whole(folder / "records.csv", lambda path: _write_csv(path, ordered()))
    return counts


def _in_order(tables: Tables, images: Sequence[str], scorers: Sequence[str]) -> Callable[[], Iterator[pa.Table]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    place, rank = ({name: index for index, name in enumerate(names)} for names in (images, scorers))
    keys = [
        place[image] * len(rank) + rank[scorer]
        for table in tables(("image", "scorer"))
        for image, scorer in zip(table["image"].to_pylist(), table["scorer"].to_pylist(), strict=True)
    ]
    order = np.array(keys, dtype=np.int64)
    if (np.diff(order) > 0).all():
        return lambda: tables(None)

    def in_memory() -> Iterator[pa.Table]:
        whole = pa.concat_tables([arrow_schema().empty_table(), *tables(None)])
        yield pc.take(whole, pa.array(np.argsort(order, kind="stable")))

    return in_memory


def _write_parquet(path: Path, tables: Iterator[pa.Table], counts: Counter[str]) -> None:
    import pyarrow.parquet as pq

    # With checksums, so that no damaged byte is read as another figure.
    with pq.ParquetWriter(path, arrow_schema(), write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)
            counts.update(table["status"].to_pylist())


def _write_csv(path: Path, tables: Iterator[pa.Table]) -> None:
    import pandas as pd

    numbers = dict.fromkeys(("seed", "width", "height"), "Int64")
    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=list(COLUMNS)).to_csv(file, index=False)
        for batch in (batch for table in tables for batch in table.to_batches(ROWS_AT_ONCE)):
            rows = [{**row, "measures": dict(row["measures"])} for row in batch.to_pylist()]
            flat = [{**row, **{name: json.dumps(row[name]) for name in NESTED}} for row in rows]
            pd.DataFrame(flat, columns=list(COLUMNS)).astype(numbers).to_csv(file, index=False, header=False)


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The columns of a file of records, or those that are named, typed as in `arrow_schema`; raises HafError."""
    return _read_parquet(path, () if columns is None else [name for name in COLUMNS if name not in columns])


def _read_parquet(path: Path, left_out: Sequence[str] = (), rows: Any = None) -> pa.Table:
    """The columns of records.parquet, typed as in `arrow_schema`; raises HafError for what is not such a table.

    `rows` is an expression of pyarrow for those that are wanted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, old = arrow_schema(), {"unscored": "reason"}  # a column's name before version 0.2
    try:
        there = pq.read_schema(path).names
        wanted = [name for name in there if name not in left_out]
        table = pq.read_table(path, columns=wanted, filters=rows, page_checksum_verification=True, partitioning=None)
        table.validate(full=True)
    except (OSError, UnicodeDecodeError, MemoryError, pa.ArrowException) as error:
        raise HafError(
            f"{path}: the records cannot be read ({one_line(error)}); copy the file again, or run the same command "
            "again in a new folder."
        ) from error
    if "reason" not in there:
        there, wanted = ([old.get(name, name) for name in names] for names in (there, table.column_names))
        table = table.rename_columns(wanted)
    if "cause" not in there:
        there = [*there, "cause"]
        if "cause" not in left_out:
            table = table.append_column("cause", _untold(table["status"]))
    missing = set(COLUMNS) - set(there)
    if missing or len(there) != len(set(there)):
        what = f"{', '.join(sorted(missing))} are missing" if missing else "are there twice"
        raise HafError(f"{path}: the columns {what}; see docs/reference/run-folder.md.")
    table = table.select([name for name in COLUMNS if name not in left_out])
    check_types(table.schema, schema, str(path))
    return table.cast(pa.schema([schema.field(name) for name in table.column_names]))


def _untold(statuses: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column `cause` of runs made before there was one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(statuses, "unknown"), UNTOLD, pa.scalar(None, pa.string()))


def read_table(path: Path, roles: Mapping[str, Role], findings: bool = True) -> pd.DataFrame:
    """records.parquet as a data frame: findings are lists of Finding, measures are dicts, a missing value is NA.

    `roles` are those of the run's scorers. Without `findings` the columns findings and measures, which take most of the
    time and memory, are left out. Raises HafError for a row that cannot be (`hafbench.record_checks`).
    """
    import pandas as pd

    table = _read_parquet(path, () if findings else NESTED)
    check_rows(table, roles, str(path))
    columns = {name: table[name] for name in table.column_names}
    frame = pd.DataFrame({name: values.to_pandas() for name, values in columns.items() if name not in NESTED})
    frame = frame.astype({"seed": "Int64", "width": "Int64", "height": "Int64", "value": "float64"})
    frame["is_error"] = pd.array(columns["is_error"].to_pandas(), dtype="boolean")
    if findings:
        found = [_findings(cell) for cell in columns["findings"].to_pylist()]
        measured = [dict(cell or ()) for cell in columns["measures"].to_pylist()]
        frame = frame.assign(findings=pd.Series(found, dtype=object), measures=pd.Series(measured, dtype=object))
    return frame


def _findings(cell: Iterable[Mapping[str, Any]] | None) -> list[Finding]:
    """A cell of the column findings."""
    return [
        Finding(
            **{
                **one,
                "box": None if one["box"] is None else tuple(one["box"]),
                "keypoints": None if one["keypoints"] is None else tuple(map(tuple, one["keypoints"])),
            }
        )
        for one in cell or ()
    ]


def read_findings(path: Path) -> pd.DataFrame:
    """All findings of records.parquet, one a row: `row` is the record's place, then region, kind, detail and score."""
    import pandas as pd
    import pyarrow.compute as pc

    table = _read_parquet(path, [name for name in COLUMNS if name != "findings"])
    check_findings(table, str(path))
    lists = table["findings"].combine_chunks()
    flat = pc.list_flatten(lists)
    fields = {name: pc.struct_field(flat, name).to_pandas() for name in ("region", "kind", "detail", "score")}
    return pd.DataFrame({"row": pc.list_parent_indices(lists).to_pandas(), **fields})


def findings_of(path: Path, images: Iterable[str]) -> dict[tuple[str, str], list[Finding]]:
    """The findings of a few images of records.parquet, by image and scorer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = list(images)
    if not wanted:
        return {}
    left_out = [name for name in COLUMNS if name not in ("image", "scorer", "findings")]
    table = _read_parquet(path, left_out, pc.field("image").isin(pa.array(wanted, pa.string())))
    check_findings(table, str(path))
    return {(row["image"], row["scorer"]): _findings(row["findings"]) for row in table.to_pylist()}


def read_measures(path: Path, scorer: str, names: Sequence[str]) -> pd.DataFrame:
    """These measures of a scorer's rows of records.parquet, in their order: NaN where a row does not have one."""
    import numpy as np
    import pandas as pd
    import pyarrow.compute as pc

    left_out = [name for name in COLUMNS if name != "measures"]
    table = _read_parquet(path, left_out, pc.field("scorer") == scorer)
    maps = table["measures"].combine_chunks()
    rows = np.repeat(np.arange(len(maps)), np.diff(maps.offsets.to_numpy()))
    values, found = maps.items.to_numpy(zero_copy_only=False).astype(np.float64), {}
    first, last = (maps.offsets[place].as_py() for place in (0, len(maps))) if len(maps) else (0, 0)
    for name in names:
        found[name] = np.full(len(maps), np.nan)
        there = pc.equal(maps.keys, name).to_numpy(zero_copy_only=False)[first:last]
        found[name][rows[there]] = values[first:last][there]
    return pd.DataFrame(found)
