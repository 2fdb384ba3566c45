"""Which prompt and seed a file of a folder belongs to, by its name or by a table."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hafbench.errors import HafError
from hafbench.generators import read_folder
from small import painted

SUITE = '{"id": "wave", "text": "a waving hand"}\n{"id": "sit-2", "text": "a sitting woman", "category": "full_body"}\n'


def make_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        painted(name, 0).save(folder / name)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_prompts_every_image_is_taken(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "b.png", "sub/a.jpg")
    (folder / "notes.txt").write_text("x")
    found = read_folder(folder)
    assert [image.path.name for image in found] == ["b.png", "a.jpg"]
    assert all(image.prompt is None and image.seed is None for image in found)


@pytest.mark.parametrize(
    ("name", "prompt_id", "seed"),
    [
        ("wave.png", "wave", None),
        ("wave_3.png", "wave", 3),
        ("wave-12.jpg", "wave", 12),
        ("wave_seed7.png", "wave", 7),
        ("wave/4.png", "wave", 4),
        ("sit-2.png", "sit-2", None),
        ("sit-2_9.png", "sit-2", 9),
        ("deep/er/sit-2_1.png", "sit-2", 1),
    ],
)
def test_files_are_matched_to_a_suite_by_name(tmp_path: Path, name: str, prompt_id: str, seed: int | None) -> None:
    folder = make_images(tmp_path / "f", name)
    (image,) = read_folder(folder, write(tmp_path / "suite.jsonl", SUITE))
    assert image.prompt is not None
    assert (image.prompt.id, image.seed) == (prompt_id, seed)


def test_an_image_that_nothing_names_is_kept_without_a_prompt(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "wave.png", "stranger_1.png")
    found = read_folder(folder, write(tmp_path / "suite.jsonl", SUITE))
    assert [image.prompt.id if image.prompt else None for image in found] == [None, "wave"]


ROWS = [
    {"image": "a.png", "prompt": "a hand, open", "prompt_id": "open", "seed": 3, "category": "basic_anatomy"},
    {"image": "sub/b.png", "prompt": "a hand, open", "prompt_id": "open", "seed": 4, "category": "basic_anatomy"},
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_three_kinds_of_table_say_the_same(tmp_path: Path, suffix: str) -> None:
    folder = make_images(tmp_path / "f", "a.png", "sub/b.png")
    table, path = pd.DataFrame(ROWS), tmp_path / f"table.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    found = read_folder(folder, path)
    assert [(i.path.name, i.prompt and i.prompt.id, i.seed) for i in found] == [
        ("a.png", "open", 3),
        ("b.png", "open", 4),
    ]
    assert found[0].prompt == found[1].prompt
    assert found[0].prompt is not None
    assert found[0].prompt.category == "basic_anatomy"


def test_equal_captions_without_ids_are_one_prompt(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png", "b.png", "c.png")
    table = write(tmp_path / "t.csv", "file_name,caption\na.png,two hands\nb.png,two hands\nc.png,one foot\n")
    ids = [image.prompt.id for image in read_folder(folder, table) if image.prompt]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,prompt\nmissing.png,x\n", r"row 1: there is no file missing\.png"),
        ("image,prompt\n../secret.png,x\n", "row 1: .* leads out of the folder"),
        ("image,prompt\n/etc/passwd,x\n", "row 1: .* leads out of the folder"),
        ("image,prompt\na.png,x\na.png,y\n", r"row 2: a\.png was named before"),
        ("image,prompt,seed\na.png,x,one\n", "row 1: the seed 'one' is not a whole number"),
        ("image,prompt,prompt_id\na.png,x,../../etc\n", "row 1: id"),
        ("image,prompt,category\na.png,x,feet\n", "row 1: category"),
        ("picture,prompt\na.png,x\n", "no column for the file's name"),
        ("image,prompt\n", "names none of the 1 images|no column"),
    ],
)
def test_a_bad_table_is_one_sentence_with_its_row(tmp_path: Path, table: str, words: str) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    with pytest.raises(HafError, match=words):
        read_folder(folder, write(tmp_path / "t.csv", table))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    make_images(tmp_path, "outside.png")
    folder = make_images(tmp_path / "f", "a.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    assert [image.path.name for image in read_folder(folder)] == ["a.png"]
    with pytest.raises(HafError, match="leads out of the folder"):
        read_folder(folder, write(tmp_path / "t.csv", "image,prompt\nlink.png,x\n"))


def test_broken_json_unknown_formats_and_missing_things_are_one_sentence(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in [
        ((folder, write(tmp_path / "t.jsonl", '{"image": "a.png"}\n{broken\n')), "cannot be read"),
        ((folder, write(tmp_path / "t.xlsx", "x")), r"\.jsonl, \.csv or \.parquet"),
        ((folder, tmp_path / "no.csv"), r"no file .*no\.csv"),
        ((empty,), "no image in"),
        ((tmp_path / "nowhere",), "is not a folder"),
        ((folder, write(tmp_path / "other.jsonl", SUITE)), "names none of the 1 images"),
    ]:
        with pytest.raises(HafError, match=words):
            read_folder(*arguments)
