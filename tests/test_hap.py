"""The HAP data set: what is written is what is read, by us and by others' tools, and what is broken is found."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asap_train.hap import Pair, encode_png, pair_id, to_row
from asap_train.hap.growing import ROW_GROUP_BYTES
from asap_train.hap.manifest import SplitRule
from asap_train.hap.read import read_pairs, read_table, rows_by_id
from asap_train.hap.validate import validate
from asap_train.hap.write import open_hap
from hafbench.errors import HafError
from hafbench.images import sha256_of
from hap_pairs import mannequin, painted, write


def assert_same(one: Pair, other: Pair) -> None:
    for name in ("winner", "loser", "mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    plain: dict[str, Any] = {"winner": None, "loser": None, "mask": None, "split": None}
    assert replace(one, **plain) == replace(other, **plain)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    pairs = [painted(0, caption='Zwei "Hände", 手'), painted(1), mannequin(700_000)]
    write(tmp_path / "hap", pairs)
    read = {pair.id: pair for pair in read_pairs(tmp_path / "hap")}
    assert set(read) == {pair.id for pair in pairs}
    for pair in pairs:
        assert_same(read[pair.id], pair)
        assert read[pair.id].split == SplitRule().split_of(pair.source)
    assert validate(tmp_path / "hap") == []
    table = read_table(tmp_path / "hap").set_index("id")
    assert table.loc[pairs[0].id, "ssim_in"] == pairs[0].similarity.ssim_in
    assert table["lpips_in"].isna().all()
    assert json.loads(str(table.loc[pairs[0].id, "skipped"])) == pairs[0].skipped


def test_datasets_and_its_hub_viewer_read_it(tmp_path: Path) -> None:
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    pairs = [painted(number) for number in range(30)]
    manifest = write(tmp_path / "hap", pairs)
    splits = {shard.split for shard in manifest.shards.values()}
    files = {split: str(tmp_path / f"hap/data/{split}-*.parquet") for split in splits}
    known = {pair.id: pair for pair in pairs}
    for source in ({"path": "parquet", "data_files": files}, {"path": str(tmp_path / "hap")}):
        loaded = load_dataset(**source, cache_dir=str(tmp_path / "cache"))
        assert set(loaded) == splits
        assert sum(len(rows) for rows in loaded.values()) == 30
        assert all(isinstance(loaded["train"].features[name], ImageFeature) for name in ("winner", "loser", "mask"))
        row = loaded["train"][0]
        np.testing.assert_array_equal(np.asarray(row["loser"]), known[row["id"]].loser)
        np.testing.assert_array_equal(np.asarray(row["mask"]) > 0, known[row["id"]].mask)


def test_an_id_is_of_the_pixels_and_of_nothing_else() -> None:
    pair = painted(5)
    h, w = pair.mask.shape
    parts = (f"{h} {w}\n".encode(), pair.winner.tobytes(), pair.loser.tobytes(), pair.mask.astype(np.uint8).tobytes())
    assert pair.id == hashlib.sha256(b"".join(parts)).hexdigest()
    assert pair_id(pair.winner[:, ::-1][:, ::-1], pair.loser, pair.mask) == pair.id
    other = pair.loser.copy()
    other[0, 0, 0] ^= 1
    assert pair_id(pair.winner, other, pair.mask) != pair.id
    assert pair_id(pair.loser, pair.winner, pair.mask) != pair.id
    assert pair_id(pair.winner, pair.loser, ~pair.mask) != pair.id


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_a_png_is_lossless(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), image)
    mask = rng.random((height, width)) < 0.5
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(mask)))), 255 * mask)


def test_splits_go_by_the_photo_and_come_near_their_shares() -> None:
    sources = [hashlib.sha256(bytes([a, b])).hexdigest() for a in range(200) for b in range(20)]
    splits = [SplitRule(3).split_of(source) for source in sources]
    counts = Counter(splits)
    # Four standard deviations of a binomial count.
    assert abs(counts["train"] - 3600) < 76
    assert abs(counts["test"] - 200) < 56
    assert [SplitRule(3).split_of(source) for source in sources] == [
        SplitRule(3).split_of(source) for source in sources
    ]
    assert [SplitRule(3).split_of(source) for source in sources] != [
        SplitRule(4).split_of(source) for source in sources
    ]
    assert {SplitRule(3, {"test": 1.0}).split_of(source) for source in sources} == {"test"}


def test_all_pairs_of_a_photo_lie_in_one_split(tmp_path: Path) -> None:
    with open_hap(tmp_path / "hap", {}, split=SplitRule(shares={"train": 0.5, "test": 0.5})) as hap:
        for number in range(8):
            rows = [to_row(painted(10 * number + k, photo=number)) for k in range(3)]
            assert hap.add(f"photo {number}", rows) == 3
        hap.finish()
    table = read_table(tmp_path / "hap")
    assert (table.groupby("source")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "test"}


def test_rows_of_two_photos_in_one_item_are_a_mistake(tmp_path: Path) -> None:
    with open_hap(tmp_path / "hap", {}) as hap, pytest.raises(ValueError, match="several photos"):
        hap.add("both", [to_row(painted(1)), to_row(painted(2))])


def test_the_same_pair_twice_is_kept_once_and_counted(tmp_path: Path) -> None:
    small = "M covers 0.{} % of the picture: below 0.20 %"
    with open_hap(tmp_path / "hap", {}) as hap:
        assert hap.add("a", [to_row(painted(1))], [("area", small.format(10))]) == 1
        assert hap.add("copy of a", [to_row(painted(1))], [("area", small.format(15))]) == 0
        manifest = hap.finish()
    counts = manifest.counts
    assert (counts.pairs, counts.photos, counts.rejected, counts.items) == (1, 1, 3, 2)
    assert manifest.rejections["duplicate"].count == 1
    # Reasons that differ only in numbers are one.
    assert manifest.rejections["area"].reasons == {"M covers 0.10 to 0.15 % of the picture: below 0.20 %": 2}


def test_the_card_says_what_is_in_it_and_what_was_skipped(tmp_path: Path) -> None:
    details = {
        "licence": "cc-by-4.0",
        "title": "Our pairs",
        "about": ["Photos by A | B."],
        "weights": {"x.onnx": "ab" * 32},
    }
    write(tmp_path / "hap", [painted(number) for number in range(6)], details=details)
    card = (tmp_path / "hap" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["n<1K"]
    assert {"split": "train", "path": "data/train-*.parquet"} in head["configs"][0]["data_files"]
    for words in (
        "6 preference pairs of 6 photos",
        "Photos by A | B.",
        "| inside_lpips | 6 of 6 | the weights of LPIPS are not on this machine |",
        f"| x.onnx | `{'ab' * 32}` |",
        "| extra_digit | 2 |",
    ):
        assert words in body
    assert yaml.safe_load((tmp_path / "hap" / "README.md").read_text().split("---\n")[1])["pretty_name"] == "Our pairs"


def test_without_a_licence_it_is_unknown(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(0)])
    assert "license: unknown" in (tmp_path / "hap" / "README.md").read_text()


def test_shards_have_row_groups_of_a_few_megabytes(tmp_path: Path) -> None:
    """So that a reader with one row group in memory needs little of it, however large the shard."""
    large = [painted(number, side=1300) for number in range(6)]  # noise, which PNG cannot make smaller: 10 MB a pair
    with open_hap(tmp_path / "hap", {}, split=SplitRule(shares={"train": 1.0})) as hap:
        for number, pair in enumerate(large):
            hap.add(str(number), [to_row(pair)])
        hap.finish()
    meta = pq.ParquetFile(tmp_path / "hap/data/train-00000.parquet").metadata
    sizes = [meta.row_group(number).total_byte_size for number in range(meta.num_row_groups)]
    assert len(sizes) == 3
    assert max(sizes) < 2 * ROW_GROUP_BYTES


def test_rows_are_found_by_their_ids(tmp_path: Path) -> None:
    pairs = [painted(number) for number in range(12)]
    write(tmp_path / "hap", pairs, shard_bytes=30_000)
    wanted = {pairs[3].id, pairs[8].id}
    assert {row["id"] for row in rows_by_id(tmp_path / "hap", wanted)} == wanted


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(0)], shares={"train": 1.0})
    with pytest.raises(HafError, match="has no split 'test'; it has train"):
        next(read_pairs(tmp_path / "hap", "test"))
    with pytest.raises(HafError, match="is not a HAP data set"):
        next(read_pairs(tmp_path))


Rows = list[dict[str, Any]]
Change = Callable[[Rows], None]


def rewritten(folder: Path, change: Change) -> str:
    """Change the rows of the first shard, as a tool would that does not know better; returns its name."""
    manifest = json.loads((folder / "hap.json").read_text())
    name: str = next(iter(manifest["shards"]))
    table = pq.read_table(folder / name)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / name)
    manifest["shards"][name] |= {"sha256": sha256_of(folder / name), "rows": len(rows)}
    (folder / "hap.json").write_text(json.dumps(manifest))
    return name


def png(array: np.ndarray) -> dict[str, Any]:
    return {"bytes": encode_png(array), "path": None}


def spill(rows: Rows) -> None:
    """Change the loser outside of the mask, and give the row the id of that."""
    pair = painted(0)
    loser = pair.loser.copy()
    loser[30:] ^= 255
    rows[0] |= {"loser": png(loser), "id": pair_id(pair.winner, loser, pair.mask)}


BREAKS: dict[str, tuple[Change, str]] = {
    "mask size": (lambda rows: rows[0].update(mask=png(np.ones((10, 12), np.bool_))), "the mask has 12 x 10 pixels"),
    "empty mask": (lambda rows: rows[0].update(mask=png(np.zeros((48, 56), np.bool_))), "the mask is empty"),
    "duplicate": (lambda rows: rows.append(rows[0]), "is there already"),
    "id": (lambda rows: rows[0].update(id="0" * 64), "is not that of its contents"),
    "pixel": (lambda rows: rows[0].update(loser=png(painted(0).loser ^ 1)), "is not that of its contents"),
    "outside": (spill, "of the pixels outside of the mask differ clearly"),
    "no image": (lambda rows: rows[0].update(winner={"bytes": b"no image", "path": None}), "cannot be read"),
    "nothing": (lambda rows: rows[0].update(winner={"bytes": None, "path": None}), "cannot be read"),
    "loser size": (lambda rows: rows[0].update(loser=png(np.zeros((48, 50, 3), np.uint8))), "the loser has 50 x 48"),
    "split": (lambda rows: rows[0].update(split="test"), "it is of the split test, and lies in one of train"),
    "region": (lambda rows: rows[0].update(region="tail"), "'tail' is not a region"),
    "settings": (lambda rows: rows[0].update(settings="{"), "cannot be read"),
    "same": (lambda rows: rows[0].update(loser=rows[0]["winner"]), "winner and loser are the same"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_validation_finds_a_bad_row_and_says_where(tmp_path: Path, name: str) -> None:
    change, words = BREAKS[name]
    write(tmp_path / "hap", [painted(0), painted(1)], shares={"train": 1.0})
    assert validate(tmp_path / "hap") == []
    shard = rewritten(tmp_path / "hap", change)
    problems = validate(tmp_path / "hap")
    assert any(words in problem and problem.startswith(f"{shard}, row ") for problem in problems), problems
    assert not any("row 2" in problem for problem in problems), "the other row is sound"


def test_validation_finds_a_photo_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(number) for number in range(30)], shares={"train": 0.5, "test": 0.5})
    other = next(iter(read_pairs(tmp_path / "hap", "train"))).source
    rewritten(tmp_path / "hap", lambda rows: rows[0].update(source=other))  # the first shard is of the tests
    assert any(f"its photo {other[:12]}... is in test, too" in problem for problem in validate(tmp_path / "hap"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "stranger"])
def test_validation_finds_a_broken_shard(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "hap", [painted(0), painted(1)], shares={"train": 1.0})
    shard = tmp_path / "hap/data/train-00000.parquet"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
        shard.write_bytes(data)
    elif damage == "missing":
        shard.unlink()
    else:
        (shard.parent / "train-00001.parquet").write_bytes(data)
    problems = validate(tmp_path / "hap")
    expected = {
        "cut": "is broken",
        "flipped": "SHA-256 is another",
        "missing": "is missing",
        "stranger": "data/train-00001.parquet is not in hap.json",
    }
    assert any(expected[damage] in problem for problem in problems), problems


def test_reading_a_broken_shard_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "hap", [painted(0)], shares={"train": 1.0})
    rewritten(tmp_path / "hap", lambda rows: rows[0].update(loser={"bytes": b"no image", "path": None}))
    with pytest.raises(HafError, match=r"the pair [0-9a-f]{64} is broken \(The bytes are not a whole image"):
        list(read_pairs(tmp_path / "hap"))
    (tmp_path / "hap/data/train-00000.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(HafError, match=r"train-00000\.parquet is broken \(.*\); replace it by a good copy"):
        list(read_pairs(tmp_path / "hap"))
