"""run.json, cards, settings and the truth of renders, edited, nested or damaged: one sentence, and never a figure."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from damaging import BOUNDED, BRACKETS, SCORERS, SHAPES, VERDICTS, changed_at, places
from hafbench.cards import cards_of, read_card
from hafbench.errors import HafError
from hafbench.figures import all_figures
from hafbench.labelled import read_labels
from hafbench.leaderboard import validate
from hafbench.manifest import FILE, read_manifest
from hafbench.runs import read_run
from hafbench.settings import read_settings
from hafbench.specs import RunSpec
from small import coloured_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    return coloured_run(tmp_path_factory.mktemp("whole") / "run", VERDICTS, scorers=SCORERS).folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_run_json_without_any_one_key_opens_or_is_refused(run: Path) -> None:
    values = json.loads((run / FILE).read_text())
    for place in places(values):
        (run / FILE).write_text(json.dumps(changed_at(values, place, ...)))
        opens_or_refuses(run)
    for key in (
        "command",
        "name",
        "request",
        "scorers",
        "image_root",
        "versions",
        "machine",
        "git",
        "started",
        "suite",
    ):
        (run / FILE).write_text(json.dumps(changed_at(values, (key,), ...)))
        with pytest.raises(HafError, match=r"run\.json is damaged"):
            read_run(run)


def opens_or_refuses(run: Path) -> None:
    try:
        opened = read_run(run)
    except HafError as error:
        assert str(run) in str(error)
        assert "\n" not in str(error)
    else:
        all_figures(opened)
        cards_of(opened)


@BOUNDED
@given(data=st.data())
def test_run_json_of_other_types_opens_or_is_refused(whole: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("run")
    shutil.copy(whole / "records.parquet", folder)
    values = json.loads((whole / FILE).read_text())
    place = data.draw(st.sampled_from(places(values)))
    (folder / FILE).write_text(json.dumps(changed_at(values, place, data.draw(SHAPES))))
    opens_or_refuses(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '{"format": 1}', '{"format": 2}', '{"format": 3}', "NaN", '{"format": NaN}',
             '{"format": [2]}', BRACKETS, '{"a":' * 100_000, '{"format": 1, "request": []}',
             '{"format": 1, "request": {"suite": 5}}', "\x00", '{"name": "\\ud800"}', "9" * 10_000]
)  # fmt: skip
def test_json_that_is_not_what_it_should_be_is_one_sentence(run: Path, tmp_path: Path, text: str) -> None:
    for name, read in (
        ("run.json", lambda path: read_manifest(path.parent)),
        ("card.json", read_card),
    ):
        (run / name).write_text(text)
        with pytest.raises(HafError, match=name) as caught:
            read(run / name)
        assert len(str(caught.value)) < len(str(run)) + 400
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "entry.json").write_text(text)
    entries, problems = validate(tmp_path / "board")
    assert entries == {}
    assert len(problems) == 1
    assert len(problems[0]) < len(str(tmp_path)) + 400


@pytest.mark.parametrize(
    "text",
    [
        f"seeds: {BRACKETS}", "{a: " * 50_000, "seeds: 2026-13-45", "a: &a [*a]", "seeds: !!python/name:os.system",
        "seeds: 0x_", "seeds: !!timestamp foo", "- 1", "\x00", "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
)  # fmt: skip
def test_settings_that_are_nested_or_no_yaml_are_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(HafError, match=r"run\.yaml") as caught:
        read_settings(RunSpec, tmp_path / "run.yaml")
    assert len(str(caught.value)) < len(str(tmp_path)) + 400
    with pytest.raises(HafError):
        read_settings(RunSpec, None, [f"model.arguments={text}", f"beauty={text}"])


@pytest.mark.parametrize(
    "truth",
    [
        *(BRACKETS, "{}", "5", '{"error": null, "attributes": {"framing": []}}', "\x00"),
        *('{"error": 5, "attributes": {"framing": "hand"}}', '{"error": {}, "attributes": {"framing": "hand"}}'),
        '{"error": {"region": "wings", "kind": "extra"}, "attributes": {"framing": "hand"}}',
    ],
)
def test_renders_whose_truth_is_damaged_are_one_sentence(tmp_path: Path, truth: str) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 3), dtype=np.uint8))
    (tmp_path / "truth.jsonl").write_text('{"error": null, "attributes": {"framing": "hand"}}\n' + truth + "\n")
    with pytest.raises(HafError, match=r"truth\.jsonl, line 2: "):
        read_labels(tmp_path, None)


@pytest.mark.parametrize("damage", ["cut", "shape", "text", "fewer"])
def test_renders_whose_images_are_damaged_are_one_sentence(tmp_path: Path, damage: str) -> None:
    shape = {"shape": (2, 8, 8), "fewer": (1, 8, 8, 3)}.get(damage, (2, 8, 8, 3))
    np.save(tmp_path / "images.npy", np.zeros(shape, dtype="<U4" if damage == "text" else np.uint8))
    if damage == "cut":
        (tmp_path / "images.npy").write_bytes((tmp_path / "images.npy").read_bytes()[:-9])
    (tmp_path / "truth.jsonl").write_text('{"error": null, "attributes": {"framing": "hand"}}\n' * 2)
    with pytest.raises(HafError, match=re.escape(str(tmp_path))):
        read_labels(tmp_path, None)


@BOUNDED
@given(data=st.data())
def test_a_card_changed_anywhere_is_refused_or_read(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("card") / "card.json"
    shipped = sorted((Path(__file__).parents[1] / "hafbench" / "scorers" / "cards" / "calibration").glob("*.json"))
    values = json.loads(shipped[0].read_text())
    place = data.draw(st.sampled_from(places(values)))
    path.write_text(json.dumps(changed_at(values, place, data.draw(st.one_of(SHAPES, st.just(...))))))
    try:
        card = read_card(path)
    except HafError as error:
        assert str(path) in str(error)
    else:
        assert 0 <= card.accuracy.flagged_bad <= card.accuracy.bad + 1e-3
