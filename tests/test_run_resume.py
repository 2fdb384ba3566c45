"""Run folders that are written again: resume, repair, lock, differences, and records in parts."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hafbench import record_parts
from hafbench.errors import HafError
from hafbench.runs import differences, open_run, read_run
from hafbench.specs import RunSpec
from hafbench.types import Score
from small import Brightness, Painter, Returns, manifest_of
from small_runs import PROMPTS, bench


def test_a_run_is_not_resumed_in_another_format(tmp_path: Path) -> None:
    manifest = manifest_of({"hands": Brightness()}, {})
    with open_run(tmp_path / "run", manifest):
        pass
    other = manifest.model_copy(update={"request": RunSpec(scorers=(), image_format="jpeg95")})
    with pytest.raises(HafError, match=r"image_format: .png. -> .jpeg95."), open_run(tmp_path / "run", other):
        pass


@pytest.mark.parametrize("stop_after", [1, 4, 9])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stopped_run_goes_on_and_ends_with_the_same_records(tmp_path: Path, stop_after: int, batch_size: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=stop_after, batch_size=batch_size)
    with pytest.raises(HafError, match="unfinished run"):
        read_run(tmp_path / "run")
    resumed = Painter()
    run = bench(tmp_path / "run", resumed, batch_size=batch_size)
    pd.testing.assert_frame_equal(run.records, bench(tmp_path / "whole", Painter()).records)
    assert sum(resumed.batches) <= 10 - stop_after // batch_size * batch_size  # no batch is drawn twice


def test_a_finished_run_given_again_makes_nothing_and_changes_nothing(tmp_path: Path) -> None:
    bench(tmp_path / "run", Painter())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = Painter()
    bench(tmp_path / "run", again)
    assert again.batches == []
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("harm", ["lost", "damaged", "other rows"])
def test_the_advised_command_repairs_a_finished_runs_tables(tmp_path: Path, harm: str) -> None:
    whole = bench(tmp_path / "run", Painter())
    table = tmp_path / "run" / "records.parquet"
    before = table.read_bytes()
    if harm == "lost":
        table.unlink()
    elif harm == "damaged":
        table.write_bytes(before[:200])
    else:
        pq.write_table(pq.read_table(table).slice(0, 5), table)
    with pytest.raises(HafError, match=r"run (the command|the same command)"):
        read_run(tmp_path / "run")
    again = Painter()
    assert bench(tmp_path / "run", again).records.equals(whole.records)
    assert again.batches == [] and table.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 40, 700, 1200])
def test_a_torn_last_record_costs_only_its_own_image(tmp_path: Path, cut: int) -> None:
    scorers = {"hands": Brightness(), "iqa": Returns("iqa", Score("scored", 1.0))}
    whole = bench(tmp_path / "run", Painter(), scorers)
    journal = tmp_path / "run" / "records.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    again = Painter()
    run = bench(tmp_path / "run", again, scorers)
    pd.testing.assert_frame_equal(run.records, whole.records)
    assert again.batches == []  # the images were on disk
    assert len(journal.read_text().splitlines()) == 20


def test_a_broken_record_in_the_middle_is_named_by_line(tmp_path: Path) -> None:
    bench(tmp_path / "run", Painter())
    journal = tmp_path / "run" / "records.jsonl"
    lines = journal.read_text().splitlines()
    lines[2] = lines[2][:30]
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(HafError, match=r"records\.jsonl, line 3"):
        bench(tmp_path / "run", Painter())


def test_other_settings_on_the_same_folder_are_refused_with_the_difference(tmp_path: Path) -> None:
    bench(tmp_path / "run", Painter())
    with pytest.raises(HafError, match=r"seeds: 2 -> 3.*--out"):
        bench(tmp_path / "run", Painter(), seeds=3)
    with pytest.raises(HafError, match=r"generator\.broken: \[\] -> \[\"p1\"\]"):
        bench(tmp_path / "run", Painter(broken=["p1"]))


def test_settings_that_json_spells_in_another_way_are_the_same_settings(tmp_path: Path) -> None:
    painter, scorers = Painter(), {"hands": Brightness()}
    painter.settings = {"size": (64, 64), "file": Path("paint.bin")}
    scorers["hands"].settings = {"window": (1, 2)}
    assert bench(tmp_path / "run", painter, scorers).records.equals(bench(tmp_path / "run", painter, scorers).records)
    painter.settings = {"size": (64, 32), "file": Path("paint.bin")}
    with pytest.raises(HafError, match=r"generator\.size: \[64, 64\] -> \[64, 32\]"):
        bench(tmp_path / "run", painter, scorers)


def test_differences_name_nested_added_and_removed_keys() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}, "gone": True}
    new = {"a": 1, "b": {"c": 5, "d": 3}, "new": "x"}
    assert differences(old, new) == ["b.c: 2 -> 5", "gone: true -> null", 'new: null -> "x"']
    assert differences(old, old) == []


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(HafError, match=r"thesis\.tex.*--out"):
        bench(tmp_path, Painter())
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from hafbench.runs import open_run; from small import manifest_of\n"
        "with open_run(Path(sys.argv[1]), manifest_of({}, {})):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "run")],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(HafError, match="another process is writing this run"):
            bench(tmp_path / "run", Painter())
    finally:
        process.kill()
        process.wait()
    with pytest.raises(HafError, match="other settings"):  # the lock went with the process
        bench(tmp_path / "run", Painter())


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of four rows in place of many thousands."""
    monkeypatch.setattr(record_parts, "PART_ROWS", 4)


@pytest.mark.usefixtures("small_parts")
def test_a_run_in_parts_is_resumed_and_has_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "parts", Painter(), stop_after=6)
    parts = json.loads((tmp_path / "parts" / "parts.json").read_text())
    assert parts == [{"file": "parts/000000.parquet", "rows": 4, "images": 4}]
    # What had been scored when the run was stopped is kept, too.
    assert len((tmp_path / "parts" / "records.jsonl").read_text().splitlines()) in (2, 3)
    painter = Painter()
    parted = bench(tmp_path / "parts", painter)
    assert len(painter.batches) <= 3  # how many more are drawn already, the timing decides
    # The whole table takes the place of the parts, and is what a run that has ended is opened with.
    assert sorted(path.name for path in (tmp_path / "parts" / "parts").iterdir()) == []
    assert json.loads((tmp_path / "parts" / "parts.json").read_text())[0]["file"] == "records.parquet"
    assert bench(tmp_path / "parts", Painter()).records.equals(parted.records)
    monkeypatch.setattr(record_parts, "PART_ROWS", 1000)
    whole = bench(tmp_path / "whole", Painter())
    assert whole.records.equals(parted.records)
    assert (whole.folder / "records.csv").read_bytes() == (parted.folder / "records.csv").read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_a_table_that_is_all_there_is_of_the_records_is_not_taken_as_it_is(tmp_path: Path) -> None:
    bench(tmp_path / "run", Painter())
    table = tmp_path / "run" / "records.parquet"
    rows = pq.read_table(table)
    changed = rows.set_column(rows.schema.get_field_index("status"), "status", pa.array(["failed"] * len(rows)))
    pq.write_table(changed, table)
    with pytest.raises(HafError):
        bench(tmp_path / "run", Painter())


@pytest.mark.usefixtures("small_parts")
def test_a_run_that_is_killed_between_a_part_and_its_journal_repeats_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=3)
    journal = tmp_path / "run" / "records.jsonl"
    rows = journal.read_text()
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=1)
    journal.write_text(rows)  # as if the journal had not been emptied yet
    painter = Painter()
    run = bench(tmp_path / "run", painter)
    assert len(painter.batches) <= 6  # four have records; how many more are drawn already, the timing decides
    assert run.records["image"].tolist() == [f"p{i}/{s}.png" for i in range(5) for s in (0, 1)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("[", r"parts\.json cannot be read"),
        ('[{"file": "../x.parquet", "rows": 1, "images": 1}]', "is not a part of this run"),
        ('[{"file": "parts/000009.parquet", "rows": 4, "images": 4}]', "records cannot be read"),
        ('[{"file": "parts/000000.parquet", "rows": 5, "images": 5}]', "has 4 rows, and parts.json counts 5"),
    ],
)
def test_parts_that_are_damaged_are_one_sentence(tmp_path: Path, parts: str, words: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=6)
    (tmp_path / "run" / "parts.json").write_text(parts)
    with pytest.raises(HafError, match=words):
        bench(tmp_path / "run", Painter())


@pytest.mark.usefixtures("small_parts")
def test_a_part_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=6)
    with pytest.raises(HafError, match=r"p0/0\.png has records, and is no image of this run"):
        bench(tmp_path / "run", Painter(), prompts=PROMPTS[2:])
