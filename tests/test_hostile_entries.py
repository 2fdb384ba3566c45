"""Leaderboard entries with false figures, or changed anywhere: what is false is found, and what is not builds."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from damaging import BOUNDED, SCORERS, SHAPES, changed_at, places
from hafbench.calibration import make_card
from hafbench.cards import write_card
from hafbench.errors import HafError
from hafbench.evaluate import evaluate
from hafbench.labelled import read_labels
from hafbench.leaderboard import Entry, make_entry, tables, validate, write_entry
from hafbench.records import Sample
from hafbench.reports.board import build_board
from hafbench.runs import open_run
from hafbench.suites import load_suite
from hafbench.verdicts import judged_by_run
from small import manifest_of


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
