"""Run folders, entries, cards and settings that were edited, cut or damaged: one sentence, and never a figure."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hafbench.calibration import make_card
from hafbench.cards import cards_of, read_card, write_card
from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import evaluate
from hafbench.figures import all_figures, finding_rates
from hafbench.labelled import read_labels
from hafbench.leaderboard import Entry, make_entry, tables, validate, write_entry
from hafbench.manifest import FILE, read_manifest
from hafbench.record_tables import findings_of, read_table
from hafbench.records import Sample
from hafbench.reports.board import build_board
from hafbench.runs import Run, open_run, read_run
from hafbench.settings import read_settings
from hafbench.specs import RunSpec
from hafbench.suites import Prompt, load_suite
from hafbench.types import Finding, Score, Scorer
from hafbench.verdicts import judged_by_run
from small import Blueness, Brightness, Painted, Returns, coloured_run, manifest_of, painted

VERDICTS = {"a": "ees", "b": "ssu", "c": "sss"}
NESTED = "[" * 100_000
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Limbs(Painted):
    """A second anatomy scorer, which suspects nothing that it can see."""

    name = "limbs"

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        score = super().score(image, prompt)
        return score if score.status != "scored" else Score("scored", 0.1, False)


SCORERS: dict[str, Scorer | Unavailable] = {"hands": Painted(), "limbs": Limbs(), "iqa": Blueness()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    return coloured_run(tmp_path_factory.mktemp("whole") / "run", VERDICTS, scorers=SCORERS).folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def roles_of(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None
    return {name: one.role for name, one in manifest.scorers.items()}


def read_all(folder: Path) -> Run:
    """With what is read when it is asked for."""
    run = read_run(folder)
    assert len(run.findings.columns) == 8 and len(run.measures.columns) == 4
    return run


def edit_rows(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """records.parquet after a change of its rows by hand, of the same types."""
    path = folder / "records.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        (1, {"value": float("nan")}, r"row 2: the value nan is not a probability"),
        (1, {"value": float("inf")}, "the value inf"),
        (1, {"value": 1e308}, r"the value 1e\+308"),
        (1, {"value": -5.0}, "the value -5.0"),
        (1, {"value": 2.0}, "the value 2.0 is not a probability, 0 to 1"),
        (2, {"value": 1e308}, r"row 3: the value 1e\+308 is no value of a metric"),
        (2, {"value": float("nan")}, "the value nan is no value"),
        (1, {"value": None}, "there is no value"),
        (1, {"is_error": None}, "is_error is missing"),
        (1, {"status": "perfect"}, "the status 'perfect' is none of scored, unknown"),
        (1, {"status": None}, "status is missing"),
        (1, {"status": "unknown"}, "but the status is 'unknown'"),
        (1, {"status": "failed", "value": None, "is_error": None}, "there is no reason"),
        (1, {"reason": "tired"}, "there is a reason why it is not"),
        (1, {"scorer": "beauty"}, r"the scorer 'beauty' is not among those of run\.json \(hands, limbs, iqa\)"),
        (1, {"scorer": None}, "scorer is missing"),
        (1, {"scorer": "hands"}, "has another row of the scorer hands"),
        (1, {"image": None}, "image is missing"),
        (1, {"image": "../../secret.png"}, "is not a path below the folder of images"),
        (1, {"image": "/etc/secret.png"}, "is not a path below"),
        (1, {"image": "other.png"}, "seed is|does not have a row of every scorer"),
        (1, {"prompt_id": "z"}, "prompt_id is z, but not in the first row"),
        (1, {"prompt": None}, "only one of prompt_id and prompt"),
        (1, {"seed": 99}, "seed is 99, but not in the first row"),
        (1, {"category": "hats"}, "there is no category 'hats'"),
        (1, {"category": "{prompt}\n" + "x" * 9999}, r"there is no category '\{prompt\} x{71}'\.$"),
        (1, {"sha256": "abc"}, "sha256 is 'abc'"),
        (1, {"width": -1}, "width is -1"),
        (0, {"measures": [("people", float("inf"))]}, "row 1: a measure is not a finite number"),
        (
            3,
            {"findings": [{"region": "tail", "kind": "extra", "detail": "x", "score": 0.5}]},
            "row 4: a finding has an unknown region",
        ),
        (3, {"findings": [{"region": "hands", "kind": "extra", "detail": "x", "score": 7.0}]}, "0 to 1"),
        (3, {"findings": [{"region": "hands", "kind": "extra", "detail": "x", "score": 0.5, "box": [1.0]}]}, "box"),
        (
            3,
            {
                "findings": [
                    {"region": "hands", "kind": "extra", "detail": "", "score": 0.5, "keypoints": [[1.0], None]}
                ]
            },
            "keypoint",
        ),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_file_row_and_reason(
    run: Path, row: int, change: dict[str, Any], said: str
) -> None:
    edit_rows(run, lambda rows: rows[row].update(change))
    with pytest.raises(HafError, match=rf"records\.parquet, row \d+: .*({said.removeprefix(f'row {row + 1}: ')})"):
        read_all(run)


def test_missing_added_and_doubled_rows_are_refused(run: Path, tmp_path: Path) -> None:
    for name, change, said in (
        ("missing", lambda rows: rows.pop(4), "does not have a row of every scorer"),
        ("doubled", lambda rows: rows.append(rows[0]), "has another row"),
        ("image", lambda rows: rows.__delitem__(slice(0, 3)), r"other rows than run\.json counts \(images: 9 -> 8"),
        ("empty", lambda rows: rows.clear(), r"other rows than run\.json counts"),
    ):
        folder = Path(shutil.copytree(run, tmp_path / name))
        edit_rows(folder, change)
        with pytest.raises(HafError, match=said):
            read_run(folder)


@pytest.mark.parametrize("name", ["image", "status", "scorer", "value", "seed", "is_error", "findings", "measures"])
@pytest.mark.parametrize("kind", ["text", "numbers"])
def test_a_column_of_another_type_is_refused(run: Path, name: str, kind: str) -> None:
    path = run / "records.parquet"
    table = pq.read_table(path)
    values = [str(i) if kind == "text" else i / 2 for i in range(len(table))]
    column = pa.array(values)
    if column.type == table.schema.field(name).type:
        column = pa.array(range(len(table)), pa.decimal128(5))
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
    with pytest.raises(HafError, match=rf"records\.parquet: the column {name} holds "):
        read_all(run)


def test_what_other_tools_write_for_the_same_rows_is_read(run: Path) -> None:
    before = read_run(run).records
    path = run / "records.parquet"
    table = pq.read_table(path)
    schema = pa.schema(
        [
            field.with_type({pa.string(): pa.large_string(), pa.int64(): pa.int32()}.get(field.type, field.type))
            for field in table.schema
        ]
    )
    pq.write_table(table.cast(schema), path)
    assert read_run(run).records.equals(before)


def test_a_flipped_byte_is_found_or_changes_nothing(run: Path) -> None:
    path = run / "records.parquet"
    data, before = path.read_bytes(), read_run(run)
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(data), 150, replace=False):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            assert read_run(run).records.equals(before.records), f"byte {place} changed the records"
            finding_rates(before)
        except HafError as error:
            assert "records.parquet" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_cut_file_is_refused(run: Path, size: int) -> None:
    path = run / "records.parquet"
    path.write_bytes(path.read_bytes()[:size])
    for read in (lambda: read_run(run), lambda: findings_of(path, ["a/0.png"]), lambda: read_table(path, {})):
        with pytest.raises(HafError, match=r"records\.parquet: the records cannot be read"):
            read()


SHAPES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([1, None]), st.just({"a": {"b": 1}}), st.just("x" * 5000), st.just(10**400),
)  # fmt: skip


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in nested JSON."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path] * bool(path) + [place for key, value in inside for place in places(value, (*path, key))]


def changed_at(values: Any, place: tuple[Any, ...], to: Any) -> Any:
    """A copy with another value at a place, or without it where `to` is Ellipsis."""
    values = copy.deepcopy(values)
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = to
    return values


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
             '{"format": [2]}', NESTED, '{"a":' * 100_000, '{"format": 1, "request": []}',
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
        f"seeds: {NESTED}", "{a: " * 50_000, "seeds: 2026-13-45", "a: &a [*a]", "seeds: !!python/name:os.system",
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


def resume(folder: Path) -> Run:
    """The run of `coloured_run` once more."""
    return coloured_run(folder, VERDICTS, scorers=SCORERS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "line 3: this is not a record"),
        (NESTED, "line 3: this is not a record"),
        ({"scorer": "beauty"}, "line 3: the scorer 'beauty' is not among those of run.json"),
        ({"image": "strange.png"}, "line 3: strange.png is no image of this run"),
        ({"prompt_id": "z", "prompt": "z"}, "line 3: prompt_id is z"),
        ({"value": 1e300}, "line 3: the value 1e+300 is no value of a metric"),
        ({"value": "0.5"}, "line 3: this is not a record"),
        ({"image": 5}, "line 3: this is not a record"),
        ({"scorer": "hands", "is_error": True}, "line 3: the image a/0.png has another row"),
        ({"status": "perfect"}, "line 3: this is not a record"),
    ],
)
def test_a_foreign_line_on_resume_is_one_sentence_with_file_and_line(run: Path, line: Any, said: str) -> None:
    journal = run / "records.jsonl"
    lines = journal.read_text().splitlines()
    if isinstance(line, dict) and "image" in line and isinstance(line["image"], str):
        for i in range(3):  # a whole image
            lines[i] = json.dumps(json.loads(lines[i]) | line)
        said = said.replace("line 3", "line 1")
    else:
        lines[2] = line if isinstance(line, str) else json.dumps(json.loads(lines[2]) | line)
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(HafError) as caught:
        resume(run)
    assert f"{journal}, {said}" in str(caught.value)


@pytest.mark.parametrize(
    "score",
    [
        Score("scored", 1.5, True),
        Score("scored", float("inf"), True),
        Score("scored", 0.5, None),
        Score("unknown", None, True, "dark"),
        Score("scored", 0.5, True, None, (Finding("hands", "extra", "x", 3.0),)),
        Score("scored", 0.5, True, None, (Finding("tail", "extra", "x", 0.3),)),  # type: ignore[arg-type]
        Score("perfect", 0.5, True),  # type: ignore[arg-type]
    ],
)
def test_a_scorer_never_writes_what_cannot_be_read(tmp_path: Path, score: Score) -> None:
    scorer = Returns("hands", score)
    scorer.role = "anatomy"
    scorers: dict[str, Scorer | Unavailable] = {"hands": scorer, "limbs": Brightness()}
    sample = Sample("a/0.png", Prompt(id="a", text="a hand"), 0)
    with open_run(tmp_path / "run", manifest_of(scorers, {})) as folder:
        folder.save_image(sample.image, painted("a", 0))
        run = evaluate(folder, [sample], scorers)
    assert run.records["status"].tolist()[1] == "scored"
    assert run.records["status"].tolist()[0] == "failed"


@pytest.mark.parametrize(
    "truth",
    [
        *(NESTED, "{}", "5", '{"error": null, "attributes": {"framing": []}}', "\x00"),
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


# Leaderboard entries.


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """An entry of two anatomy scorers, one of them with a card, and a quality scorer, on part of a packaged suite."""
    folder = tmp_path_factory.mktemp("entry")
    prompts = load_suite("haf-50").prompts[::10]
    samples = [Sample(f"{prompt.id}/{seed}.png", prompt, seed) for prompt in prompts for seed in (0, 1)]
    manifest = manifest_of(SCORERS, {"steps": 1}, seeds=2)
    assert manifest.suite is not None
    suite = manifest.suite.model_copy(update={"name": "haf-50"})
    with open_run(folder / "run", manifest.model_copy(update={"suite": suite})) as started:
        for number, sample in enumerate(samples):
            colour = [(250, 0, 100), (0, 250, number), (0, 250, 9), (0, 0, number)][number % 4]
            started.save_image(sample.image, Image.new("RGB", (16, 16), colour))
        run = evaluate(started, samples, SCORERS)
    rows = run.records[(run.records["scorer"] == "hands") & (run.records["status"] == "scored")]
    labels = [f"{row.image},{'bad' if row.is_error and i else 'good'}\n" for i, row in enumerate(rows.itertuples())]
    (folder / "labels.csv").write_text("image,label\n" + "".join(labels))
    judged = judged_by_run(read_labels(folder / "labels.csv", run.source), run, "hands")
    card = make_card(judged, "hands", run.manifest.scorers["hands"], made_on="the same images", run=run)
    write_card(card, run.folder / "cards" / "hands.json")
    return make_entry(run, "me")


def on_board(folder: Path, *several: Any) -> list[str]:
    """What `validate` says of entries given as plain values."""
    folder.mkdir(exist_ok=True)
    for number, values in enumerate(several):
        (folder / f"{number}.json").write_text(json.dumps(values))
    entries, problems = validate(folder)
    build_board(tables(list(entries.values())), folder / "page")
    return problems


def test_an_entry_as_it_was_made_holds(entry: Entry, tmp_path: Path) -> None:
    assert entry.ranked_by == "anatomy"
    assert entry.anatomy["hands"].corrected is not None
    assert entry.anatomy["hands"].corrected.estimate is not None
    assert validate(write_entry(entry, tmp_path / "board").parent)[1] == []


def _all_sound(v: Any) -> None:
    one = v["anatomy"]["anatomy"]
    one["verdicts"] = {prompt: word.replace("e", "s") for prompt, word in one["verdicts"].items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_all_sound, "but the verdicts of its scorers give"),
        (lambda v: v["anatomy"]["hands"]["corrected"].update(estimate=-5), "estimate"),
        (lambda v: v["anatomy"]["hands"]["corrected"].update(low=9, high=-9), "corrected.low"),
        (lambda v: v["anatomy"]["hands"]["corrected"].update(estimate=0.01, low=0.0, high=0.02), "its card give"),
        (lambda v: v["anatomy"]["hands"].update(corrected=None), "or neither is"),
        (lambda v: v["anatomy"]["hands"].update(card=None), "or neither is"),
        (lambda v: v["anatomy"]["hands"]["card"]["sensitivity"].update(estimate=7), "sensitivity.estimate"),
        (lambda v: v["anatomy"]["hands"]["card"]["sensitivity"].update(low=0.5, high=0.5, estimate=0.5), "interval"),
        (lambda v: v["anatomy"]["hands"]["card"]["specificity"].update(n=10**6), "of other images"),
        (lambda v: v["anatomy"]["hands"]["card"].update(date="2026-02-31"), "card.date"),
        (lambda v: v["quality"]["iqa"]["mean"].update(estimate=float("nan")), "cannot be read"),
        (lambda v: v["quality"]["iqa"]["mean"].update(estimate=float("inf")), "cannot be read"),
        (lambda v: v["quality"]["iqa"]["mean"].update(estimate=99.0), "not between"),
        (lambda v: v["quality"]["iqa"]["mean"].update(n=10**6), "mean of 1000000 images"),
        (lambda v: v["anatomy"]["hands"]["by_category"].pop("full_body"), "has rates of the categories"),
        (lambda v: v["anatomy"]["hands"].update(by_category={}), "has rates of the categories none"),
        (lambda v: v["suite"]["categories"].pop("full_body"), "is of the category full_body"),
        (lambda v: v["suite"]["categories"].update(hats=[]), "there is no category hats"),
        (lambda v: v["suite"]["categories"].update(uncategorized=[]), "no category uncategorized"),
        (lambda v: v.update(ranked_by="limbs"), "ranked by limbs, but"),
        (lambda v: v["anatomy"].pop("anatomy"), "no verdicts of anatomy"),
        (lambda v: v["anatomy"].pop("limbs"), "not of several scorers"),
        (lambda v: v["anatomy"].clear(), "no anatomy scorer"),
        (lambda v: v["suite"].update(sha256="0" * 64), "the hash of its suite"),
        (lambda v: v["suite"].update(seeds=[0, 0]), "a seed twice"),
        (lambda v: v["made"].update(date="yesterday"), "made.date"),
        (lambda v: v["quality"].update(hands=v["quality"]["iqa"]), "both an anatomy and a quality scorer"),
    ],
)
def test_false_figures_of_an_entry_are_found(entry: Entry, tmp_path: Path, change: Any, said: str) -> None:
    values = json.loads(entry.model_dump_json())
    change(values)
    assert said in " ".join(on_board(tmp_path / "board", values))


def test_the_same_verdicts_under_another_hash_are_found(entry: Entry, tmp_path: Path) -> None:
    values = json.loads(entry.model_dump_json())
    again = changed_at(values, ("made", "records_sha256"), "1" * 64)
    again["model"]["name"] = "a better model"
    (problem,) = on_board(tmp_path / "board", values, again)
    assert "the same run under another hash" in problem
    board = tmp_path / "other"
    write_entry(entry, board)
    with pytest.raises(HafError, match="another hash"):
        write_entry(Entry.model_validate(again), board)


def test_other_prompts_under_the_hash_of_a_suite_are_found(entry: Entry, tmp_path: Path) -> None:
    values = json.loads(entry.model_dump_json().replace("haf-50", "mine"))
    other = changed_at(values, ("made", "records_sha256"), "1" * 64)
    prompt = next(iter(values["anatomy"]["hands"]["verdicts"]))
    other = json.loads(json.dumps(other).replace(f'"{prompt}"', '"another-prompt"'))
    (problem,) = on_board(tmp_path / "board", values, other)
    assert "but other prompts or categories" in problem


@BOUNDED
@given(data=st.data())
def test_an_entry_changed_anywhere_is_refused_or_builds(
    entry: Entry, tmp_path_factory: Any, data: st.DataObject
) -> None:
    values = json.loads(entry.model_dump_json())
    place = data.draw(st.sampled_from(places(values)))
    on_board(
        tmp_path_factory.mktemp("board"), values, changed_at(values, place, data.draw(st.one_of(SHAPES, st.just(...))))
    )


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
