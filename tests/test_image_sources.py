"""Images in shards, Parquet files and data sets: the same names, bytes, prompts and records from all."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hafbench.errors import HafError
from hafbench.evaluate import describe
from hafbench.manifest import Manifest
from hafbench.reports.gallery import make_gallery
from hafbench.runs import read_run
from hafbench.sources import ImageSource, open_source, parts_of, read_ahead, read_images
from hafbench.sources.addresses import expand
from hafbench.sources.rows import prompt_of
from pictured import EXPECTED, NAMES, png, scored, write_folder, write_parquet, write_shards, write_tar
from small import Brightness


def bytes_of(source: ImageSource) -> dict[str, bytes]:
    return {image.name: image.place.read() for image in source.images()}


@pytest.mark.parametrize("write", [write_shards, write_parquet])
def test_shards_and_tables_have_the_names_bytes_and_prompts_of_the_images(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    source = open_source(write(tmp_path / "set"))
    assert (source.kind, source.name) == ("shards" if write is write_shards else "parquet", "set")
    images = read_images(source)
    assert [image.name for image in images] == EXPECTED
    assert bytes_of(source) == {name: png(name[4:-4]) for name in EXPECTED}
    assert all(source.place(image.name).read() == image.place.read() for image in reversed(images))
    prompts = [image.prompt for image in images]
    assert [prompt.text if prompt else None for prompt in prompts] == [
        *("a sitting woman", "a waving hand", "a waving hand"),
        *(None, "a sitting woman"),
    ]
    assert prompts[1] is not None and prompts[1].id == "wave" and prompts[1].category == "basic_anatomy"
    assert prompts[0] is not None and prompts[0].category == "uncategorized"  # furniture is no category of ours
    assert [image.seed for image in images] == [0, 0, 1, None, 1]


def test_the_records_are_the_same_from_a_folder_shards_and_tables(tmp_path: Path) -> None:
    runs = [
        scored(open_source(write(tmp_path / f"set{number}")), tmp_path / f"run{number}")
        for number, write in enumerate((write_folder, write_shards, write_parquet))
    ]
    columns = ["image", "sha256", "width", "value", "is_error"]
    first = runs[0].records[columns]
    assert list(first["sha256"]) == [hashlib.sha256(png(name[4:-4])).hexdigest() for name in EXPECTED]
    assert all(run.records[columns].equals(first) for run in runs[1:])
    # What reads a run later finds its images by the same names.
    for run in runs:
        gallery = make_gallery(read_run(run.folder))
        assert (len(gallery.items), gallery.left_out) == (5, 0)
        assert all(item.pictures is not None for item in gallery.items)


def test_a_table_or_a_suite_takes_the_place_of_what_a_shard_says(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("image,prompt\n001/plain.png,a foot\n")
    images = read_images(open_source(write_shards(tmp_path / "set")), table)
    assert [image.prompt.text if image.prompt else None for image in images] == [None] * 3 + ["a foot", None]
    suite = tmp_path / "s.jsonl"
    suite.write_text('{"id": "wave", "text": "hello"}\n')
    images = read_images(open_source(tmp_path / "set"), suite)
    assert [(image.prompt.text, image.seed) if image.prompt else None for image in images][1:3] == [
        ("hello", 0),
        ("hello", 1),
    ]


@pytest.mark.parametrize("names", [("a.txt", "a.json"), ("a.json", "a.txt")])
def test_the_id_of_a_shards_json_is_of_the_text_beside_it(tmp_path: Path, names: tuple[str, str]) -> None:
    said = {"prompt_id": "s0", "seed": 3, "category": "full_body", "text": None}
    content = {"a.txt": b"a hand\n", "a.json": json.dumps(said).encode()}
    write_tar(tmp_path / "0.tar", {"a.png": png("a"), **{name: content[name] for name in names}})
    (image,) = read_images(open_source(tmp_path / "0.tar"))
    assert image.prompt is not None and image.seed == 3
    assert (image.prompt.id, image.prompt.text, image.prompt.category) == ("s0", "a hand", "full_body")
    write_tar(tmp_path / "1.tar", {"a.png": png("a"), "a.json": content["a.json"]})
    (image,) = read_images(open_source(tmp_path / "1.tar"))
    assert (image.prompt, image.seed) == (None, 3)  # an id alone is no prompt


@pytest.mark.parametrize("kind", ["shards", "parquet", "dataset"])
def test_columns_that_are_not_ours_do_not_keep_images_from_being_scored(tmp_path: Path, kind: str) -> None:
    said = {"prompt": "a hand", "tags": "hand, arm", "expect": "beauty", "category": 7, "seed": 1}
    cell = {"bytes": png("a"), "path": "a.png"}

    def written(name: str, **more: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if kind == "shards":
            write_tar(folder / "0.tar", {"a.png": png("a"), "a.json": json.dumps({**said, **more}).encode()})
        elif kind == "parquet":
            pq.write_table(pa.Table.from_pylist([{"image": cell, **said, **more}]), folder / "0.parquet")
        else:
            datasets = pytest.importorskip("datasets")
            datasets.Dataset.from_list([{"image": cell, **said, **more}]).save_to_disk(str(folder))
        return folder

    (image,) = read_images(open_source(written("few")))
    assert (image.prompt, image.seed) == (prompt_of({"prompt": "a hand"}, ""), 1)
    folder = written("none", prompt="x" * 3000, seed=-1)
    with pytest.raises(HafError, match="text: String should have at most 2000 characters"):
        read_images(open_source(folder))
    table = tmp_path / "table.csv"
    table.write_text(f"image,prompt\n{image.name},a foot\n")
    (image,) = read_images(open_source(folder), table)
    assert image.prompt == prompt_of({"prompt": "a foot"}, "")
    assert open_source(folder).place(image.name).read() == png("a")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../outside.png", "cannot be the name of an image"),
        ("/etc/passwd.png", "cannot be the name of an image"),
        ("a//b.png", "cannot be the name of an image"),
        ("a/../b.png", "cannot be the name of an image"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\\udce9.png' cannot be the name of an image"),
    ],
)
def test_a_name_in_a_shard_that_leaves_it_is_refused(tmp_path: Path, name: str, words: str) -> None:
    write_tar(tmp_path / "a.tar", {"good.png": png("x"), name: png("x")})
    with pytest.raises(HafError, match=words):
        open_source(tmp_path / "a.tar").images()


def test_damaged_shards_are_one_sentence(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", {"a.png": png("a"), "b.png": png("b")}).read_bytes()
    for content in (b"", b"x" * 2000, whole[:1500]):
        (tmp_path / "b.tar").write_bytes(content)
        with pytest.raises(HafError, match=r"b\.tar cannot be read \(ReadError"):
            open_source(tmp_path / "b.tar").images()
    write_tar(tmp_path / "c.tar", {"a.png": png("a"), "./a.png": png("b")})
    with pytest.raises(HafError, match=r"a\.png is there twice"):
        open_source(tmp_path / "c.tar").images()
    for name, content, words in [
        ("a.json", b"[1]", "not a JSON object"),
        ("a.json", b"{", "cannot be read"),
        ("a.txt", b"\xff", "cannot be read"),
        ("a.json", b'{"prompt": "x", "seed": -1}', "the seed -1"),
    ]:
        write_tar(tmp_path / "d.tar", {"a.png": png("a"), name: content})
        with pytest.raises(HafError, match=words):
            open_source(tmp_path / "d.tar").images()


def test_a_link_in_a_shard_is_a_failed_row_and_follows_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    records = scored(open_source(tmp_path / "a.tar"), tmp_path / "run").records
    assert list(records.status) == ["failed", "failed"]
    assert all("link" in reason for reason in records.reason)


def test_rows_without_paths_are_named_by_their_numbers(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path / "set", paths=False))
    assert [image.name for image in source.images()] == [
        *(f"000/0000000{row}" for row in range(3)),
        *(f"001/0000000{row}" for row in range(2)),
    ]
    assert source.place("000/00000002").read() == png("wave_1")


def test_a_table_says_which_column_has_the_images(tmp_path: Path) -> None:
    table = pa.table({"img": [png("a"), None], "prompt": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    run = scored(open_source(tmp_path / "a.parquet"), tmp_path / "run")
    assert list(run.records.status) == ["scored", "failed"]
    assert str(tmp_path) not in run.records.reason[1]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = pa.array([{"bytes": png("a"), "path": "a.png"}, None], kind)
    pq.write_table(pa.table({"image": cells}), tmp_path / "c.parquet")
    run = scored(open_source(tmp_path / "c.parquet"), tmp_path / "cells")
    assert list(zip(run.records.image, run.records.status, strict=True)) == [
        ("c/00000000", "scored"),
        ("c/00000001", "failed"),
    ]
    for columns, words in [
        ({"prompt": ["x"]}, "no column of images"),
        ({"left": [b"x"], "right": [b"y"]}, r"several columns may be the images \(left, right\)"),
    ]:
        pq.write_table(pa.table(columns), tmp_path / "b.parquet")
        with pytest.raises(HafError, match=words):
            open_source(tmp_path / "b.parquet").images()


def test_many_rows_are_read_a_few_at_a_time_in_any_order(tmp_path: Path) -> None:
    content = [bytes([row % 256, row // 256]) * 50 for row in range(500)]
    pq.write_table(pa.table({"image": content}), tmp_path / "a.parquet", row_group_size=170)
    places = [image.place for image in open_source(tmp_path / "a.parquet").images()]
    assert list(read_ahead(iter(places), lambda place: place.read(), 40)) == content  # type: ignore[arg-type, return-value, comparison-overlap]
    for row in (499, 0, 171, 170, 169, 498, 3):
        assert places[row].read() == content[row]


def test_a_data_set_on_disk_is_read_split_by_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "prompt": datasets.Value("string")})
    rows = {"image": [{"bytes": png(name), "path": None} for name in NAMES], "prompt": ["a hand"] * 4 + [None]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(str(tmp_path / "one"))
    source = open_source(tmp_path / "one")
    images = read_images(source)
    assert (source.kind, [image.name for image in images]) == ("dataset", [f"0000000{row}" for row in range(5)])
    assert [image.prompt is not None for image in images] == [True] * 4 + [False]
    assert [image.place.read() for image in images] == [png(name) for name in NAMES]
    splits = datasets.DatasetDict({"train": whole.select([0, 1]), "test": whole.select([2])})
    splits.save_to_disk(str(tmp_path / "two"))
    source = open_source(tmp_path / "two")
    assert [image.name for image in source.images()] == ["test/00000000", "train/00000000", "train/00000001"]
    assert source.place("train/00000001").read() == png(NAMES[1])


def test_loose_images_are_a_folder_whatever_lies_beside_or_above_them(tmp_path: Path) -> None:
    folder = write_folder(write_shards(tmp_path / "set") / "deep").parent
    (folder / "deep" / "000" / "state.json").write_text("{}")  # of another program
    (folder / "state.json").write_text("{}")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/loose", recursive=True)
    for where in (folder, "memory://loose"):
        source = open_source(where)
        assert source.kind == "folder"
        assert [image.name for image in source.images()] == [f"deep/{one}" for one in EXPECTED]
    with pytest.raises(HafError, match=r"2 of 7 images lie in no subfolder, such as 000\.tar"):
        parts_of(folder)
    memory.rm("/loose", recursive=True)
    memory.pipe({f"/saved/train/{name}": b"" for name in ("state.json", "data-00000-of-00001.arrow")})
    with pytest.raises(HafError, match="folder of datasets' save_to_disk, which is read on this machine only"):
        open_source("memory://saved")
    memory.rm("/saved", recursive=True)


def test_braces_and_stars_name_several_files(tmp_path: Path) -> None:
    write_shards(tmp_path / "set")
    for pattern in ("{000..001}.tar", "00{0,1}.tar", "*.tar", "000.tar"):
        names = [image.name for image in open_source(tmp_path / "set" / pattern).images()]
        assert names == (EXPECTED if pattern != "000.tar" else EXPECTED[:3])
    assert expand("a/{08..11}/{x,y}") == [f"a/{n}/{w}" for n in ("08", "09", "10", "11") for w in "xy"]
    for pattern, words in [
        ("{000..007}.tar", r"002\.tar: there is no such file"),
        ("no*.tar", "there is no such file"),
        ("{9..1}.tar", "is not a range of numbers"),
        ("*.png", r"give a pattern of \.tar or of \.parquet files"),
        ("a.tar.gz", r"has to be a plain \.tar"),
    ]:
        with pytest.raises(HafError, match=words):
            open_source(tmp_path / "set" / pattern).images()


@pytest.mark.parametrize("write", [write_folder, write_shards, write_parquet])
def test_a_scheme_that_its_store_spells_in_another_way_gives_the_same_names(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    write(tmp_path / "set")
    source = open_source(f"local://{tmp_path}/set")  # file:// to fsspec
    assert [image.name for image in source.images()] == EXPECTED
    assert source.place(EXPECTED[0]).read() == png(NAMES[0])
    assert parts_of(f"local://{tmp_path}") == [f"local://{tmp_path}/set"]


def test_each_subfolder_of_shards_is_a_source(tmp_path: Path) -> None:
    for model in ("sdxl", "flux"):
        write_shards(tmp_path / "all" / model)
    parts = parts_of(tmp_path / "all")
    assert parts == [str(tmp_path / "all" / model) for model in ("flux", "sdxl")]
    assert [open_source(part).name for part in parts] == ["flux", "sdxl"]
    with pytest.raises(HafError, match=r"4 of 4 images lie in no subfolder|2 of 2 images"):
        parts_of(tmp_path / "all" / "sdxl")


def test_addresses_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    for address, words in [
        ("s3://user:secret@bucket/x", "may hold no password"),
        ("https://server/a.tar?X-Amz-Signature=secret", "may hold no password or signature"),
        ("nosuch://bucket/x", "[Pp]rotocol not known"),
        ("hf://datasets/owner/name", "on the model hub, which cannot be reached"),
        ("somebody/pictures", "hf://datasets/somebody/pictures is on the model hub"),
        ("somebody/pictures_v0.2", r"hf://datasets/somebody/pictures_v0\.2 is on the model hub"),
        ("somebody/nowhere.tar", r"somebody/nowhere\.tar: there is no such file"),
        ("memory://nothing/here", "is not a folder with files"),
    ]:
        with pytest.raises(HafError, match=words) as caught:
            open_source(address).images()
        assert "secret" not in str(caught.value)
    both = tmp_path / "both"
    write_shards(both)
    write_parquet(both)
    with pytest.raises(HafError, match=r"holds \.tar and \.parquet files"):
        open_source(both)


def test_a_manifest_keeps_the_kind_of_its_source(tmp_path: Path) -> None:
    run = scored(open_source(write_shards(tmp_path / "set")), tmp_path / "run")
    again = Manifest.model_validate_json((run.folder / "run.json").read_text())
    assert again.images is not None
    assert again.images.kind == "shards"
    assert describe({"hands": Brightness()}) == dict(again.scorers)
