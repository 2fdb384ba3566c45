"""Records of run folders that were edited, cut or damaged: one sentence, and never a figure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from damaging import BRACKETS, SCORERS, VERDICTS
from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import evaluate
from hafbench.figures import finding_rates
from hafbench.record_tables import findings_of, read_table
from hafbench.records import Sample
from hafbench.runs import Run, open_run, read_run
from hafbench.suites import Prompt
from hafbench.types import Finding, Score, Scorer
from small import Brightness, Returns, coloured_run, manifest_of, painted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    return coloured_run(tmp_path_factory.mktemp("whole") / "run", VERDICTS, scorers=SCORERS).folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def read_all(folder: Path) -> Run:
    """With what is read when it is asked for."""
    run = read_run(folder)
    assert len(run.findings.columns) == 8 and len(run.measures.columns) == 4
    return run


def edit_rows(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """records.parquet after a change of its rows by hand, of the same types."""
    path = folder / "records.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        (1, {"value": float("nan")}, r"row 2: the value nan is not a probability"),
        (1, {"value": float("inf")}, "the value inf"),
        (1, {"value": 1e308}, r"the value 1e\+308"),
        (1, {"value": -5.0}, "the value -5.0"),
        (1, {"value": 2.0}, "the value 2.0 is not a probability, 0 to 1"),
        (2, {"value": 1e308}, r"row 3: the value 1e\+308 is no value of a metric"),
        (2, {"value": float("nan")}, "the value nan is no value"),
        (1, {"value": None}, "there is no value"),
        (1, {"is_error": None}, "is_error is missing"),
        (1, {"status": "perfect"}, "the status 'perfect' is none of scored, unknown"),
        (1, {"status": None}, "status is missing"),
        (1, {"status": "unknown"}, "but the status is 'unknown'"),
        (1, {"status": "failed", "value": None, "is_error": None}, "there is no reason"),
        (1, {"reason": "tired"}, "there is a reason why it is not"),
        (1, {"scorer": "beauty"}, r"the scorer 'beauty' is not among those of run\.json \(hands, limbs, iqa\)"),
        (1, {"scorer": None}, "scorer is missing"),
        (1, {"scorer": "hands"}, "has another row of the scorer hands"),
        (1, {"image": None}, "image is missing"),
        (1, {"image": "../../secret.png"}, "is not a path below the folder of images"),
        (1, {"image": "/etc/secret.png"}, "is not a path below"),
        (1, {"image": "other.png"}, "seed is|does not have a row of every scorer"),
        (1, {"prompt_id": "z"}, "prompt_id is z, but not in the first row"),
        (1, {"prompt": None}, "only one of prompt_id and prompt"),
        (1, {"seed": 99}, "seed is 99, but not in the first row"),
        (1, {"category": "hats"}, "there is no category 'hats'"),
        (1, {"category": "{prompt}\n" + "x" * 9999}, r"there is no category '\{prompt\} x{71}'\.$"),
        (1, {"sha256": "abc"}, "sha256 is 'abc'"),
        (1, {"width": -1}, "width is -1"),
        (0, {"measures": [("people", float("inf"))]}, "row 1: a measure is not a finite number"),
        (
            3,
            {"findings": [{"region": "tail", "kind": "extra", "detail": "x", "score": 0.5}]},
            "row 4: a finding has an unknown region",
        ),
        (3, {"findings": [{"region": "hands", "kind": "extra", "detail": "x", "score": 7.0}]}, "0 to 1"),
        (3, {"findings": [{"region": "hands", "kind": "extra", "detail": "x", "score": 0.5, "box": [1.0]}]}, "box"),
        (
            3,
            {
                "findings": [
                    {"region": "hands", "kind": "extra", "detail": "", "score": 0.5, "keypoints": [[1.0], None]}
                ]
            },
            "keypoint",
        ),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_file_row_and_reason(
    run: Path, row: int, change: dict[str, Any], said: str
) -> None:
    edit_rows(run, lambda rows: rows[row].update(change))
    with pytest.raises(HafError, match=rf"records\.parquet, row \d+: .*({said.removeprefix(f'row {row + 1}: ')})"):
        read_all(run)


def test_missing_added_and_doubled_rows_are_refused(run: Path, tmp_path: Path) -> None:
    for name, change, said in (
        ("missing", lambda rows: rows.pop(4), "does not have a row of every scorer"),
        ("doubled", lambda rows: rows.append(rows[0]), "has another row"),
        ("image", lambda rows: rows.__delitem__(slice(0, 3)), r"other rows than run\.json counts \(images: 9 -> 8"),
        ("empty", lambda rows: rows.clear(), r"other rows than run\.json counts"),
    ):
        folder = Path(shutil.copytree(run, tmp_path / name))
        edit_rows(folder, change)
        with pytest.raises(HafError, match=said):
            read_run(folder)


@pytest.mark.parametrize("name", ["image", "status", "scorer", "value", "seed", "is_error", "findings", "measures"])
@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_a_column_of_another_type_is_refused(run: Path, name: str, kind: str) -> None:
    path = run / "records.parquet"
    table = pq.read_table(path)
    values = [str(i) if kind == "text" else i / 2 for i in range(len(table))]
    column = pa.array(values)
    if column.type == table.schema.field(name).type:
        column = pa.array(range(len(table)), pa.decimal128(5))
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
    with pytest.raises(HafError, match=rf"records\.parquet: the column {name} holds "):
        read_all(run)


def test_what_other_tools_write_for_the_same_rows_is_read(run: Path) -> None:
    before = read_run(run).records
    path = run / "records.parquet"
    table = pq.read_table(path)
    schema = pa.schema(
        [
            field.with_type({pa.string(): pa.large_string(), pa.int64(): pa.int32()}.get(field.type, field.type))
            for field in table.schema
        ]
    )
    pq.write_table(table.cast(schema), path)
    assert read_run(run).records.equals(before)


def test_a_flipped_byte_is_found_or_changes_nothing(run: Path) -> None:
    path = run / "records.parquet"
    data, before = path.read_bytes(), read_run(run)
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(data), 150, replace=False):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert read_run(run).records.equals(before.records), f"byte {place} changed the records"
            finding_rates(before)
        except HafError as error:
            assert "records.parquet" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_cut_file_is_refused(run: Path, size: int) -> None:
    path = run / "records.parquet"
    path.write_bytes(path.read_bytes()[:size])
    for read in (lambda: read_run(run), lambda: findings_of(path, ["a/0.png"]), lambda: read_table(path, {})):
        with pytest.raises(HafError, match=r"records\.parquet: the records cannot be read"):
            read()


def resume(folder: Path) -> Run:
    """The run of `coloured_run` once more."""
    return coloured_run(folder, VERDICTS, scorers=SCORERS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "line 3: this is not a record"),
        (BRACKETS, "line 3: this is not a record"),
        ({"scorer": "beauty"}, "line 3: the scorer 'beauty' is not among those of run.json"),
        ({"image": "strange.png"}, "line 3: strange.png is no image of this run"),
        ({"prompt_id": "z", "prompt": "z"}, "line 3: prompt_id is z"),
        ({"value": 1e300}, "line 3: the value 1e+300 is no value of a metric"),
        ({"value": "0.5"}, "line 3: this is not a record"),
        ({"image": 5}, "line 3: this is not a record"),
        ({"scorer": "hands", "is_error": True}, "line 3: the image a/0.png has another row"),
        ({"status": "perfect"}, "line 3: this is not a record"),
    ],
)
def test_a_foreign_line_on_resume_is_one_sentence_with_file_and_line(run: Path, line: Any, said: str) -> None:
    journal = run / "records.jsonl"
    lines = journal.read_text().splitlines()
    if isinstance(line, dict) and "image" in line and isinstance(line["image"], str):
        for i in range(3):  # a whole image
            lines[i] = json.dumps(json.loads(lines[i]) | line)
        said = said.replace("line 3", "line 1")
    else:
        lines[2] = line if isinstance(line, str) else json.dumps(json.loads(lines[2]) | line)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(HafError) as caught:
        resume(run)
    assert f"{journal}, {said}" in str(caught.value)


@pytest.mark.parametrize(
    "score",
    [
        Score("scored", 1.5, True),
        Score("scored", float("inf"), True),
        Score("scored", 0.5, None),
        Score("unknown", None, True, "dark"),
        Score("scored", 0.5, True, None, (Finding("hands", "extra", "x", 3.0),)),
        Score("scored", 0.5, True, None, (Finding("tail", "extra", "x", 0.3),)),  # type: ignore[arg-type]
        Score("perfect", 0.5, True),  # type: ignore[arg-type]
    ],
)
def test_a_scorer_never_writes_what_cannot_be_read(tmp_path: Path, score: Score) -> None:
    scorer = Returns("hands", score)
    scorer.role = "anatomy"
    scorers: dict[str, Scorer | Unavailable] = {"hands": scorer, "limbs": Brightness()}
    sample = Sample("a/0.png", Prompt(id="a", text="a hand"), 0)
    with open_run(tmp_path / "run", manifest_of(scorers, {})) as folder:
        folder.save_image(sample.image, painted("a", 0))
        run = evaluate(folder, [sample], scorers)
    assert run.records["status"].tolist()[1] == "scored"
    assert run.records["status"].tolist()[0] == "failed"
