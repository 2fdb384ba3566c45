"""Records: one row per image and scorer. The columns are described in docs/records.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from hafbench.suites import Prompt
    from hafbench.types import Score

Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One image that a run scores; `image` is its path below `image_root`, with `/`."""

    image: str
    prompt: Prompt | None = None
    seed: int | None = None


@dataclass(frozen=True)
class FileFacts:
    """What is known of an image file once it has been read."""

    sha256: str | None = None
    width: int | None = None
    height: int | None = None


def make_row(sample: Sample, facts: FileFacts, scorer: str, version: str | None, score: Score) -> Row:
    """The record of one score; raises ValueError for a score that contradicts its own status."""
    if (score.status == "scored") != (score.value is not None and math.isfinite(score.value)):
        raise ValueError(f"status is '{score.status}' but value is {score.value}")
    if (score.status == "scored") != (score.reason is None):
        raise ValueError(f"status is '{score.status}' but the reason is {score.reason!r}")
    return {
        "image": sample.image,
        "sha256": facts.sha256,
        "width": facts.width,
        "height": facts.height,
        "prompt_id": sample.prompt.id if sample.prompt else None,
        "prompt": sample.prompt.text if sample.prompt else None,
        "category": sample.prompt.category if sample.prompt else None,
        "seed": sample.seed,
        "scorer": scorer,
        "scorer_version": version,
        "status": score.status,
        "value": score.value,
        "is_error": score.is_error,
        "unscored": score.reason,
        "findings": [_plain(asdict(finding)) for finding in score.findings],
        "measures": {name: float(value) for name, value in score.measures.items() if math.isfinite(value)},
    }


def _plain(value: Any) -> Any:
    """Tuples as lists and numpy numbers as Python's, so that JSON and Parquet hold the same thing."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def to_line(row: Row) -> str:
    """One line of records.jsonl."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def read_lines(path: Path) -> list[Row]:
    """The whole rows of records.jsonl; a last line that a killed process left unfinished is dropped.

    Raises HafError for a broken line anywhere else, since no run of ours leaves one.
    """
    rows: list[Row] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise HafError(
                f"{path}, line {number}: this is not a record ({error}); delete the line to score the image again."
            ) from error
    return rows


def arrow_schema() -> pa.Schema:
    """The typed columns of records.parquet."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    finding = pa.struct(
        {
            "region": pa.string(),
            "kind": pa.string(),
            "detail": pa.string(),
            "score": pa.float64(),
            "box": numbers,
            "keypoints": pa.list_(numbers),
        }
    )
    return pa.schema(
        {
            "image": pa.string(),
            "sha256": pa.string(),
            "width": pa.int32(),
            "height": pa.int32(),
            "prompt_id": pa.string(),
            "prompt": pa.string(),
            "category": pa.string(),
            "seed": pa.int64(),
            "scorer": pa.string(),
            "scorer_version": pa.string(),
            "status": pa.string(),
            "value": pa.float64(),
            "is_error": pa.bool_(),
            "unscored": pa.string(),
            "findings": pa.list_(finding),
            "measures": pa.map_(pa.string(), pa.float64()),
        }
    )


def write_tables(rows: Iterable[Row], folder: Path) -> None:
    """Write records.parquet and records.csv, each whole or not at all."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(rows)
    schema = arrow_schema()
    typed = [{**row, "measures": list(row["measures"].items())} for row in rows]
    pq.write_table(pa.Table.from_pylist(typed, schema), folder / ".records.parquet")
    (folder / ".records.parquet").replace(folder / "records.parquet")

    flat = [{**row, "findings": json.dumps(row["findings"]), "measures": json.dumps(row["measures"])} for row in rows]
    pd.DataFrame(flat, columns=schema.names).astype({"seed": "Int64", "width": "Int64", "height": "Int64"}).to_csv(
        folder / ".records.csv", index=False
    )
    (folder / ".records.csv").replace(folder / "records.csv")


def read_table(path: Path, findings: bool = True) -> pd.DataFrame:
    """records.parquet as a data frame: findings are lists of dicts, measures are dicts, a missing value is NA.

    Without `findings` the columns findings and measures, which take most of the time and memory, are left out.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    nested = ("findings", "measures")
    try:
        there = pq.read_schema(path).names
        table = pq.read_table(path, columns=there if findings else [name for name in there if name not in nested])
    except (OSError, pa.ArrowInvalid) as error:
        raise HafError(f"{path}: the records cannot be read ({error}); run the same command again.") from error
    missing = set(arrow_schema().names) - set(there)
    if missing:
        raise HafError(f"{path}: the columns {', '.join(sorted(missing))} are missing; see docs/records.md.")
    columns = {name: table[name] for name in table.column_names}
    frame = pd.DataFrame({name: values.to_pandas() for name, values in columns.items() if name not in nested})
    frame = frame.astype({"seed": "Int64", "width": "Int64", "height": "Int64", "value": "float64"})
    frame["is_error"] = pd.array(columns["is_error"].to_pandas(), dtype="boolean")
    if findings:
        found = [list(findings or ()) for findings in columns["findings"].to_pylist()]
        measured = [dict(measures or ()) for measures in columns["measures"].to_pylist()]
        frame = frame.assign(findings=pd.Series(found, dtype=object), measures=pd.Series(measured, dtype=object))
    return frame


def read_findings(path: Path) -> pd.DataFrame:
    """All findings of records.parquet, one a row: `row` is the record's place, then region, kind, detail and score."""
    import pandas as pd
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lists = pq.read_table(path, columns=["findings"])["findings"].combine_chunks()
    flat = pc.list_flatten(lists)
    fields = {name: pc.struct_field(flat, name).to_pandas() for name in ("region", "kind", "detail", "score")}
    return pd.DataFrame({"row": pc.list_parent_indices(lists).to_pandas(), **fields})


def findings_of(path: Path, images: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The findings of a few images of records.parquet, by image."""
    import pyarrow.parquet as pq

    wanted = list(images)
    if not wanted:
        return {}
    table = pq.read_table(path, columns=["image", "findings"], filters=[("image", "in", wanted)])
    found: dict[str, list[dict[str, Any]]] = {image: [] for image in wanted}
    for row in table.to_pylist():
        found[row["image"]] += row["findings"] or []
    return found
