"""Labels by people in a leaderboard entry: they follow from letters, name nobody unasked, and stand apart."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hafbench.cli import app
from hafbench.labelling.answers import Label
from hafbench.labelling.estimates import people_figures
from hafbench.labelling.start import Labelling, start
from hafbench.leaderboard import Entry, make_entry, validate, write_entry
from hafbench.runs import Run
from labelling import pictured_run
from small import not_none

WORDS = {f"p{number:02}": "esu" if number % 2 else "sse" for number in range(20)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """60 images, of which an active choice of 30 is labelled, and one rater is not sure of one."""
    made = pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)
    session, _ = start(Labelling((made.folder,), choose="active", number=30, raters=("Anna Doe",)))
    hands = made.records.query("scorer == 'hands'").set_index("sha256")["is_error"]
    for place, entry in enumerate(session.store.entries(session.plan)):
        verdict = hands[entry.item]
        answer = "unsure" if place == 3 else "error" if verdict is True or (place % 7 == 0) else "good"
        session.store.add(f"event-{place:03}", Label(entry.item, "Anna Doe", "first", answer, plan=session.plan))
    return made


def entry_of(run: Run, **options: Any) -> Entry:
    return make_entry(run, "me", labels=[run.folder / "labels.sqlite"], **options)


def test_the_rates_are_those_of_the_report(run: Run, tmp_path: Path) -> None:
    entry, figures = entry_of(run), people_figures(run, [run.folder / "labels.sqlite"])
    people = not_none(entry.people)
    assert [(rater.name, rater.answers) for rater in people.raters] == [(None, 30)] and people.human.labels == 29
    assert people.human.estimate == pytest.approx(figures.human.estimate)
    assert people.powered.estimate == pytest.approx(figures.powered["hands"].estimate)
    assert (people.powered.low, people.powered.high) == pytest.approx(
        (figures.powered["hands"].low, figures.powered["hands"].high)
    )
    letters = "".join(people.labels.values())
    assert len(letters) == 60 and letters.count("-") == 30 and letters.count("u") == 1
    assert people.chances is not None
    path = write_entry(entry, tmp_path / "board")
    assert validate(tmp_path / "board") == ({path: entry}, [])


def test_a_label_that_stands_for_a_part_only_is_none(tmp_path: Path) -> None:
    """Nobody was unsure: "u" says that somebody was, or that they disagree."""
    words = dict.fromkeys(WORDS, "ess")
    part = pictured_run(tmp_path / "part", dict(list(words.items())[:10]))
    whole = pictured_run(tmp_path / "whole", words)
    store = tmp_path / "l.sqlite"
    for made, number in ((part, 30), (whole, 12)):
        session, _ = start(Labelling((made.folder,), store=store, choose="random", number=number, again=0))
        for place, entry in enumerate(session.store.entries(session.plan)):
            event = f"event-{number}-{place:03}"
            session.store.add(event, Label(entry.item, "rater", "first", "good", plan=session.plan))
    letters = "".join(not_none(make_entry(whole, "me", labels=[store]).people).labels.values())
    assert letters.count("s") == 12 and letters.count("-") == 48


def test_nobody_is_named_unless_they_wish_it(run: Run, tmp_path: Path) -> None:
    assert "Anna" not in entry_of(run).model_dump_json()
    assert not_none(entry_of(run, rater_names=True).people).raters[0].name == "Anna Doe"
    board = tmp_path / "board"
    words = ["leaderboard", "add", str(run.folder), "--by", "me", "--labels", "--to", str(board)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["leaderboard", "build", str(board)], catch_exceptions=False)
    page = (board / "index.html").read_text()
    assert (
        done.exit_code == 0
        and "Anchored by people" in page
        and "unnamed: 30" in page
        and "29 of 60" in page
        and "Anna" not in page
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda people: people["powered"].update(estimate=people["powered"]["low"]), "estimate of the rate powered is"),
        (lambda people: people["human"].update(effective=500.0), "effective of the rate human is"),
        (lambda people: people["labels"].update(p00="ee"), "other prompts or numbers of images"),
        (lambda people: people["labels"].update(p00="eee", p01="---", p02="---"), "but its labels give"),
        (lambda people: people["chances"].update(p00=[0.0, 0.1, 0.1]), "no chance of being labelled"),
        (lambda people: people["raters"][0].update(answers=3), "30 images have a label, but raters gave 3"),
    ],
)
def test_rates_that_do_not_follow_from_the_labels_are_found(run: Run, tmp_path: Path, change: Any, said: str) -> None:
    values = json.loads(entry_of(run).model_dump_json())
    change(values["people"])
    (tmp_path / "a.json").write_text(json.dumps(values))
    _, problems = validate(tmp_path)
    assert len(problems) == 1 and said in problems[0]
