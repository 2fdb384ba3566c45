"""Run folders and the loop that fills them: what is written, and what breaks on the way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import evaluate, plan, spread
from hafbench.figures import finding_rates
from hafbench.images import ImageFormat, load_image, sha256_of
from hafbench.manifest import Counts
from hafbench.records import Sample
from hafbench.runs import open_run, read_run
from hafbench.suites import CATEGORIES, load_suite
from hafbench.types import Score
from small import Brightness, Painter, Returns, folder_manifest, manifest_of, painted
from small_runs import PROMPTS, bench


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


def test_a_first_seed_goes_as_far_as_records_do(tmp_path: Path) -> None:
    last, scorers = 2**63 - 1, {"hands": Brightness()}
    manifest = manifest_of(scorers, Painter().settings, first_seed=last)
    for _ in range(2):
        with open_run(tmp_path / "run", manifest) as run:
            done = evaluate(run, plan(PROMPTS[:1], [last]), scorers, Painter())
    assert (done.manifest.suite, list(done.records.seed)) == (manifest.suite, [last])


def test_limit_takes_from_every_category_in_turn() -> None:
    prompts = load_suite("haf-500").prompts
    chosen = spread(prompts, 12)
    counts = {category: sum(p.category == category for p in chosen) for category in CATEGORIES}
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert spread(prompts, 999) == list(prompts)
    assert [p for p in prompts if p in chosen] == chosen
