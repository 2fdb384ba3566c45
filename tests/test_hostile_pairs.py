"""Damaged, edited and foreign files in data sets: one sentence or success, and nobody's files are deleted."""

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asap_train.hap.exchange import export_pairs, import_pairs
from asap_train.hap.read import read_pairs, read_table
from asap_train.hap.validate import validate
from asap_train.reporting.audit import audit
from asap_train.reporting.contact_sheet import build_page
from damaging import BRACKETS, OBJECTS, RETYPED, files, made, mutations, sentence, some
from test_hap import png, rewritten


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "hap"
    made(folder)
    return folder


@pytest.fixture
def hap(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "hap"))


def read_all(folder: Path) -> Iterator[str]:
    """What every reader says of a data set."""
    yield sentence(lambda: validate(folder))
    yield sentence(lambda: build_page(audit(folder), folder, folder.parent / "audit.html"))
    yield sentence(lambda: list(read_pairs(folder)))
    yield sentence(lambda: read_table(folder))
    (folder.parent / "pairs.parquet").unlink(missing_ok=True)
    yield sentence(lambda: export_pairs(folder, folder.parent / "pairs.parquet"))


# Nobody's files are deleted


@pytest.mark.parametrize("lost", ["gone", "empty", "items only", "another's"])
def test_a_finished_set_whose_journal_is_lost_is_refused_and_kept(tmp_path: Path, hap: Path, lost: str) -> None:
    (hap / "data" / "notes.txt").write_text("mine")
    (hap / "data" / "train-extra.parquet").write_bytes(b"mine, too")
    journal = hap / "journal.jsonl"
    if lost == "gone":
        journal.unlink()
    elif lost == "another's":
        made(tmp_path / "other", first=50)
        journal.write_text("".join((tmp_path / "other" / "journal.jsonl").read_text().splitlines(True)[:-1]))
    else:
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("" if lost == "empty" else lines[0])
    before = files(hap)
    assert "journal.jsonl has no line for data/train-00000.parquet" in sentence(lambda: made(hap))
    assert files(hap) == before


def test_what_lies_beside_the_shards_stays(hap: Path) -> None:
    strangers = (
        "notes.txt",
        "train-extra.parquet",
        ".hidden",
        "train-1.parquet",
        "train-00001.rows",
        "train-00009.txt",
    )
    for name in strangers:
        for place in ("data", ".growing"):
            (hap / place / name).write_bytes(b"mine")
    (hap / ".growing" / "train-00001.rows").unlink()  # this one would be a growing shard
    (hap / "data" / "folder").mkdir()
    before = files(hap)
    made(hap, 6)
    assert {name: data for name, data in files(hap).items() if name in before and data == b"mine"} == {
        name: data for name, data in before.items() if data == b"mine"
    }
    assert len(read_table(hap)) == 6


def test_a_growing_shard_that_we_did_not_write_is_refused_and_kept(hap: Path) -> None:
    stranger = hap / ".growing" / "train-00001.rows"
    stranger.write_bytes(b"mine")
    assert "was not written by asap-train; move it away" in sentence(lambda: made(hap, 6))
    assert stranger.read_bytes() == b"mine"


def test_a_shard_whose_writer_was_killed_before_the_journal_knew_is_adopted(tmp_path: Path, hap: Path) -> None:
    whole = files(hap)
    journal = hap / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert "closed" in lines[-1]
    journal.write_text("".join(lines[:-1]))
    made(hap)
    assert files(hap) == whole
    shutil.copy(hap / "data" / "train-00000.parquet", tmp_path / "copy")
    journal.write_text("".join(lines[:-2]))
    assert "has no line for" in sentence(lambda: made(hap)), "the shard has more rows than the journal"
    assert (hap / "data" / "train-00000.parquet").read_bytes() == (tmp_path / "copy").read_bytes()


# Values that cannot be

VALUES: dict[str, tuple[str, Any, str]] = {
    "nan": ("ssim_in", math.nan, "ssim_in is nan, not -1 to 1"),
    "infinite": ("ssim_out", math.inf, "ssim_out is inf"),
    "null number": ("area", None, "area is null"),
    "out of range": ("area", 1.5, "area is 1.5, not 0 to 1"),
    "negative": ("lpips_in", -0.5, "lpips_in is -0.5"),
    "null caption": ("caption", None, "caption is null"),
    "null id": ("id", None, "id is null"),
    "no id": ("id", "../../etc", "id is '../../etc', not 64 hexadecimal digits"),
    "fingerprint": ("fingerprint", "zz", "fingerprint is 'zz'"),
    "nested": ("settings", BRACKETS, "settings cannot be read as a JSON object"),
    "no object": ("skipped", "5", "skipped cannot be read as a JSON object"),
    "width": ("width", 0, "width is 0"),
    "null source": ("source", None, "source is null"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_cannot_be_is_found_and_never_read(hap: Path, name: str) -> None:
    column, value, words = VALUES[name]
    shard = rewritten(hap, lambda rows: rows[1].update({column: value}))
    assert any(f"{shard}, row 2: {words}" in problem for problem in validate(hap))
    assert words in sentence(lambda: list(read_pairs(hap)))
    assert words in sentence(lambda: read_table(hap))
    list(read_all(hap))


@pytest.mark.parametrize("column", ["area", "ssim_in", "width", "id", "caption", "winner"])
def test_a_column_of_another_type_is_found(hap: Path, column: str) -> None:
    path = hap / "data" / "train-00000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(column)
    other = pa.array(["text"] * 4) if column not in ("id", "caption") else pa.array([1, 2, 3, 4])
    pq.write_table(table.set_column(place, column, other), path)
    assert any(f"row 1: {column} " in problem for problem in validate(hap))
    said = list(read_all(hap))
    assert f"{column} " in said[2]


def test_counts_and_areas_that_are_not_those_of_the_rows_are_found(hap: Path) -> None:
    rewritten(hap, lambda rows: rows[0].update(area=0.25))
    plain = json.loads((hap / "hap.json").read_text())
    plain["counts"] |= {"region": {"hands": 999}, "photos": 7, "pairs": 9}
    (hap / "hap.json").write_text(json.dumps(plain))
    problems = "\n".join(validate(hap))
    for words in (
        "the area is 0.2500, and the mask covers",
        "counts other values of region",
        "says 7 photos",
        "says 9 pairs, and there are 4",
    ):
        assert words in problems
    assert "hap.json says 9 pairs, and the shards have 4" in sentence(lambda: audit(hap))


# Edited and damaged files


def test_an_edited_hap_json_is_a_sentence_or_read(hap: Path) -> None:
    path = hap / "hap.json"
    plain = json.loads(path.read_text())
    names = ("ended", "shards", "counts", "split", "request", "facts", "details", "machine", "versions", "rejections")
    whole = [{key: value for key, value in plain.items() if key != name} for name in names]
    whole += [plain | {name: new} for name in names for new in RETYPED]
    before = files(hap / "data")
    refused = 0
    for changed in [*whole, *some(mutations(plain), 40)]:
        path.write_text(json.dumps(changed))
        said = sentence(lambda: validate(hap)), sentence(lambda: audit(hap)), sentence(lambda: made(hap))
        refused += any(said)
    assert refused > 60
    assert files(hap / "data") == before


@pytest.mark.parametrize("text", ["", BRACKETS, OBJECTS, "[]", "5", "NaN", '{"format": 1, "a": NaN}', '{"format": 1}'])
def test_hap_json_that_is_none_is_a_sentence(hap: Path, text: str) -> None:
    (hap / "hap.json").write_text(text)
    assert all(read_all(hap))
    assert sentence(lambda: made(hap))


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/dev/zero", "data/../hap.json", "data/train-0.parquet", ""])
def test_a_shard_lies_within_the_data_set(hap: Path, name: str) -> None:
    plain = json.loads((hap / "hap.json").read_text())
    plain["shards"] = {name: next(iter(plain["shards"].values()))}
    (hap / "hap.json").write_text(json.dumps(plain))
    assert "is not the name of a shard" in sentence(lambda: validate(hap))


@pytest.mark.parametrize(
    "line",
    [
        *("5", "{}", "[]", "null", BRACKETS, OBJECTS, '{"item": 5, "rows": [], "rejected": []}', "\udcff"),
        '{"item": "a", "rows": null, "rejected": []}',
        '{"closed": "../../etc/passwd", "split": "train", "rows": 1, "sha256": ""}',
        '{"item": "a", "rows": ["b"], "rejected": [["c"]], "shard": "train-00001", "end": "x"}',
    ],
)
def test_a_foreign_line_in_the_journal_is_a_sentence(hap: Path, line: str) -> None:
    journal = hap / "journal.jsonl"
    journal.write_bytes(line.encode(errors="surrogateescape") + b"\n" + journal.read_bytes())
    before = files(hap)
    assert "journal.jsonl, line 1 is damaged" in sentence(lambda: made(hap, 6))
    assert files(hap) == before


def test_flipped_bytes_in_a_shard_are_found(hap: Path) -> None:
    path = hap / "data" / "train-00000.parquet"
    data = path.read_bytes()
    dice = random.Random(20)
    # The footer, where Parquet says what is where, and anywhere.
    spots = [dice.randrange(len(data) - 3000, len(data)) for _ in range(10)]
    for spot in [*spots, *(dice.randrange(len(data)) for _ in range(5))]:
        damaged = bytearray(data)
        damaged[spot] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        assert validate(hap), "at least its SHA-256 is another"
        list(read_all(hap))


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda data: b"no Parquet\n" * 50,
    "zeros": lambda data: bytes(len(data)),
    "footer only": lambda data: data[-2000:],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_broken_shard_is_a_sentence_and_is_kept(tmp_path: Path, hap: Path, name: str) -> None:
    path = hap / "data" / "train-00000.parquet"
    path.write_bytes(FOREIGN[name](path.read_bytes()))
    before = path.read_bytes()
    assert all("train-00000.parquet" in said for said in list(read_all(hap))[1:])
    assert any("train-00000.parquet is broken" in problem for problem in validate(hap))
    assert "train-00000.parquet" in sentence(lambda: made(hap, 6))
    assert path.read_bytes() == before
    assert "cannot be read as Parquet" in sentence(lambda: import_pairs(path, tmp_path / "imported"))


def test_imports_of_damaged_files_are_a_sentence_or_counted(tmp_path: Path, hap: Path) -> None:
    source = tmp_path / "pairs.parquet"
    export_pairs(hap, source)
    table = pq.read_table(source)
    for column, values in {
        "label_0": ["one"] * 4,
        "jpg_0": ["text"] * 4,
        "caption": [1, 2, 3, 4],
        "mask": ["text"] * 4,
    }.items():
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(values)), tmp_path / "typed.parquet")
        assert f"the column {column} has the type" in sentence(
            lambda: import_pairs(tmp_path / "typed.parquet", tmp_path / "typed")
        )
    rows = table.to_pylist()
    rows[0]["mask"], rows[1]["jpg_0"], rows[2]["region"] = b"no image", b"\x89PNG\r\n\x1a\n", "tail"
    rows[3]["mask"] = png(np.ones((3, 4), np.bool_))["bytes"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "rows.parquet")
    counts = import_pairs(tmp_path / "rows.parquet", tmp_path / "rows").counts
    assert (counts.pairs, counts.rejected) == (0, 4)
    data = source.read_bytes()
    dice = random.Random(20)
    for number in range(20):
        damaged = bytearray(data)
        damaged[dice.randrange(len(data) - 2000, len(data))] ^= 255
        (tmp_path / "flipped.parquet").write_bytes(damaged)
        sentence(partial(import_pairs, tmp_path / "flipped.parquet", tmp_path / f"flipped{number}"))
