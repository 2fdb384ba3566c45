"""Labels by people: what is kept, who is shown what and in which order, and how raters come to agree."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from commands import command
from hafbench.errors import HafError
from hafbench.labelling.answers import Given, Label, Mark
from hafbench.labelling.consensus import consensus, disputed
from hafbench.labelling.sampling import PlanSpec, draw, draw_plan, inclusion
from hafbench.labelling.session import GAP, Refused, Session
from hafbench.labelling.start import Labelling, start
from hafbench.runs import Run
from labelling import WORDS, pictured_run
from small import not_none


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)


def answer(session: Session, rater: str, tab: str, number: int, said: str | None = None) -> str | None:
    """Give one answer as a page would; the item, or None where there is nothing left."""
    task = session.next(rater, tab).task
    if task is None:
        return None
    given = Given.model_validate(
        {"id": f"{rater}-{tab}-{number:05}", "item": task.item, "turn": task.turn, "rater": rater}
        | {"answer": said or "good", "seconds": 1}
    )
    assert session.give(given) and not session.give(given)
    return task.item


def test_each_image_once_the_shared_ones_by_everybody_and_some_again(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite", raters=("a", "b"), shared=0.2, again=0.1)
    session, _ = start(asked)
    items: dict[str, list[str]] = {"a": [], "b": []}
    for number in range(200):
        for rater in items:
            item = answer(session, rater, "tab", number)
            if item is not None:
                items[rater].append(item)
    labels = session.store.labels()
    first = Counter(one.item for one in labels if one.turn == "first")
    assert Counter(first.values()) == {1: 48, 2: 12}
    again = [one for one in labels if one.turn == "again"]
    assert 6 <= len(again) <= 12  # six images, twice where both have them
    for one in again:
        places = [index for index, item in enumerate(items[one.rater]) if item == one.item]
        assert len(places) == 2 and (places[1] - places[0] > GAP or places[1] >= len(items[one.rater]) - len(again))
    assert session.progress("a").left == session.progress("b").left == 0


def test_the_order_is_random_and_the_same_after_a_restart(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite")
    session, _ = start(asked)
    first = [answer(session, "rater", "tab", number) for number in range(5)]
    order = [entry.item for entry in session.store.entries(session.plan)]
    assert order[:5] == first and order != sorted(order)
    again, _ = start(asked)
    assert again.plan == session.plan and not_none(again.next("rater", "tab").task).item == order[5]


def test_undo_goes_back_one_by_one_and_keeps_every_line(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite", again=0))
    one, two = (answer(session, "rater", "tab", number) for number in range(2))
    assert not_none(session.undo("undo-00000", "rater").task).item == two
    assert not_none(session.undo("undo-00000", "rater").task).item == two  # sent twice, undone once
    assert not_none(session.undo("undo-00001", "rater").task).item == one
    assert session.undo("undo-00002", "rater").task is None
    assert session.store.labels() == []
    assert len(session.store.rows("SELECT * FROM labels")) == 4


def test_the_same_answer_from_two_tabs_is_one_label_the_later_one(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    item = not_none(session.next("rater", "one").task).item
    assert not_none(session.next("rater", "two").task).item != item
    for number, said in enumerate(("good", "error")):
        given = {"id": f"event-{number:04}", "item": item, "turn": "first", "rater": "rater", "answer": said}
        session.give(Given.model_validate({**given, "seconds": 1}))
    assert [one.answer for one in session.store.labels()] == ["error"]


def test_what_is_not_of_the_plan_is_refused(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    given = {"id": "event-0000", "item": "0" * 64, "turn": "first", "rater": "rater", "answer": "good", "seconds": 1}
    with pytest.raises(Refused, match="not one of those"):
        session.give(Given.model_validate(given))
    with pytest.raises(Refused, match="no rater 'eve'"):
        session.next("eve", "tab")
    for broken in ({"answer": "left"}, {"marks": [{"region": "hands"}]}, {"item": "../etc/passwd"}, {"seconds": -1}):
        with pytest.raises(ValueError, match="validation error"):
            Given.model_validate({**given, **broken})
    with pytest.raises(ValueError, match="with an area"):
        Mark(box=(5, 5, 5, 9))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"number": 5}, "give --number N with them"),
        ({"choose": "random"}, "give --number N with them"),
        ({"choose": "active", "number": 5, "target": "difference"}, "give both"),
        ({"raters": ("\x1b[31m",)}, "printable"),
        ({"choose": "active", "number": 5, "scorer": "clip"}, "no verdicts of clip; known: hands"),
    ],
)
def test_what_cannot_be_asked_is_said(run: Run, tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(HafError, match=said):
        start(Labelling(**{"runs": (run.folder,), "store": tmp_path / "l.sqlite", **wrong}))  # type: ignore[arg-type]


def test_raters_who_disagree_settle_it(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite", raters=("a", "b"), shared=1, again=0)
    session, _ = start(asked)
    for number in range(60):
        answer(session, "a", "tab", number, "good")
        answer(session, "b", "tab", number, "error" if number < 3 else "unsure" if number == 3 else "good")
    labels = session.store.labels()
    assert len(disputed(labels)) == 3
    agreed = consensus(labels)
    assert Counter(one.answer for one in agreed.values()) == {"good": 57, None: 3}
    settling, _ = start(Labelling(**{**asked.__dict__, "settling": True}))
    task = not_none(settling.next("a", "tab").task)
    assert task.turn == "settled" and {one.answer for one in task.others} == {"good", "error"}
    for number in range(3):
        answer(settling, "a", "settle", number, "error")
    assert settling.next("a", "tab").task is None
    agreed = consensus(session.store.labels())
    assert Counter(one.answer for one in agreed.values()) == {"good": 57, "error": 3}
    assert sum(one.settled for one in agreed.values()) == 3


def test_a_majority_counts_and_an_unsure_rater_does_not() -> None:
    def said(*answers: str) -> str | None:
        labels = [Label("0" * 64, f"r{place}", "first", one) for place, one in enumerate(answers)]
        return consensus(labels)["0" * 64].answer

    assert said("good", "error", "error") == "error"
    assert said("unsure", "unsure", "good") == "good"
    assert said("unsure", "unsure") == "unsure"
    assert said("good", "error", "unsure") is None


def test_chances_add_up_and_are_those_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    weights = np.r_[rng.random(50), 40.0]
    chances = inclusion(weights, 20)
    assert chances.sum() == pytest.approx(20) and chances.max() == 1
    assert np.allclose(chances[:-1] / chances[0], weights[:-1] / weights[0])
    drawn = np.array([np.isin(np.arange(51), draw(chances, rng)) for _ in range(8000)])
    assert set(drawn.sum(1)) == {20}
    error = np.sqrt(chances * (1 - chances) / len(drawn))
    assert np.all(np.abs(drawn.mean(0) - chances) <= 4.5 * error + 1e-12)


def test_every_run_gets_its_part_of_the_labels(run: Run, tmp_path: Path) -> None:
    other = pictured_run(tmp_path / "b", {f"q{number}": "es" for number in range(10)}, name="bb")
    asked = Labelling((run.folder, other.folder), store=tmp_path / "l.sqlite", choose="random", number=16)
    session, _ = start(asked)
    groups = Counter(item.pictures[0].run for item in session.items.values())
    assert groups == {"a model": 12, "bb": 4}


def test_the_command_says_what_is_wrong(run: Run) -> None:
    for words, said in (
        (["label", str(run.folder), "--choose", "some"], "--choose some: give one of all, random, active"),
        (["report", str(run.folder), "--labels"], "has no labels (labels.sqlite)"),
    ):
        done = command(*words)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_same_frame_is_the_same_plan_and_another_seed_another() -> None:
    spec = PlanSpec(frame="x")
    assert spec.name == PlanSpec(frame="x").name != PlanSpec(frame="x", seed=1).name
    assert draw_plan(spec, []) == []
