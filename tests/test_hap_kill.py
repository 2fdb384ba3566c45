"""A data set whose writer is killed, or loses power, and started again holds the same as one that was left alone."""

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from asap_train.data.gates import NearDuplicates
from asap_train.hap import to_row
from asap_train.hap.growing import append_rows
from asap_train.hap.manifest import SplitRule
from asap_train.hap.read import read_table
from asap_train.hap.validate import validate
from asap_train.hap.write import Hap, open_hap
from hafbench.errors import HafError
from hap_pairs import painted

ITEMS = 120
KILLS = 12
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def work(hap: Hap, items: int = ITEMS) -> None:
    """Two pairs of most photos, none of every fifth, and now and then a pair that was there before."""
    for number in range(items):
        item = f"photo {number}"
        if hap.done(item):
            continue
        rows = [to_row(painted(2 * number + k, photo=number)) for k in range(2 * (number % 5 > 0))]
        if number % 7 == 6:
            hap.add(item, [to_row(painted(2 * number - 2, photo=number - 1))])
        else:
            hap.add(item, rows, [("inside_ssim", f"SSIM inside M of 0.{number} is above 0.650")])


def start(folder: Path) -> Any:
    return open_hap(folder, {"source": "tests"}, split=SplitRule(shares=SHARES), shard_bytes=150_000)


def run(folder: Path) -> None:
    with start(folder) as hap:
        work(hap)
        hap.finish()


def lines(folder: Path) -> int:
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_same(folder: Path, whole: Path) -> None:
    """The shards to the byte, and what is counted; nothing is left over."""
    one, other = (json.loads((path / "hap.json").read_text()) for path in (folder, whole))
    for key in ("shards", "counts", "skipped", "rejections"):
        assert one[key] == other[key], key
    assert validate(folder) == []
    assert sorted(path.name for path in (folder / "data").iterdir()) == sorted(Path(n).name for n in other["shards"])
    assert list((folder / ".growing").iterdir()) == []
    assert (folder / "journal.jsonl").read_text().count('"item"') == ITEMS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "hap"
    run(folder)
    manifest = json.loads((folder / "hap.json").read_text())
    assert len(manifest["shards"]) > 8
    assert manifest["rejections"]["duplicate"]["count"] > 10
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Processes that start with the heavy imports done, so that the kills fall into the writing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "hap_pairs", "pyarrow.parquet", "cv2", "imagehash", "scipy.fftpack", "filelock"]
    )
    with pytest.MonkeyPatch.context() as patch:
        own = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", own)  # the server of Python 3.11 does not take our sys.path
        yield context


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_shards(
    tmp_path: Path, whole: Path, server: multiprocessing.context.ForkServerContext
) -> None:
    moments = random.Random(20261124)
    folder = tmp_path / "hap"
    killed = 0
    for _ in range(KILLS):
        process = server.Process(target=run, args=(folder,))
        process.start()
        wanted = lines(folder) + moments.randint(0, 10)
        while process.is_alive() and lines(folder) < wanted:
            process.join(timeout=0.001)
        process.join(timeout=moments.uniform(0, 0.01))
        killed += process.is_alive()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert killed >= KILLS / 2
    assert lines(folder) < lines(whole), "it must not have been finished before the last start"
    run(folder)
    assert_same(folder, whole)


@pytest.mark.parametrize("kept", [0, 1, 1000, 20_000, 60_000])
def test_after_a_power_failure_the_lost_items_are_made_again(tmp_path: Path, whole: Path, kept: int) -> None:
    """The journal speaks of rows that never reached the disk, and its last line is torn."""
    folder = tmp_path / "hap"
    with start(folder) as hap:
        work(hap, 50)
    for growing in (folder / ".growing").iterdir():
        os.truncate(growing, min(kept, growing.stat().st_size))
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"item": "photo 50", "ro')
    run(folder)
    assert set(read_table(folder)["id"]) == set(read_table(whole)["id"])
    assert validate(folder) == []


def test_rows_without_a_line_in_the_journal_do_not_count(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "hap"
    with start(folder) as hap:
        work(hap, 50)
    for growing in (folder / ".growing").iterdir():
        with growing.open("ab") as file:
            file.write(b"half of a record batch")
    (folder / ".growing" / "test-00099.rows").write_bytes(b"\xff\xff\xff\xff half of a record batch")
    run(folder)
    assert_same(folder, whole)


@pytest.mark.parametrize("lost", ["early", "last", "rows are left"])
@pytest.mark.parametrize("finished", [True, False])
def test_the_items_of_a_lost_shard_are_made_again_and_no_other_shard_is_written_over(
    tmp_path: Path, whole: Path, lost: str, finished: bool
) -> None:
    folder = tmp_path / "hap"
    with start(folder) as hap:
        work(hap)
        if finished:
            hap.finish()
    gone = sorted((folder / "data").glob("train-*"))[-1 if lost == "last" else 1]
    if lost == "rows are left":  # as of an upload that was cut short
        append_rows(folder / ".growing" / f"{gone.stem}.rows", pq.read_table(gone).to_pylist(), durable=False)
    gone.unlink()
    others = {path: path.read_bytes() for path in (folder / "data").iterdir()}
    run(folder)
    assert validate(folder) == []
    assert sorted(read_table(folder)["id"]) == sorted(read_table(whole)["id"])
    assert {path: path.read_bytes() for path in others} == others
    assert list((folder / ".growing").iterdir()) == []
    assert gone.exists() == (lost == "rows are left" or (finished and lost == "last"))


@pytest.mark.parametrize("lost", [0, 1])
def test_an_item_that_lies_in_two_shards_is_made_again_where_one_is_lost(tmp_path: Path, lost: int) -> None:
    rows = [to_row(painted(number, photo=0)) for number in range(2)]
    for given in (rows[:1], rows):
        with start(tmp_path / "hap") as hap:
            assert hap.add("photo 0", given, [("area", "too small")], whole=len(given) == 2) == 1
            hap.finish()
    sorted((tmp_path / "hap" / "data").iterdir())[lost].unlink()
    with start(tmp_path / "hap") as hap:
        assert hap.begun("photo 0") == {rows[1 - lost]["id"]}
        assert hap.add("photo 0", rows, [("area", "too small")]) == 1
        manifest = hap.finish()
    assert set(read_table(tmp_path / "hap")["id"]) == {row["id"] for row in rows}
    assert (manifest.counts.items, manifest.counts.rejected) == (1, 1)
    assert validate(tmp_path / "hap") == []


def test_a_finished_set_stays_as_it_is_and_a_longer_one_goes_on(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "hap"
    with start(folder) as hap:
        work(hap, 60)
        hap.finish()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    manifest = (folder / "hap.json").read_bytes()
    with start(folder) as hap:
        work(hap, 60)
        hap.finish()
    assert (folder / "hap.json").read_bytes() == manifest
    with start(folder) as hap:
        work(hap)
        hap.finish()
    assert {path: path.stat().st_mtime_ns for path in before} == before, "closed shards are not touched"
    assert set(read_table(folder)["id"]) == set(read_table(whole)["id"])
    assert validate(folder) == []


def test_fingerprints_of_closed_and_growing_shards_are_there_on_resume(tmp_path: Path) -> None:
    folder = tmp_path / "hap"
    with start(folder) as hap:
        work(hap, 50)
        pairs = hap.pairs
    with start(folder) as hap:
        marks = list(hap.fingerprints())
    assert len(marks) == pairs
    known = NearDuplicates(4, marks)
    assert known.judge(painted(2, photo=1).fingerprint).outcome == "failed"
    assert known.judge(painted(9999).fingerprint).outcome == "passed"


def test_other_settings_other_files_and_another_writer_are_refused(tmp_path: Path) -> None:
    with (
        start(tmp_path / "hap"),
        pytest.raises(HafError, match="another process is writing this data set"),
        start(tmp_path / "hap"),
    ):
        pass
    with (
        pytest.raises(HafError, match=r"other settings \(source: \"tests\" -> \"photos\""),
        open_hap(tmp_path / "hap", {"source": "photos"}, split=SplitRule(shares=SHARES)),
    ):
        pass
    with (
        pytest.raises(HafError, match=r"split\.seed: 0 -> 1"),
        open_hap(tmp_path / "hap", {"source": "tests"}, split=SplitRule(1, SHARES)),
    ):
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(HafError, match=r"holds other files \(a\.png"), start(tmp_path / "photos"):
        pass
    assert [path.name for path in (tmp_path / "photos").iterdir() if not path.name.startswith(".")] == ["a.png"]
