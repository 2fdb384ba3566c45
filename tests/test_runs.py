"""Run folders and the loop that fills them: resume, lock, differences, and what breaks on the way."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hafbench import record_parts
from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import evaluate, plan, spread
from hafbench.figures import finding_rates
from hafbench.images import ImageFormat, load_image, sha256_of
from hafbench.manifest import Counts
from hafbench.records import Sample
from hafbench.runs import Run, differences, open_run, read_run
from hafbench.specs import RunSpec
from hafbench.suites import CATEGORIES, Prompt, load_suite
from hafbench.types import Score
from small import Brightness, Painter, Returns, folder_manifest, manifest_of, painted

PROMPTS = [Prompt(id=f"p{i}", text=f"a hand, number {i}", category="basic_anatomy") for i in range(5)]


class StopAfter:
    """Ends the run like Ctrl-C after so many images."""

    def __init__(self, images: int | None) -> None:
        self.left = images

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def bench(
    folder: Path,
    painter: Painter,
    scorers: dict[str, Any] | None = None,
    *,
    seeds: int = 2,
    batch_size: int = 1,
    stop_after: int | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
) -> Run:
    """A run of the real machinery; `stop_after` ends it like Ctrl-C after so many images."""
    scorers = scorers or {"hands": Brightness()}
    with open_run(folder, manifest_of(scorers, painter.settings, seeds=seeds)) as run:
        return evaluate(
            run,
            plan(prompts, range(seeds)),
            scorers,
            generator=painter,
            batch_size=batch_size,
            progress=StopAfter(stop_after),
        )


@pytest.mark.parametrize(("image_format", "suffix"), [("png", ".png"), ("webp-lossless", ".webp"), ("jpeg95", ".jpg")])
def test_images_are_written_and_scored_in_the_format_asked_for(
    tmp_path: Path, image_format: ImageFormat, suffix: str
) -> None:
    scorers, painter = {"hands": Brightness()}, Painter()
    samples = plan(PROMPTS[:2], [0], image_format)
    with open_run(tmp_path / "run", manifest_of(scorers, painter.settings)) as run:
        records = evaluate(run, samples, scorers, painter).records
    assert list(records["image"]) == [f"p0/0{suffix}", f"p1/0{suffix}"]
    for row in records.to_dict("records"):
        path = tmp_path / "run" / "images" / row["image"]
        pixels, made = np.asarray(load_image(path)), np.asarray(painted(str(row["prompt_id"]), 0))
        assert np.array_equal(pixels, made) == (image_format != "jpeg95")
        assert row["value"] == float(pixels.mean() / 255)
        assert row["sha256"] == sha256_of(path)


def test_a_run_is_not_resumed_in_another_format(tmp_path: Path) -> None:
    manifest = manifest_of({"hands": Brightness()}, {})
    with open_run(tmp_path / "run", manifest):
        pass
    other = manifest.model_copy(update={"request": RunSpec(scorers=(), image_format="jpeg95")})
    with pytest.raises(HafError, match=r"image_format: .png. -> .jpeg95."), open_run(tmp_path / "run", other):
        pass


def test_findings_are_read_when_they_are_asked_for_and_of_them_what_is_needed(tmp_path: Path) -> None:
    run = bench(tmp_path / "run", Painter())
    rates = finding_rates(run)
    group = pq.ParquetFile(run.table).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    points = next(one for one in columns if "keypoints" in one.path_in_schema)
    data = bytearray(run.table.read_bytes())
    data[(points.dictionary_page_offset or points.data_page_offset) + points.total_compressed_size - 1] ^= 1
    run.table.write_bytes(data)
    again = read_run(run.folder)
    assert again.records.equals(run.records) and not {"findings", "measures"} & {*again.records}
    assert finding_rates(again) == rates and len(again.measures) == 10
    with pytest.raises(HafError, match=r"records\.parquet: the records cannot be read"):
        _ = again.findings


def test_records_hold_what_the_scorer_said_in_suite_order_in_all_three_files(tmp_path: Path) -> None:
    run = bench(tmp_path / "run", Painter())
    assert run.records["image"].tolist() == [f"p{i}/{s}.png" for i in range(5) for s in (0, 1)]
    expected = [float(np.asarray(painted(f"p{i}", s)).mean() / 255) for i in range(5) for s in (0, 1)]
    assert run.records["value"].tolist() == expected
    assert run.records["is_error"].tolist() == [value < 0.5 for value in expected]
    first = run.findings.iloc[0]
    assert (first["image"], first["scorer"], first["region"]) == ("p0/0.png", "hands", "hands")
    assert (list(first["box"]), [list(point) for point in first["keypoints"]]) == ([1, 2, 3, 4], [[1.0, 2.0, 0.5]])
    assert run.measures.iloc[0].tolist() == ["p0/0.png", "hands", "mean", expected[0]]

    lines = [json.loads(line) for line in (run.folder / "records.jsonl").read_text().splitlines()]
    assert [line["value"] for line in lines] == expected
    table = pd.read_csv(run.folder / "records.csv")
    assert np.allclose(table["value"], expected, rtol=1e-12)
    assert json.loads(table["findings"][3])[0]["region"] == "hands"
    assert run.manifest.scorers["hands"].weights == {"brightness.bin": "0" * 64}
    assert run.manifest.counts == Counts(images=10, scored=10)


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


def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path: Path) -> None:
    painter = Painter(fits=2)
    run = bench(tmp_path / "run", painter, batch_size=8)
    assert painter.batches == [8, 4, 2, 2, 4, 2, 2, 2]
    pd.testing.assert_frame_equal(run.records, bench(tmp_path / "one", Painter()).records)


def test_an_image_that_cannot_be_made_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    run = bench(tmp_path / "run", Painter(broken=["p2"]), batch_size=4)
    failed = run.records[run.records["status"] == "failed"]
    assert failed["image"].tolist() == ["p2/0.png", "p2/1.png"]
    assert set(failed["reason"]) == {"generator: ValueError: this prompt breaks the painter"}
    assert run.manifest.counts.scored == 8


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (RuntimeError("it\nbroke"), "failed", "iqa: RuntimeError: it broke"),
        (Score("scored", float("nan")), "failed", "iqa: status is 'scored' but value is nan"),
        (Score("scored", None), "failed", "iqa: status is 'scored' but value is None"),
        (Score("unknown", reason="too small"), "unknown", "too small"),
    ],
)
def test_a_scorer_that_breaks_costs_its_own_score_only(
    tmp_path: Path, answer: Score | Exception, status: str, reason: str
) -> None:
    run = bench(tmp_path / "run", Painter(), {"iqa": Returns("iqa", answer), "hands": Brightness()})
    rows = run.records[run.records["scorer"] == "iqa"]
    assert set(rows["status"]) == {status}
    assert set(rows["reason"]) == {reason}
    assert run.records[run.records["scorer"] == "hands"]["status"].eq("scored").all()


def test_a_scorer_that_is_not_to_be_had_is_unscored_with_its_reason(tmp_path: Path) -> None:
    run = bench(tmp_path / "run", Painter(), {"hands": Brightness(), "clip": Unavailable("no weights; pull them")})
    rows = run.records[run.records["scorer"] == "clip"]
    assert len(rows) == 10
    assert set(rows["status"]) == {"unscored"}
    assert set(rows["reason"]) == {"no weights; pull them"}
    assert rows["value"].isna().all()
    assert run.manifest.scorers["clip"].unavailable == "no weights; pull them"
    # The sentence is not what makes the numbers: the run may be resumed where it is another.
    again = bench(tmp_path / "run", Painter(), {"hands": Brightness(), "clip": Unavailable("no network")})
    assert again.records.equals(run.records)


def test_a_broken_image_among_good_ones_is_failed_for_every_scorer(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    painted("a", 0).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"nonsense")
    scorers = {"hands": Brightness()}
    with open_run(tmp_path / "run", folder_manifest(scorers, tmp_path / "images")) as folder:
        run = evaluate(folder, [Sample("a.png"), Sample("b.png")], scorers)
    assert run.records["status"].tolist() == ["scored", "failed"]
    assert "not an image" in run.records["reason"][1]
    assert run.records["seed"].isna().all()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_sentence_and_finished_images_are_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path / "run", Painter(), stop_after=4)
    journal = tmp_path / "run" / "records.jsonl"
    kept = journal.read_bytes()
    full = _FullDisk(journal)
    with (
        pytest.raises(HafError, match="the disk is full; free some space and run the same command again"),
        full,
    ):
        bench(tmp_path / "run", Painter())
    assert journal.read_bytes() == kept
    assert bench(tmp_path / "run", Painter()).manifest.counts.scored == 10


class _FullDisk:
    """While it is open, what is appended to the journal goes to /dev/full, which answers ENOSPC like a full disk."""

    def __init__(self, journal: Path) -> None:
        self.journal, self.saved = journal, journal.with_name(".saved")

    def __enter__(self) -> None:
        self.original = Path.open

        def open_full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            return self.original(
                Path("/dev/full") if path == self.journal and "a" in mode else path, mode, *args, **kwargs
            )

        Path.open = open_full  # type: ignore[method-assign, assignment]

    def __exit__(self, *_: object) -> None:
        Path.open = self.original  # type: ignore[method-assign]


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="no /sys on this system")
def test_an_output_folder_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(HafError, match=r"/sys/kernel/run cannot be written: .*--out"):
        bench(Path("/sys/kernel/run"), Painter())


def test_an_output_path_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HafError, match=r"file cannot be written: .*--out"):
        bench(tmp_path / "file", Painter())


def test_limit_takes_from_every_category_in_turn() -> None:
    prompts = load_suite("haf-500").prompts
    chosen = spread(prompts, 12)
    counts = {category: sum(p.category == category for p in chosen) for category in CATEGORIES}
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert spread(prompts, 999) == list(prompts)
    assert [p for p in prompts if p in chosen] == chosen


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
