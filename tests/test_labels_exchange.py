"""Labels as files and back, their use for cards and judges, and how far raters agree."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hafbench import api
from hafbench.cli import app
from hafbench.errors import HafError
from hafbench.judges.examples import read_examples
from hafbench.labelled import read_labels
from hafbench.labelling.agreement import Alpha, agreement
from hafbench.labelling.answers import Label, Mark, Turn
from hafbench.labelling.exchange import (
    import_labels,
    labels_of_file,
    to_coco,
    to_examples,
    to_label_studio,
    to_table,
)
from hafbench.labelling.reading import read_file
from hafbench.labelling.sampling import Choose
from hafbench.labelling.start import Labelling, start
from hafbench.labelling.store import LabelStore
from hafbench.runs import Run
from labelling import WORDS, pictured_run
from small import not_none


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)


@pytest.fixture(scope="module")
def store(run: Run) -> LabelStore:
    """All images labelled by two raters as the scorer sees them, but for three; a box for each error."""
    session, _ = start(Labelling((run.folder,), raters=("anna", "ben"), shared=1, again=0))
    hands = run.records.query("scorer == 'hands'")
    truth = dict(zip(hands["sha256"], hands["is_error"], strict=True))
    for place, entry in enumerate(session.store.entries(session.plan)):
        for rater in ("anna", "ben"):
            wrong = bool(truth[entry.item]) != (place < 3 and rater == "ben")
            answer = "unsure" if place == 10 else "error" if wrong else "good"
            marks = (Mark(region="hands", kind="extra", box=(4.5, 8, 20, 24)), Mark(box=(1, 1, 3, 3)))
            label = Label(
                entry.item, rater, "first", answer, marks if answer == "error" else (), 3.0, plan=session.plan
            )
            session.store.add(f"event-{place:03}-{rater}", label)
    return session.store


def test_a_table_is_what_calibrate_reads(run: Run, store: LabelStore, tmp_path: Path) -> None:
    assert to_table(store, tmp_path / "labels.csv") == 60
    read = read_labels(tmp_path / "labels.csv", run.source)
    assert sum(one.bad is None for one in read) == 4  # one unsure, three to be settled
    assert {(one.region, one.kind) for one in read if one.bad} == {("hands", "extra")}
    assert to_table(store, tmp_path / "labels.parquet") == 60
    assert len(pd.read_parquet(tmp_path / "labels.parquet")) == 60
    with pytest.raises(HafError, match=r"ends in \.csv or \.parquet"):
        to_table(store, tmp_path / "labels.txt")


def test_names_of_raters_are_written_only_if_asked_for(store: LabelStore, tmp_path: Path) -> None:
    assert to_table(store, tmp_path / "numbers.csv", answers=True) == 120
    to_table(store, tmp_path / "names.csv", answers=True, names=True)
    to_table(store, tmp_path / "labels.csv")
    assert set(pd.read_csv(tmp_path / "numbers.csv")["rater"]) == {"rater 1", "rater 2"}
    assert set(pd.read_csv(tmp_path / "names.csv")["rater"]) == {"anna", "ben"}
    assert "anna" not in (tmp_path / "labels.csv").read_text()


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "coco.json", "studio.json"])
def test_what_is_exported_can_be_imported(run: Run, store: LabelStore, tmp_path: Path, name: str) -> None:
    write = {"coco.json": to_coco, "studio.json": to_label_studio}.get(name, to_table)
    write(store, tmp_path / name)
    other = LabelStore(tmp_path / "other.sqlite")
    new = import_labels(other, labels_of_file(tmp_path / name, [run], "elsewhere"))
    assert new == (56 if name == "coco.json" else 57 if name == "studio.json" else 60)
    assert import_labels(other, labels_of_file(tmp_path / name, [run], "elsewhere")) == 0
    labels = other.labels()
    errors = [one for one in labels if one.answer == "error"]
    assert len(errors) == sum(one.answer == "error" and one.rater == "anna" for one in store.labels()) - _moved(store)
    for one in errors:
        assert not_none(one.marks[0].box) == pytest.approx((4.5, 8, 20, 24))
        assert (one.marks[0].region, one.marks[0].kind) == ("hands", "extra") and len(one.marks) == 2
    assert {one.rater for one in labels} == {"elsewhere"} and {one.plan for one in labels} == {None}
    other.close()
    page = api.report(run.folder, labels=[tmp_path / "other.sqlite"])
    assert "imported labels, taken as a random part" in page.read_text()


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet"])
def test_answers_of_several_raters_and_turns_come_back_as_theirs(
    run: Run, store: LabelStore, tmp_path: Path, name: str
) -> None:
    given = LabelStore(tmp_path / "given.sqlite")
    given.add_pictures(store.pictures().values())
    for place, label in enumerate(store.labels()):
        given.add(f"event-{place:04}", replace(label, plan=None))
    one = next(label for label in given.labels() if label.rater == "anna")
    given.add("event-again", replace(one, turn="again", answer="unsure", marks=()))
    given.add("event-settled", replace(one, rater="ben", turn="settled", answer="good", marks=()))

    def said(labels: LabelStore) -> set[tuple[object, ...]]:
        return {(one.item, one.rater, one.turn, one.answer, one.marks) for one in labels.labels()}

    to_table(given, tmp_path / name, answers=True, names=True)
    other = LabelStore(tmp_path / "other.sqlite")
    found = labels_of_file(tmp_path / name, [run], "elsewhere")
    assert import_labels(other, found) == 122 and import_labels(other, found) == 0
    assert said(other) == said(given)
    numbered = LabelStore(tmp_path / "numbered.sqlite")
    to_table(given, tmp_path / name, answers=True)
    import_labels(numbered, labels_of_file(tmp_path / name, [run], "elsewhere"))
    assert {one.rater for one in numbered.labels()} == {"rater 1", "rater 2"}
    assert agreement(numbered.labels(), {})[0].alpha == agreement(given.labels(), {})[0].alpha


def _moved(store: LabelStore) -> int:
    """Errors by anna that ben does not see."""
    good = {one.item for one in store.labels() if one.rater == "ben" and one.answer == "good"}
    return sum(one.rater == "anna" and one.answer == "error" and one.item in good for one in store.labels())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "image,label\nnone.png,good\n", "none.png is no image of"),
        ("a.csv", "image,label\np00/0.png,fine\n", "line 2: 'fine' is not a label"),
        ("a.csv", "image,label\np00/0.png,good\np00/0.png,bad\n", "has a label of rater already; leave out one"),
        ("a.csv", "image,label,rater\np00/0.png,good,ann\np00/0.png,bad,ann\n", "has a label of ann already"),
        ("a.csv", "image,label,turn\np00/0.png,good,second\n", "line 2: 'second' is not a turn; use first, again"),
        ("a.csv", f"image,label,rater\np00/0.png,good,{'a' * 61}\n", "line 2: the rater's name has more than 60"),
        ("a.csv", "picture\nx\n", "columns image and label"),
        ("a.json", '{"images": 3}', "the labels cannot be read"),
        ("a.json", "[1, 2]", "the labels cannot be read"),
        ("a.json", "nonsense", "the labels cannot be read"),
        ("a.txt", "", "labels are read from"),
    ],
)
def test_files_that_are_no_labels_are_refused_whole(
    run: Run, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    store = LabelStore(tmp_path / "l.sqlite")
    with pytest.raises(HafError, match=said):
        import_labels(store, labels_of_file(tmp_path / name, [run], "rater"))
    assert store.labels() == []


def test_a_refused_file_leaves_no_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\nnone.png,good\n")
    words = ["labels", "import", str(tmp_path / "l.sqlite"), str(tmp_path / "a.csv"), "--run", str(run.folder)]
    assert isinstance(CliRunner().invoke(app, words).exception, HafError)
    assert not (tmp_path / "l.sqlite").exists()


def test_coco_has_boxes_by_region_and_kind(store: LabelStore, tmp_path: Path) -> None:
    to_coco(store, tmp_path / "coco.json")
    content = json.loads((tmp_path / "coco.json").read_text())
    assert {one["name"] for one in content["categories"]} == {"hands extra", "error"}
    first = content["annotations"][0]
    assert first["bbox"] == [4.5, 8, 15.5, 16] and first["area"] == pytest.approx(248)
    assert {(one["width"], one["height"]) for one in content["images"]} == {(48, 32)}


def test_examples_are_those_that_a_judge_is_shown(store: LabelStore, tmp_path: Path) -> None:
    assert to_examples(store, tmp_path / "examples", 3) == 6
    found = read_examples(tmp_path / "examples")
    assert [label for label, _, _ in found.pictures] == ["good"] * 3 + ["bad"] * 3
    with pytest.raises(HafError, match="ask for at most as many"):
        to_examples(store, tmp_path / "more", 50)


def test_a_card_by_peoples_labels(run: Run, store: LabelStore, tmp_path: Path) -> None:
    made = api.calibrate(None, "hands", store=store.path, run=run.folder, out=tmp_path / "card.json")
    assert made.card.bad + made.card.good == 56
    assert (made.card.sensitivity.estimate, made.card.specificity.estimate) == (1, 1)
    assert [(row.region, row.kind) for row in made.card.kinds] == [("hands", None), ("hands", "extra")]
    with pytest.raises(HafError, match="Give one of"):
        api.calibrate("labels.csv", "hands", store=store.path)


def test_an_active_choice_is_not_for_cards(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite", choose="active", number=20)
    session, _ = start(asked)
    for place, entry in enumerate(session.store.entries(session.plan)):
        session.store.add(f"event-{place:03}", Label(entry.item, "rater", "first", "good", plan=session.plan))
    with pytest.raises(HafError, match="not drawn by the scorers' doubts"):
        api.calibrate(None, "hands", store=session.store.path, run=run.folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Other images under the same names."""
    return pictured_run(tmp_path_factory.mktemp("other") / "b", WORDS, name="bb")


def test_labels_of_one_run_are_not_taken_for_anothers(run: Run, other: Run, store: LabelStore, tmp_path: Path) -> None:
    to_table(store, tmp_path / "labels.csv")
    with pytest.raises(HafError, match="the labels are of another run"):
        api.calibrate(tmp_path / "labels.csv", "hands", run=other.folder, out=tmp_path / "card.json")
    empty = LabelStore(tmp_path / "empty.sqlite")
    for name, write in (("labels.csv", to_table), ("coco.json", to_coco), ("studio.json", to_label_studio)):
        write(store, tmp_path / name)
        with pytest.raises(HafError, match="but another one of that name"):
            import_labels(empty, labels_of_file(tmp_path / name, [other], "anna"))
    assert empty.labels() == []
    # With both runs the SHA-256 says which image is meant, whichever comes first; a name does not.
    assert import_labels(empty, labels_of_file(tmp_path / "labels.csv", [other, run], "anna")) == 60
    assert {one.item for one in empty.labels()} <= set(run.records["sha256"])
    (tmp_path / "names.csv").write_text("image,label\np00/0.png,good\n")
    with pytest.raises(HafError, match="an image of several of these runs"):
        import_labels(empty, labels_of_file(tmp_path / "names.csv", [other, run], "anna"))
    assert import_labels(empty, labels_of_file(tmp_path / "names.csv", [other], "anna")) == 1


def test_what_a_rater_says_last_is_imported(run: Run, tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "l.sqlite")
    for said, new in (("good", 1), ("good", 0), ("bad", 1), ("good", 1), ("good", 0)):
        (tmp_path / "a.csv").write_text(f"image,label\np00/0.png,{said}\n")
        assert import_labels(store, labels_of_file(tmp_path / "a.csv", [run], "anna")) == new
        assert [one.bad for one in store.labels()] == [said == "bad"]


def test_an_image_that_was_replaced_since_it_was_labelled_is_not_used(tmp_path: Path) -> None:
    run = pictured_run(tmp_path / "a", {"p": "esess"})
    session, _ = start(Labelling((run.folder,), again=0))
    for place, entry in enumerate(session.store.entries(session.plan)):
        said = "error" if place % 2 else "good"
        session.store.add(f"event-{place:03}", Label(entry.item, "rater", "first", said, plan=session.plan))
    to_table(session.store, tmp_path / "labels.csv")
    (run.folder / "images" / "p" / "0.png").write_bytes((run.folder / "images" / "p" / "1.png").read_bytes())
    with pytest.raises(HafError, match="not the image that was scored any more"):
        to_examples(session.store, tmp_path / "examples", 2)
    with pytest.raises(HafError, match="not the image that was scored any more"):
        api.calibrate(None, "digits", store=session.store.path, out=tmp_path / "card.json")
    with pytest.raises(HafError, match="not the image that was scored any more"):
        [one.read() for one in read_labels(tmp_path / "labels.csv", run.source)]


def test_files_say_how_images_were_drawn_and_an_active_choice_is_for_no_card(run: Run, tmp_path: Path) -> None:
    choices: tuple[tuple[Choose, int], ...] = (("active", 30), ("random", 20))
    for choose, number in choices:
        session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite", choose=choose, number=number))
        for entry in session.store.entries(session.plan):
            label = Label(entry.item, "rater", "first", "good", plan=session.plan)
            session.store.add(f"event-{entry.item[:16]}-{choose}", label)
    equal = {entry.item for entry in session.store.entries(session.plan)}
    to_table(session.store, tmp_path / "labels.csv")
    table = pd.read_csv(tmp_path / "labels.csv")
    assert set(table[table["choice"] == "random"]["sha256"]) == equal
    assert table["choice"].value_counts()["active"] == len(table) - 20 > 0
    assert table[table["choice"] == "random"]["chance"].to_numpy() == pytest.approx(20 / 60)
    assert {one.sha256 for one in read_labels(tmp_path / "labels.csv", run.source)} == equal
    table[table["choice"] == "active"].assign(choice=" Active").to_csv(tmp_path / "active.csv")
    with pytest.raises(HafError, match="doubts chose all its images"):
        read_labels(tmp_path / "active.csv", run.source)
    for name, write in (("labels.csv", to_table), ("coco.json", to_coco), ("studio.json", to_label_studio)):
        write(session.store, tmp_path / name)
        with pytest.raises(HafError, match="drawn by the scorers' doubts, and would count as drawn at random"):
            import_labels(LabelStore(tmp_path / "other.sqlite"), labels_of_file(tmp_path / name, [run], "rater"))


def test_a_task_skipped_in_label_studio_has_no_label(tmp_path: Path) -> None:
    skipped: dict[str, Any] = {"was_cancelled": True, "result": []}
    bad = {"result": [{"type": "choices", "value": {"choices": ["bad"]}}]}
    tasks = [{"data": {"image": f"{n}.png"}, "annotations": own} for n, own in enumerate([[skipped], [skipped, bad]])]
    path = tmp_path / "studio.json"
    path.write_text(json.dumps(tasks))
    assert [(one.image, one.answer) for one in read_file(path)] == [("1.png", "error")]
    path.write_text(json.dumps([{"data": {"image": "0.png"}, "annotations": [bad, bad]}]))
    with pytest.raises(HafError, match="task 1: it has 2 annotations"):
        read_file(path)


def test_agreement_is_the_libraries(store: LabelStore) -> None:
    labels = store.labels()
    (found,) = agreement(labels, {})
    table = pd.DataFrame([(one.rater, one.item, {"good": 0, "error": 1}.get(one.answer)) for one in labels])
    values = table.pivot(index=0, columns=1, values=2).to_numpy(dtype=float)
    expected = krippendorff.alpha(values, level_of_measurement="nominal")
    assert found.alpha.estimate == pytest.approx(expected)
    assert not_none(found.alpha.low) < not_none(found.alpha.estimate) < not_none(found.alpha.high)
    assert (found.alpha.raters, found.alpha.items, found.disputed) == (2, 59, 3)
    ((one, other, kappa),) = found.between
    assert {one, other} == {"anna", "ben"} and kappa.n == 59 and kappa.agree == pytest.approx(56 / 59)
    assert found.within == () and {rater.seconds for rater in found.raters} == {3.0}


def agreeing(*answers: Sequence[bool] | np.ndarray) -> Alpha:
    """The alpha of raters who answered so, each image of a prompt of its own."""
    labels = [
        Label(f"{k:064x}", f"rater {number}", "first", "error" if bad else "good")
        for number, own in enumerate(answers)
        for k, bad in enumerate(own)
    ]
    (found,) = agreement(labels, {})
    return found.alpha


@pytest.mark.parametrize("raters", [2, 3])
def test_full_agreement_on_a_few_images_is_not_certain(raters: int) -> None:
    found = agreeing(*[[True, False, False]] * raters)
    # Wilson's lower bound of 3 of 3 is 3 / (3 + 1.96²); alpha is 1 - disagreement seen / disagreement by chance.
    counts = np.array([raters, 2 * raters])
    by_chance = 2 * counts.prod() / (counts.sum() * (counts.sum() - 1))
    assert found.low == pytest.approx(1 - (1 - 3 / (3 + 1.96**2)) / by_chance, abs=1e-3)
    assert (found.estimate, found.high) == (1.0, 1.0)
    many = [True] * 10 + [False] * 20
    assert not_none(agreeing(*[many] * raters).low) > 0.5 > not_none(found.low)


def test_the_interval_of_alpha_holds_the_truth_with_ten_prompts() -> None:
    """Errors are 30 %, and each of two raters is wrong about 10 %."""
    rng, held = np.random.default_rng(0), 0
    bad = 0.3 * 0.9 + 0.7 * 0.1
    expected = 1 - 0.1 * 0.9 / (bad * (1 - bad))
    for _ in range(100):
        truth = rng.random(10) < 0.3
        found = agreeing(*(truth ^ (rng.random(10) < 0.1) for _ in range(2)))
        held += found.low is None or found.low <= expected <= not_none(found.high)
    assert held >= 95


def test_a_rater_who_sees_images_again_agrees_with_themselves() -> None:
    turns: tuple[Turn, ...] = ("first", "again")
    said = [(f"{k:064x}", turn, "error" if k % 3 else "good") for k in range(9) for turn in turns]
    labels = [Label(item, "anna", turn, answer) for item, turn, answer in said]
    labels[1] = Label(labels[1].item, "anna", "again", "error")
    (found,) = agreement(labels, {})
    ((rater, kappa),) = found.within
    assert rater == "anna" and kappa.n == 9 and kappa.agree == pytest.approx(8 / 9)
    assert found.alpha.estimate is None and found.between == ()
    assert np.isfinite(not_none(kappa.estimate))


def test_the_commands(run: Run, store: LabelStore, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        done = CliRunner().invoke(app, ["labels", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    path = str(store.path)
    text = said("summary", path, "--run", str(run.folder))
    for words in ("Krippendorff's alpha of 2 raters on 59 images", "Cohen's kappa of anna and ben", "To be settled: 3"):
        assert words in text
    assert "56 of 60 images have a clear label" in text
    values = json.loads(said("summary", path, "--json"))
    assert values["agreement"][0]["alpha"]["items"] == 59
    assert "60 labels" in said("export", path, "--to", str(tmp_path / "a.csv"))
    assert "60 new labels" in said(
        "import", str(tmp_path / "b.sqlite"), str(tmp_path / "a.csv"), "--run", str(run.folder)
    )
