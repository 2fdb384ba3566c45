"""Which prompt and seed a file of a folder belongs to, by its name or by a table."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import hafbench
from hafbench.cli import app
from hafbench.errors import HafError
from hafbench.figures import category_figures
from hafbench.runs import read_run
from hafbench.sources import SourceImage, open_source, parts_of, read_images
from hafbench.sources.prompts import _id_and_seed
from hafbench.specs import ScorerSpec, ScoreSpec
from hafbench.suites import ID_PATTERN, Prompt
from pictured import write_parquet
from small import painted

SUITE = '{"id": "wave", "text": "a waving hand"}\n{"id": "sit-2", "text": "a sitting woman", "category": "full_body"}\n'
SUITE += '{"id": "sit", "text": "a sitting man"}\n'


def make_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        painted(name, 0).save(folder / name)
    return folder


def read_folder(folder: Path, prompts: Path | None = None) -> list[SourceImage]:
    return read_images(open_source(folder), prompts)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_prompts_every_image_is_taken(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "b.png", "sub/a.jpg")
    (folder / "notes.txt").write_text("x")
    found = read_folder(folder)
    assert [image.name for image in found] == ["b.png", "sub/a.jpg"]
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
        ("deep/sit-2.png", "sit-2", None),
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
    assert [(i.name, i.prompt and i.prompt.id, i.seed) for i in found] == [
        ("a.png", "open", 3),
        ("sub/b.png", "open", 4),
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
        ("image,prompt\n../secret.png,x\n", "row 1: .* points outside of the folder"),
        ("image,prompt\n/etc/passwd,x\n", "row 1: .* points outside of the folder"),
        ("image,prompt\na.png,x\na.png,y\n", r"row 2: a\.png was named before"),
        ("image,prompt,seed\na.png,x,one\n", "row 1: the seed 'one' is not a whole number"),
        ("image,prompt,prompt_id\na.png,x,../../etc\n", "row 1: id"),
        ("image,prompt,category\na.png,x,feet\n", "row 1: category"),
        ("picture,prompt\na.png,x\n", "no column for the file's name"),
        ("image,prompt\n", "no column for the file's name"),
        ('image,prompt\na.png,\n"",x\n', "row 2: there is no file name"),
        ("image,prompt\nnotes.txt,x\n", r"row 1: notes\.txt is not an image"),
        ("image,prompt\na.png,x,y,z\n", "row 1: there are more cells than columns"),
        ("image,prompt_id,seed\na.png,wave,1\n", "row 1: there is an id but no text"),
        ("image,prompt,seed\na.png,x,1.5\n", "row 1: the seed '1.5' is not a whole number"),
        ("image,prompt,seed\na.png,x,-1\n", "row 1: the seed '-1' is not a whole number"),
        ("image,prompt,seed\na.png,x,9223372036854775808\n", "row 1: the seed"),
        ('image,prompt,tags\na.png,x,"[1, "\n', "row 1: tags"),
        ("image,prompt,expect\na.png,x,three\n", "row 1: expect"),
        ("image,prompt\na.png,x\nb.png,x\n./a.png,x\n", "row 3: .* was named before"),
        ("image,prompt,prompt_id\na.png,x,p\nb.png,y,p\n", "the id 'p' another prompt"),
        ("image,prompt,seed\na.png,x,1\nb.png,x,1\n", r"a\.png and b\.png are both of prompt"),
        ("image,prompt\na\0.png,x\n", r"row 1: 'a\\x00\.png' cannot be the name of a file"),
        (f"image,prompt\n{'long' * 1000}.png,x\n", "row 1: .* cannot be the name of a file"),
        ("image,prompt\na.png,x\0y\n", "row 1: text: there is a NUL character"),
        ("image,prompt,expect\na.png,x," + "[" * 100_000 + "\n", "row 1: expect"),
    ],
)
def test_a_bad_table_is_one_sentence_with_its_row(tmp_path: Path, table: str, words: str) -> None:
    folder = make_images(tmp_path / "f", "a.png", "b.png")
    (folder / "notes.txt").touch()
    with pytest.raises(HafError, match=words):
        read_folder(folder, write(tmp_path / "t.csv", table))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tags_expectations_and_missing_cells_survive_each_kind_of_table(tmp_path: Path, suffix: str) -> None:
    folder = make_images(tmp_path / "f", "a.png", "b.png", "c.png")
    rows: list[dict[str, Any]] = [
        {"path": "a.png", "caption": "two, hands", "tags": ["photo", "old"], "expect": {"hands": 2, "people": 1}},
        {
            "path": "b.png",
            "caption": "two, hands",
            "seed": 7,
            "tags": ["photo", "old"],
            "expect": {"hands": 2, "people": 1},
        },
        {"path": "c.png", "seed": 8},
    ]
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([{"seed": None, **row} for row in rows]), path)
    elif suffix == "csv":
        cells = [{k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(cells).to_csv(path, index=False, encoding="utf-8-sig")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    a, b, c = read_folder(folder, path)
    assert a.prompt is not None
    assert (a.prompt.text, a.prompt.tags, a.prompt.expect.hands, a.seed) == ("two, hands", ("photo", "old"), 2, None)
    assert (b.prompt, b.seed) == (a.prompt, 7)
    assert (c.prompt, c.seed) == (None, 8)


@given(
    prompt_id=st.from_regex(ID_PATTERN, fullmatch=True),
    seed=st.integers(0, 10**18 - 1),
    form=st.sampled_from(["{0}/{1}", "{0}_{1}", "{0}-{1}", "{0}_seed{1}", "runs/7/{0}_{1}"]),
)
def test_every_id_and_seed_is_read_back_from_its_file_name(prompt_id: str, seed: int, form: str) -> None:
    name = form.format(prompt_id, seed)
    assert _id_and_seed(name, {prompt_id: Prompt(id=prompt_id, text="x")}) == (prompt_id, seed)


def test_two_files_of_one_prompt_and_seed_are_refused(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "wave_3.png", "wave/3.png")
    with pytest.raises(HafError, match="are both of prompt 'wave', seed 3"):
        read_folder(folder, write(tmp_path / "suite.jsonl", SUITE))


def test_a_link_within_the_folder_is_an_image_of_its_own(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    (folder / "link.png").symlink_to("a.png")
    found = read_folder(folder, write(tmp_path / "t.csv", "image,prompt\nlink.png,x\n"))
    assert [(image.name, image.prompt is not None) for image in found] == [("a.png", False), ("link.png", True)]


def test_a_folder_of_links_that_all_lead_out_says_so(tmp_path: Path) -> None:
    make_images(tmp_path, "outside.png")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(HafError, match=r"All 1 images in .* are links"):
        read_folder(tmp_path / "f")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    make_images(tmp_path, "outside.png")
    folder = make_images(tmp_path / "f", "a.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    assert [image.name for image in read_folder(folder)] == ["a.png"]
    with pytest.raises(HafError, match="points outside of the folder"):
        read_folder(folder, write(tmp_path / "t.csv", "image,prompt\nlink.png,x\n"))


def test_broken_json_unknown_formats_and_missing_things_are_one_sentence(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in [
        ((folder, write(tmp_path / "t.jsonl", '{"image": "a.png"}\n{broken\n')), "cannot be read"),
        ((folder, write(tmp_path / "t.xlsx", "x")), r"\.jsonl, \.csv or \.parquet"),
        ((folder, tmp_path / "no.csv"), r"no\.csv cannot be read \(No such file"),
        ((empty,), "no image in"),
        ((tmp_path / "nowhere",), "is not a folder"),
        ((folder, write(tmp_path / "other.jsonl", SUITE)), "names none of the 1 images"),
    ]:
        with pytest.raises(HafError, match=words):
            read_folder(*arguments)


def test_a_jsonl_table_may_start_with_a_byte_order_mark_and_hold_line_separators(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    text = json.dumps({"image": "a.png", "prompt": "a hand\u2028and a foot"}, ensure_ascii=False)
    (tmp_path / "t.jsonl").write_text("\ufeff" + text + "\n", encoding="utf-8")
    (image,) = read_folder(folder, tmp_path / "t.jsonl")
    assert image.prompt is not None
    assert image.prompt.text == "a hand\u2028and a foot"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('"image": "a\\ud800.png", "prompt": "x"', "row 1: .* cannot be the name of a file"),
        ('"image": "a.png", "prompt": "\\ud800"', "row 1: text"),
        ('"image": "a.png", "prompt": "x", "prompt_id": "\\ud800"', "row 1: id"),
        ('"image": "a.png", "prompt": "x", "category": "\\ud800"', "row 1: category"),
        ('"image": "a.png", "prompt": "x", "tags": ["\\ud800"]', "row 1: tags.0: .* half a character"),
        ('"image": "a.png", "prompt": ' + "[" * 100_000 + "]" * 100_000, "line 1: .*recursion limit"),
    ],
)
def test_what_json_can_spell_and_a_file_cannot_is_one_sentence(tmp_path: Path, row: str, words: str) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    with pytest.raises(HafError, match=words):
        read_folder(folder, write(tmp_path / "t.jsonl", f"{{{row}}}"))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_pipe_in_place_of_a_table_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    os.mkfifo(tmp_path / name)
    with pytest.raises(HafError, match="pipe or a device"):
        read_folder(folder, tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1", b"PAR1" + bytes(64) + b"PAR1"])
def test_a_damaged_parquet_table_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(HafError, match=r"t\.parquet cannot be read"):
        read_folder(folder, tmp_path / "t.parquet")


def test_a_folder_whose_own_name_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    folder = make_images(tmp_path / os.fsdecode(b"caf\xe9"), "a.png")
    with pytest.raises(HafError, match="the folder's path is not UTF-8"):
        read_folder(folder)


def test_links_in_a_circle_are_kept_as_images_that_cannot_be_read(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "f", "a.png")
    (folder / "b.png").symlink_to("c.png")
    (folder / "c.png").symlink_to("b.png")
    assert [image.name for image in read_folder(folder)] == ["a.png", "b.png", "c.png"]


def test_runs_below_the_folder_are_left_out_and_a_run_there_is_resumed(models: Path) -> None:
    scorers = (ScorerSpec(name="iqa"),)
    wanted = ["flux 1/a.png", "flux 1/deep/b.png", "sdxl/a.png", "sdxl/deep/b.png"]
    for out in ("runs/one", "runs/two", "runs/one"):
        run = hafbench.score(ScoreSpec(images=models, scorers=scorers), out=models / out)
        assert list(run.records["image"]) == wanted
        painted("a", 0).save(run.folder / "report" / "by_category.png")
    assert parts_of(models) == [str(models / name) for name in ("flux 1", "sdxl")]
    write_parquet(models.parent / "tables")
    for _ in range(2):
        source = open_source(models.parent / "tables")
        assert (source.kind, len(source.images())) == ("parquet", 5)
        hafbench.score(ScoreSpec(images=source.address, scorers=scorers), out=models.parent / "tables" / "runs" / "x")
    own = make_images(models / "runs" / "one", "images/a.png")
    assert [image.name for image in read_folder(own)] == ["images/a.png"]
    with pytest.raises(HafError, match=r"no image in .*runs \(run folders below it are left out\)"):
        read_folder(models / "runs")
    (models / "sdxl" / "run.json").write_text("{}")  # of somebody else
    assert [image.name for image in read_folder(models)] == wanted


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Images of two models, at different depths."""
    for name, red in (("sdxl/a.png", 200), ("sdxl/deep/b.png", 10), ("flux 1/a.png", 10), ("flux 1/deep/b.png", 10)):
        path = tmp_path / "outputs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (red, 100, 0)).save(path)
    return tmp_path / "outputs"


def test_each_subfolder_is_a_run_and_the_runs_are_compared(models: Path) -> None:
    words = [
        "score",
        str(models),
        "--per-subfolder",
        "--scorers",
        "iqa",
        "--out",
        str(models.parent / "runs"),
        "--json",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    summaries = json.loads(result.stdout)
    assert [one["name"] for one in summaries] == ["flux 1", "sdxl"]
    runs = [read_run(Path(one["run"])) for one in summaries]
    assert all(run.folder.parent == models.parent / "runs" for run in runs)
    assert [list(run.records["image"]) for run in runs] == [["a.png", "deep/b.png"]] * 2
    (versus,) = hafbench.compare(runs, out=models.parent / "compared").versus
    assert versus.shared.pairs == 2
    whole = hafbench.score(ScoreSpec(images=models, scorers=(ScorerSpec(name="iqa"),)), out=models.parent / "whole")
    assert len(whole.records) == 4
    assert whole.records["category"].isna().all()


def test_images_in_no_subfolder_are_not_left_out(models: Path) -> None:
    Image.new("RGB", (64, 64)).save(models / "stray.png")
    with pytest.raises(HafError, match=r"1 of 5 images lie in no subfolder, such as stray\.png"):
        hafbench.score_subfolders(
            ScoreSpec(images=models, scorers=(ScorerSpec(name="iqa"),)), out=models.parent / "runs"
        )
    (models / "stray.png").unlink()
    (models / "latest").symlink_to("sdxl")
    (models / "none").symlink_to(models.parent / "nowhere")
    assert parts_of(models) == [str(models / name) for name in ("flux 1", "sdxl")]
    make_images(models.parent / "elsewhere", "a.png")
    (models / "linked").symlink_to(models.parent / "elsewhere")
    with pytest.raises(HafError, match="linked is a link to a folder elsewhere, which is not followed"):
        parts_of(models)
    (models.parent / "empty").mkdir()
    with pytest.raises(HafError, match="no image in the subfolders"):
        hafbench.score_subfolders(ScoreSpec(images=models.parent / "empty", scorers=(ScorerSpec(name="iqa"),)))


def test_subfolders_of_any_script_are_runs_of_their_own_and_two_that_would_be_one_are_refused(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "set", "图片/a.png", "照片/a.png", f"{'片' * 80}/a.png")
    spec = ScoreSpec(images=folder, scorers=(ScorerSpec(name="iqa"),))
    runs = hafbench.score_subfolders(spec, out=tmp_path / "runs")
    assert [run.folder.name for run in runs] == ["图片", "照片", "片" * 33]
    make_images(folder, "a b/a.png", "a-b/a.png")
    with pytest.raises(HafError, match=r"a b and .*a-b would both be the run .*new/a-b; rename one"):
        hafbench.score_subfolders(spec, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_called_like_a_category_is_the_category_of_its_images_without_a_prompt(tmp_path: Path) -> None:
    for name in ("full_body/a.png", "x/Basic_Anatomy/b.png", "other/c.png", "full_body/prompted.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (len(name), 100, 0)).save(path)
    table = tmp_path / "prompts.csv"
    table.write_text("image,prompt,category\nfull_body/prompted.png,a hand,self_interaction\n")
    spec = ScoreSpec(images=tmp_path / "images", prompts=table, scorers=(ScorerSpec(name="iqa"),))
    run = hafbench.score(spec, out=tmp_path / "run")
    assert run.records["category"].isna().sum() == 1
    known = run.records[run.records["image"] != "other/c.png"]
    assert dict(zip(known["image"], known["category"], strict=True)) == {
        "full_body/a.png": "full_body",
        "full_body/prompted.png": "self_interaction",
        "x/Basic_Anatomy/b.png": "basic_anatomy",
    }
    assert list(category_figures(run)) == ["basic_anatomy", "self_interaction", "full_body"]
