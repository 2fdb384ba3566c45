"""What labels by people say of runs: rates that undo how images were chosen, in reports and comparisons."""

import json
from pathlib import Path

import numpy as np
import pytest

from hafbench import api
from hafbench.comparison.tables import to_latex
from hafbench.errors import HafError
from hafbench.labelling.answers import Given
from hafbench.labelling.drawn import reached, weights_of
from hafbench.labelling.estimates import labels_of, people_figures
from hafbench.labelling.exchange import labels_for_calibration
from hafbench.labelling.frame import Item
from hafbench.labelling.sampling import PlanSpec, draw_plan
from hafbench.labelling.session import Session
from hafbench.labelling.start import Labelling, start
from hafbench.labelling.store import Entry, LabelStore, Picture
from hafbench.runs import Run, read_run
from hafbench.statistics import LabelledImages, error_rate, labelled_difference, labelled_rate, prediction_powered_rate
from labelling import WORDS, pictured_run
from small import not_none


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)


def label_as_the_scorer(session: Session, run: Run, rater: str, most: int = 1000) -> None:
    """Label what comes as the scorer sees it."""
    hands = run.records.query("scorer == 'hands'")
    truth = dict(zip(hands["sha256"], hands["is_error"], strict=True))
    for number in range(most):
        task = session.next(rater, "tab").task
        if task is None:
            return
        said = "error" if truth[task.item] else "good"
        marks = [{"region": "hands", "kind": "extra", "box": [1, 2, 10, 12]}] if said == "error" else []
        session.give(
            Given.model_validate(
                {"id": f"{session.plan}-{number:07}", "item": task.item, "turn": task.turn, "rater": rater}
                | {"answer": said, "seconds": 2.5, "marks": marks}
            )
        )


def test_labels_alone_and_with_verdicts_of_equal_chances_are_the_known_ones() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(400) < 0.3
    verdicts = np.where(rng.random(400) < 0.9, truth, ~truth)
    labels = np.where(np.arange(400) % 4 == 0, truth, np.nan)
    alone, rate = labelled_rate(LabelledImages(labels, range(400))), error_rate(labels, range(400))
    assert (alone.estimate, alone.low, alone.high, alone.effective) == (
        rate.estimate,
        rate.low,
        rate.high,
        rate.effective,
    )
    found = labelled_rate(LabelledImages(labels, range(400), verdicts, np.full(400, 0.25)))
    powered = prediction_powered_rate(labels, verdicts, range(400))
    assert (found.estimate, found.low, found.high) == pytest.approx((powered.estimate, powered.low, powered.high))
    assert not_none(found.effective) > 1.5 * not_none(alone.effective)


@pytest.mark.parametrize(("images", "labelled", "share"), [(1000, 20, 0.3), (2000, 100, 0.05)])
def test_few_labels_that_agree_do_not_make_the_verdicts_certain(images: int, labelled: int, share: float) -> None:
    """Labels that never contradict a verdict are often all there are: the interval must hold the truth then, too."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        truth = rng.random(images) < share
        verdicts = np.where(truth, rng.random(images) < 0.8, rng.random(images) < 0.01)
        labels = np.where(rng.permutation(images) < labelled, truth, np.nan)
        found = labelled_rate(LabelledImages(labels, np.arange(images) // 4, verdicts))
        held += not_none(found.low) <= share <= not_none(found.high)
    assert held >= 184


def test_one_label_of_a_model_shows_no_difference() -> None:
    truth = np.arange(40) % 4 == 0
    one = LabelledImages([0.0] + [None] * 39, range(40))
    refused = labelled_difference(one, LabelledImages(truth, range(40)))
    assert refused.low is None and "of each model" in not_none(refused.reason)
    few = LabelledImages([0.0, 0.0, 0.0] + [None] * 37, range(40))
    shown = labelled_difference(few, LabelledImages(truth, range(40)))
    assert not_none(shown.low) < 0 < not_none(shown.estimate), "three good ones of 40 can be chance"


def test_unequal_chances_are_undone() -> None:
    """By hand: of four errors one in two, of eight good images one in four was labelled."""
    labels = [1, 1, None, None] + [0, 0] + [None] * 6
    chances = [0.5] * 4 + [0.25] * 8
    found = labelled_rate(LabelledImages(labels, range(12), None, chances))
    assert found.estimate == pytest.approx(4 / 12)
    naive = labelled_rate(LabelledImages(labels, range(12)))
    assert naive.estimate == 0.5


def test_images_without_labels_tell_nothing_where_there_are_no_verdicts() -> None:
    """Also not by the number of their prompts."""
    rng = np.random.default_rng(3)
    truth, chances, prompts = rng.random(400) < 0.3, rng.uniform(0.1, 0.9, 400), np.arange(400) // 2
    known = np.arange(400) < 24

    def sides(bad: np.ndarray) -> tuple[LabelledImages, LabelledImages]:
        every = LabelledImages(np.where(known, bad, np.nan), prompts, None, chances)
        return every, LabelledImages(bad[known], prompts[known], None, chances[known])

    (one, part), (other, other_part) = sides(truth), sides(~truth)
    assert labelled_rate(one) == labelled_rate(part)
    assert labelled_difference(one, other) == labelled_difference(part, other_part)


def test_the_difference_of_runs_uses_their_common_prompts() -> None:
    rng = np.random.default_rng(2)
    prompts = np.arange(200) // 2
    common = rng.random(100)[prompts]
    one, other = common < 0.4, common < 0.5
    paired = labelled_difference(LabelledImages(one, prompts), LabelledImages(other, prompts))
    apart = labelled_difference(LabelledImages(one, prompts), LabelledImages(other, prompts + 1000))
    assert paired.estimate == apart.estimate == pytest.approx(float(other.mean() - one.mean()))
    assert not_none(paired.high) - not_none(paired.low) < 0.6 * (not_none(apart.high) - not_none(apart.low))


def test_an_active_choice_is_undone_in_the_report_of_the_run(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, choose="active", number=30, again=0))
    label_as_the_scorer(session, run, "rater")
    found = labels_of(run, [store])
    chances = {entry.item: entry.probability for entry in session.store.entries(session.plan)}
    assert len(chances) == 30 and len(set(chances.values())) > 1
    known = {sha: chance for sha, chance in zip(found.rows["sha256"], found.chances, strict=True) if sha in chances}
    assert known.keys() == chances.keys()
    assert np.ptp([known[sha] / chances[sha] for sha in chances]) == pytest.approx(0, abs=1e-9)
    figures = people_figures(run, [store])
    assert figures.clear == 30 and figures.raters == {"rater": 30}
    # Labels are the verdicts: what was not labelled is known, too.
    assert figures.powered["hands"].estimate == pytest.approx(1 / 3, abs=1e-6)
    assert figures.chosen == ("drawn more often where the scorers had doubts",)


def test_a_part_of_a_plan_stands_for_all_of_it(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, again=0))
    label_as_the_scorer(session, run, "rater", most=20)
    found = labels_of(run, [store])
    assert np.allclose(found.chances, 20 / 60) and np.isfinite(found.bad).sum() == 20


def test_labels_drawn_from_a_part_of_a_run_do_not_stand_for_the_rest(run: Run, tmp_path: Path) -> None:
    """As after `run --limit`, labels, and then the whole run."""
    part = pictured_run(tmp_path / "part", dict(list(WORDS.items())[:5]))
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((part.folder,), store=store, again=0))
    label_as_the_scorer(session, part, "rater")
    images = set(part.records["sha256"])
    assert images < set(run.records["sha256"])
    assert people_figures(part, [store]).clear == len(images)
    assert np.isfinite(labels_of(run, [store], among=images).bad).sum() == len(images)
    with pytest.raises(HafError, match="drawn from a part of its images"):
        people_figures(run, [store])
    session, _ = start(Labelling((run.folder,), store=store, again=0))
    label_as_the_scorer(session, run, "rater", most=10)
    found = people_figures(run, [store])
    reached = {one for plan in labels_of(run, [store]).plans for one in plan.reached}
    # The first ones of the whole run's random order, whichever session asked for them.
    assert found.clear == len(reached) and 10 < len(reached) < 10 + len(images)


def test_what_is_counted_of_labels_is_of_those_that_stand_for_the_run(tmp_path: Path) -> None:
    """As after all labels of a first part with many errors, and a few of the whole suite."""
    words = dict.fromkeys(list(WORDS)[:10], "ees") | dict.fromkeys(list(WORDS)[10:], "sss")
    part = pictured_run(tmp_path / "part", dict(list(words.items())[:10]))
    whole = pictured_run(tmp_path / "whole", words)
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((part.folder,), store=store, again=0))
    label_as_the_scorer(session, part, "rater")
    session, _ = start(Labelling((whole.folder,), store=store, choose="random", number=12, again=0))
    label_as_the_scorer(session, whole, "rater")
    assert people_figures(part, [store]).errors == 20
    drawn = {entry.item for entry in session.store.entries(session.plan)}
    hands = whole.records.query("scorer == 'hands'").set_index("sha256")
    figures = people_figures(whole, [store])
    assert figures.clear == len(drawn) == 12
    assert figures.errors == hands.loc[list(drawn), "is_error"].sum()
    assert figures.human.estimate == pytest.approx(figures.errors / figures.clear)
    assert figures.kinds == (("hands", "extra", figures.errors),)
    assert sum(figures.raters.values()) == 12, "answers to other images say nothing of the run"


def items_of(chances: list[float]) -> list[Item]:
    """Images of one run of which a scorer says these chances of an error."""
    keys = [f"{place:064x}" for place in range(len(chances))]
    facts = ("p", "a", None, None, None, None)
    pictures = [Picture(key, "run", "run", f"{key}.png", *facts) for key in keys]
    return [Item(one.sha256, "run", (one,), (chance,)) for one, chance in zip(pictures, chances, strict=True)]


def label_in_order(entries: list[Entry], answered: dict[str, int], plan: int, most: int) -> None:
    """As a session does: in the plan's order, passing over what was answered for another plan."""
    for entry in [one for one in entries if one.item not in answered][:most]:
        answered[entry.item] = plan


def test_plans_of_different_chances_are_undone_together() -> None:
    """Half of the images are sure to be good, of the others half are bad; raters stop before a plan's end, or not.

    The rates of the two halves differ most where the scorer's doubts choose, so a wrong weight shows at once: with the
    chance of an image taken as 0 in a plan that did not draw it, the mean estimate was 22 % in place of 25 %.
    """
    items = items_of([0.0, 0.5] * 100)
    keys = [one.key for one in items]
    rng = np.random.default_rng(0)
    plans = [("active", 40, 40), ("active", 80, 40), ("random", 60, 25), ("all", None, 10)]
    estimates, held, cards, simulations = [], 0, [], 400
    for seed in range(simulations):
        bad = (np.arange(200) % 2 == 1) & (rng.random(200) < 0.5)
        answered: dict[str, int] = {}
        drawn = []
        for place, (choose, number, most) in enumerate(plans):
            spec = PlanSpec.model_validate({"choose": choose, "number": number, "seed": seed, "frame": "x"})
            drawn.append(draw_plan(spec, items))
            label_in_order(drawn[place], answered, place, most)
        found = [
            reached(entries, {item for item, plan in answered.items() if plan == place}, answered.keys())
            for place, entries in enumerate(drawn)
        ]
        assert set().union(*found) == answered.keys()
        equal = found[2] | found[3]
        weights = weights_of(keys, np.ones(200), [dict.fromkeys(equal, 1.0), *found[:2]])
        labels = np.where(weights > 0, bad, np.nan)
        chances = 1 / np.where(weights > 0, weights, 1.0)
        rate = labelled_rate(LabelledImages(labels, keys, None, chances))
        estimates.append(not_none(rate.estimate))
        held += not_none(rate.low) <= 0.25 <= not_none(rate.high)
        # What a card is made of: those images alone are a random part, too.
        cards.append(np.mean([bad[keys.index(item)] for item in equal]))
    for values in (estimates, cards):
        assert abs(np.mean(values) - 0.25) < 3 * np.std(values) / simulations**0.5
    assert 0.92 <= held / simulations <= 0.985


def test_a_random_plan_after_an_active_one_is_a_random_part(run: Run, tmp_path: Path) -> None:
    """The session passes over what the active plan has: those images are of the random part, whoever asked for them."""
    store = tmp_path / "l.sqlite"
    active, _ = start(Labelling((run.folder,), store=store, choose="active", number=30, again=0))
    label_as_the_scorer(active, run, "rater")
    equal, _ = start(Labelling((run.folder,), store=store, choose="random", number=20, again=0))
    label_as_the_scorer(equal, run, "rater")
    wanted = {entry.item for entry in equal.store.entries(equal.plan)}
    mine = {label.item for label in equal.store.labels() if label.plan == equal.plan}
    assert mine < wanted  # some of the random ones were labelled before
    assert {not_none(one.sha256) for one in labels_for_calibration(equal.store, run)} == wanted
    found = labels_of(run, [store])
    assert np.isfinite(found.bad).sum() == 30 + len(mine) and len(found.plans) == 2
    # Labels are the verdicts.
    assert people_figures(run, [store]).powered["hands"].estimate == pytest.approx(1 / 3, abs=1e-6)


def test_the_report_and_its_summary_have_both_rates(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, again=0, raters=("<b>anna</b>",)))
    label_as_the_scorer(session, run, "<b>anna</b>", most=30)
    page = api.report(run.folder, labels=[store])
    text = page.read_text()
    assert "images with an error, by their labels" in text and "prediction-powered" in text
    assert "30 of 60 images have a clear label" in text and "anna" not in text
    assert "By people: 30 of 60 images" in page.with_name("report.md").read_text()
    people = json.loads(page.with_name("summary.json").read_text())["people"]
    assert people["raters"] == 1 and people["clear"] == 30 and people["gained"] > 0
    assert people["powered"]["hands"]["estimate"] == pytest.approx(1 / 3, abs=0.01)
    assert "by their labels" not in api.report(run.folder).read_text()


def test_a_comparison_by_labels_and_by_pairs(tmp_path: Path) -> None:
    words = {f"p{number:02}": "es" for number in range(12)}
    baseline = pictured_run(tmp_path / "a", words, name="a")
    candidate = pictured_run(tmp_path / "b", {**dict.fromkeys(words, "ss"), "p00": "es", "p01": "ee"}, name="bb")
    store = tmp_path / "l.sqlite"
    session, runs = start(Labelling((baseline.folder, candidate.folder), store=store, again=0))
    both = [(one, run) for run in runs for one in run.records.query("scorer == 'hands'").to_dict("records")]
    truth = {one["sha256"]: bool(one["is_error"]) for one, _ in both}
    number = 0
    while (task := session.next("rater", "tab").task) is not None:
        given = {"id": f"event-{number:05}", "item": task.item, "turn": task.turn, "rater": "rater", "seconds": 1}
        session.give(Given.model_validate({**given, "answer": "error" if truth[task.item] else "good"}))
        number += 1
    pairs, _ = start(Labelling((baseline.folder,), candidate.folder, store=store, again=0))
    while (task := pairs.next("rater", "tab").task) is not None:
        bad = [truth[one.sha256] for one in task.images]
        said = "tie" if bad[0] == bad[1] else "right" if bad[0] else "left"
        given = {"id": f"event-{number:05}", "item": task.item, "turn": task.turn, "rater": "rater", "seconds": 1}
        pairs.give(Given.model_validate({**given, "answer": said}))
        number += 1
    found = api.compare([baseline.folder, candidate.folder], labels=[store], out=tmp_path / "page")
    (people,) = found.people
    assert people.human and people.powered and people.pairs
    # 12 errors of 24 become 3 of 24: 11 - 1 = 10 pairs won, one lost.
    assert people.human.estimate == pytest.approx(-9 / 24) and people.human.labels == (24, 24)
    assert (people.pairs.wins.win, people.pairs.wins.lose) == (10, 1)
    assert people.pairs.wins.mcnemar == pytest.approx(2 * (1 + 11) / 2**11)
    assert not_none(people.human.p_value) < 0.05
    text = not_none(found.page).read_text()
    assert (
        "By people" in text and "sign test" in text and "pairs (1 rater)" in text and "chose the left image in" in text
    )
    latex = to_latex(found)
    assert "people, labels alone" in latex and "No p by people is corrected for several candidates." in latex
    turned = api.compare([candidate.folder, baseline.folder], labels=[store], out=tmp_path / "turned")
    assert not_none(turned.people[0].pairs).wins.lose == 10


def test_a_store_without_labels_of_the_run_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(HafError, match="does not exist; give them with `hafbench label`"):
        api.report(run.folder, labels=[tmp_path / "none.sqlite"])
    LabelStore(tmp_path / "empty.sqlite").close()
    with pytest.raises(HafError, match="holds no label yet"):
        api.report(run.folder, labels=[tmp_path / "empty.sqlite"])
    (tmp_path / "other.sqlite").write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(HafError, match="cannot be used"):
        api.report(run.folder, labels=[tmp_path / "other.sqlite"])


def test_a_run_that_is_read_again_keeps_its_labels(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    label_as_the_scorer(session, run, "rater", most=5)
    assert people_figures(read_run(run.folder), [tmp_path / "l.sqlite"]).clear == 5
