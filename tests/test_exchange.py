"""Pairs in and out in the format of Diffusion-DPO: jpg_0, jpg_1, label_0, caption."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from asap_train.data.spec import Thresholds
from asap_train.hap import Pair
from asap_train.hap.exchange import changed_region, export_pairs, import_pairs
from asap_train.hap.manifest import ImportSpec
from asap_train.hap.read import read_hap, read_pairs, read_table
from asap_train.hap.validate import validate
from asap_train.types import SPLITS
from hafbench.errors import HafError
from hap_pairs import mannequin, painted, write


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [mannequin(seed) for seed in range(700_000, 700_012) if seed not in (700_002, 700_004)]


def preferred(row: dict[str, Any]) -> np.ndarray:
    """As Diffusion-DPO's training script reads it: jpg_0 is preferred unless label_0 is 0."""
    first, second = (np.asarray(Image.open(io.BytesIO(row[name])).convert("RGB")) for name in ("jpg_0", "jpg_1"))
    return second if row["label_0"] == 0 else first


def test_an_export_is_what_others_trainers_read(tmp_path: Path, pairs: list[Pair]) -> None:
    write(tmp_path / "hap", pairs)
    assert export_pairs(tmp_path / "hap", tmp_path / "out" / "pairs.parquet") == len(pairs)
    rows = pq.read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    known = {pair.id: pair for pair in pairs}
    assert {row["id"] for row in rows} == set(known)
    for row in rows:
        np.testing.assert_array_equal(preferred(row), known[row["id"]].winner)
        assert row["label_0"] + row["label_1"] == 1
        assert row["caption"] == "a hand"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["mask"]))) > 0, known[row["id"]].mask)
    assert {row["label_0"] for row in rows} == {0.0, 1.0}, "the place tells nothing"
    with pytest.raises(HafError, match="is there already"):
        export_pairs(tmp_path / "hap", tmp_path / "out" / "pairs.parquet")


def test_a_table_of_another_suffix_is_not_written(tmp_path: Path, pairs: list[Pair]) -> None:
    write(tmp_path / "hap", pairs[:1])
    for name in ("pairs.csv", "pairs"):
        with pytest.raises(HafError, match=rf"{name}: pairs are written as Parquet; .* ends in \.parquet"):
            export_pairs(tmp_path / "hap", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_split_that_is_none_is_told_from_one_without_pairs(tmp_path: Path, pairs: list[Pair]) -> None:
    write(tmp_path / "hap", pairs[:1])
    (there,) = {shard.split for shard in read_hap(tmp_path / "hap").shards.values()}
    empty = next(split for split in SPLITS if split != there)
    with pytest.raises(HafError, match=f"has no pairs of the split '{empty}' to export"):
        export_pairs(tmp_path / "hap", tmp_path / "pairs.parquet", empty)
    with pytest.raises(HafError, match=r"There is no split 'tran': did you mean train\?"):
        export_pairs(tmp_path / "hap", tmp_path / "pairs.parquet", "tran")


def test_an_export_comes_back_the_same(tmp_path: Path, pairs: list[Pair]) -> None:
    write(tmp_path / "hap", pairs)
    export_pairs(tmp_path / "hap", tmp_path / "pairs.parquet")
    import_pairs(tmp_path / "pairs.parquet", tmp_path / "again")
    one, other = (read_table(tmp_path / name).set_index("id").sort_index() for name in ("hap", "again"))
    same = [
        "caption",
        "region",
        "kind",
        "detail",
        "family",
        "split",
        "source",
        "name",
        "ssim_in",
        "area",
        "fingerprint",
    ]
    assert one[same].equals(other[same])
    # Nothing was judged on the way in, and that is said.
    assert set(read_hap(tmp_path / "again").skipped) >= {"area", "inside_ssim", "outside_ssim", "inside_lpips"}


def encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, quality=92)
    return buffer.getvalue()


def test_others_pairs_get_their_masks_from_what_differs(tmp_path: Path, pairs: list[Pair]) -> None:
    """As JPEG, which changes every pixel a little."""
    rows = [
        {"jpg_0": encoded(p.loser, "JPEG"), "jpg_1": encoded(p.winner, "JPEG"), "label_0": 0.0, "caption": "x"}
        for p in pairs
    ]
    (tmp_path / "theirs").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:5]), tmp_path / "theirs" / "0.parquet")
    pq.write_table(pa.Table.from_pylist(rows[5:]), tmp_path / "theirs" / "1.parquet")
    manifest = import_pairs(tmp_path / "theirs", tmp_path / "hap")
    assert (manifest.counts.pairs, manifest.rejections) == (len(pairs), {})
    assert manifest.counts.region == {"unknown": len(pairs)}
    assert validate(tmp_path / "hap") == []
    made = {pair.name: pair for pair in read_pairs(tmp_path / "hap")}
    names = [f"0.parquet:{n}" for n in range(5)] + [f"1.parquet:{n}" for n in range(len(pairs) - 5)]
    for name, pair in zip(names, pairs, strict=True):
        clearly = np.abs(pair.winner.astype(int) - pair.loser).max(-1) >= 48
        assert (made[name].mask & clearly).sum() >= 0.95 * clearly.sum()
        assert (made[name].mask & pair.mask).sum() >= 0.6 * made[name].mask.sum()
        np.testing.assert_allclose(made[name].winner.astype(int).mean((0, 1)), pair.winner.mean((0, 1)), atol=1)
    again = import_pairs(tmp_path / "theirs", tmp_path / "hap")
    assert again == manifest, "given again, there is nothing left to do"


def test_files_of_one_name_in_two_folders_are_both_taken(tmp_path: Path) -> None:
    for seed, split in enumerate(("test", "train")):
        pair = painted(seed)
        row = {"jpg_0": encoded(pair.winner), "jpg_1": encoded(pair.loser), "label_0": 1.0, "caption": split}
        (tmp_path / "theirs" / split).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "theirs" / split / "0000.parquet")
    manifest = import_pairs(tmp_path / "theirs", tmp_path / "hap")
    assert {pair.name for pair in read_pairs(tmp_path / "hap")} == {"test/0000.parquet:0", "train/0000.parquet:0"}
    assert isinstance(manifest.request, ImportSpec)
    assert manifest.request.files == ("test/0000.parquet", "train/0000.parquet")


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    pair, other = painted(0), painted(1)
    images = {"jpg_0": encoded(pair.winner), "jpg_1": encoded(pair.loser)}
    good: dict[str, Any] = {**images, "label_0": 1.0, "caption": "a hand"}
    rows = [
        good,
        {**good, "label_0": 0.5},
        {**good, "label_0": None},
        {**good, "jpg_1": encoded(pair.loser[:40])},
        {**good, "jpg_1": encoded(other.winner)},
        {**good, "jpg_1": images["jpg_0"]},
        {**good, "jpg_1": images["jpg_1"][:900]},
        {**good, "jpg_0": None},
        {**good, "jpg_0": b"<html>"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "theirs.parquet")
    manifest = import_pairs(tmp_path / "theirs.parquet", tmp_path / "hap")
    assert manifest.counts.pairs == 1
    counts = {gate: rejected.count for gate, rejected in manifest.rejections.items()}
    assert counts == {"tie": 2, "size": 1, "unrelated": 1, "same": 1, "broken": 3}


def test_gates_decide_on_imported_pairs_if_asked(tmp_path: Path) -> None:
    pair = painted(0)
    row = {"jpg_0": encoded(pair.winner), "jpg_1": encoded(pair.loser), "label_0": 1.0, "caption": "a hand"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "theirs.parquet")
    strict = import_pairs(tmp_path / "theirs.parquet", tmp_path / "strict", thresholds=Thresholds(inside_ssim=-0.9))
    assert strict.rejections["inside_ssim"].count == 1
    kept = import_pairs(tmp_path / "theirs.parquet", tmp_path / "kept", thresholds=Thresholds())
    assert kept.counts.pairs == 1
    assert set(kept.skipped) == {"inside_lpips", "outside_lpips"}


def test_a_region_is_joined_filled_and_free_of_specks() -> None:
    winner = np.full((400, 400, 3), 90, np.uint8)
    loser = winner.copy()
    loser[100:200, 100:200] = 200
    loser[130:170, 130:170] = 90  # a hole
    loser[100:200, 203:240] = 200  # three pixels away
    loser[300, 300] = 255  # a speck
    mask = changed_region(winner, loser)
    assert mask[100:200, 100:240].all()
    assert not mask[290:310, 290:310].any()
    assert mask.sum() <= 108 * 148
    assert changed_region(winner, loser).sum() == changed_region(loser, winner).sum()


def test_a_file_in_another_format_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"chosen": ["a"], "caption": ["b"]}), tmp_path / "other.parquet")
    with pytest.raises(HafError, match="has no column jpg_0, jpg_1, label_0"):
        import_pairs(tmp_path / "other.parquet", tmp_path / "hap")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(HafError, match="cannot be read as Parquet"):
        import_pairs(tmp_path / "text.parquet", tmp_path / "hap")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HafError, match="no Parquet files"):
        import_pairs(tmp_path / "empty", tmp_path / "hap")
    assert not (tmp_path / "hap").exists()
