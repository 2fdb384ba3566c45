"""Lines of records.csv against those of Python's json and csv."""

import csv
import io
import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafbench.record_lines import csv_lines
from hafbench.records import arrow_schema

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6) | st.sampled_from(
    ('a "b", c', "two\nlines", "é", "", "null", "\u2028", "🙂")
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6).map(float)
FINDINGS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("region", "kind", "detail"), TEXTS),
        "score": NUMBERS,
        "box": st.none() | st.lists(NUMBERS, max_size=4),
        "keypoints": st.none() | st.lists(st.lists(NUMBERS, max_size=3), max_size=3),
    }
)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "findings": st.lists(FINDINGS, max_size=3),
    "measures": st.dictionaries(TEXTS, NUMBERS, max_size=3),
    "value": st.none() | NUMBERS,
    "is_error": st.none() | st.booleans(),
    **dict.fromkeys(("width", "height", "seed"), st.none() | st.integers(-(2**63), 2**63 - 1)),
}
ROWS = st.fixed_dictionaries({name: COLUMNS.get(name, st.none() | TEXTS) for name in arrow_schema().names})


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    cells = [{**row, "measures": list(row["measures"].items())} for row in rows]
    return pa.RecordBatch.from_pylist(cells, arrow_schema())


def as_python_writes(rows: list[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in batch_of(rows).to_pylist():
        nested = {"findings": json.dumps(row["findings"]), "measures": json.dumps(dict(row["measures"]))}
        writer.writerow({**row, **nested}.values())
    return file.getvalue().encode()


@given(st.lists(ROWS, max_size=5))
def test_lines_are_those_of_json_and_csv(rows: list[dict[str, Any]]) -> None:
    assert csv_lines(batch_of(rows)) == as_python_writes(rows)


@given(st.lists(ROWS, min_size=3, max_size=5))
def test_a_part_of_a_batch_has_its_own_lines(rows: list[dict[str, Any]]) -> None:
    assert csv_lines(batch_of(rows).slice(1, 2)) == as_python_writes(rows[1:3])


@pytest.mark.parametrize("number", [1e-4, 9.9e-5, 1e10, 9999999999.5, 1e15, 1e16, 5e-324, -0.0, math.nan, math.inf])
def test_numbers_where_other_writers_use_another_form(number: float) -> None:
    row = dict.fromkeys(arrow_schema().names) | {"measures": {"size": number}, "findings": []}
    assert csv_lines(batch_of([row])) == as_python_writes([row])


def test_a_carriage_return_is_in_quotes() -> None:
    row = dict.fromkeys(arrow_schema().names) | {"measures": {}, "findings": [], "image": "a\rb"}
    assert csv_lines(batch_of([row])).startswith(b'"a\rb",')
