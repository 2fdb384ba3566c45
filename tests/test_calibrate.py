"""Calibration: figures against scipy and scikit-learn, labels of every form, cards that travel with runs."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from typer.testing import CliRunner

from hafbench import api
from hafbench.calibration import make_card, powered
from hafbench.cards import SHIPPED, CalibrationCard, attach_cards, cards_of, identity_of, read_card, write_card
from hafbench.cli import app
from hafbench.cli.calibrate import _print
from hafbench.errors import HafError
from hafbench.evaluate import describe
from hafbench.figures import all_figures
from hafbench.labelled import read_labels, render_world
from hafbench.reports import build_report
from hafbench.runs import Run
from hafbench.specs import RunSpec, ScoreSpec
from hafbench.types import Score
from hafbench.verdicts import Judged, judge, judged_by_run
from hafbench.worlds import built_in
from small import Painted, a_scorer, coloured_run, facts, not_none

FLOATS = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 2))
Labelled = list[tuple[float, bool]]


def judged(values: list[float], bad: list[bool], **fields: Any) -> list[Judged]:
    return [
        Judged(
            str(i),
            is_bad,
            fields.get("source"),
            fields["prompts"][i] if "prompts" in fields else None,
            value,
            value >= 0.5,
            64.0,
            fields["sharpness"][i] if "sharpness" in fields else float(i % 7),
            pixels=fields["pixels"][i] if "pixels" in fields else None,
        )
        for i, (value, is_bad) in enumerate(zip(values, bad, strict=True))
    ]


def test_a_threshold_lies_between_the_values_that_there_are() -> None:
    """A judge of five samples has values in steps of .2; what is printed can be typed."""
    values = [1.0, 0.8, 0.8, 0.6, 0.8, 0.6, 0.4, 0.2, 0.2, 0.0]
    card = make_card(judged(values, [True] * 4 + [False] * 6), "judge", facts("1"), made_on="x", false_alarms=[0.01])
    assert (card.operating[0].threshold, card.operating[0].sensitivity.estimate) == (0.9, 0.25)


def test_a_card_by_hand() -> None:
    values = [0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.3, 0.1]
    bad = [True, True, True, True, False, False, False, False]
    card = make_card(judged(values, bad), "digits", facts("1"), made_on="numbers")
    assert (card.flagged_bad, card.bad, card.passed_good, card.good) == (3, 4, 3, 4)
    assert (card.sensitivity.low, card.sensitivity.high) == pytest.approx(proportion_confint(3, 4, method="wilson"))
    # Of 16 pairs (bad, good) the bad image is the higher one in 14: 0.2 is below 0.6 and 0.3.
    assert card.auroc.estimate == pytest.approx(14 / 16)
    assert card.baselines["size"].estimate == 0.5


@given(st.lists(st.tuples(FLOATS, st.booleans()), min_size=8, max_size=80), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_threshold_keeps_its_false_alarms_and_a_lower_one_would_not(data: Labelled, rate: float) -> None:
    values, bad = [v for v, _ in data], [t for _, t in data]
    if min(sum(bad), len(bad) - sum(bad)) < 2:
        return
    card = make_card(judged(values, bad), "digits", facts("1"), made_on="numbers", false_alarms=[rate])
    good = np.array(values)[~np.array(bad)]
    threshold = card.operating[0].threshold
    assert (good >= threshold).mean() <= rate
    assert (good >= good[good < threshold].max()).mean() > rate
    assert card.operating[0].specificity.estimate == pytest.approx(1 - (good >= threshold).mean())


def test_sharpness_that_does_as_well_is_seen_in_the_baseline() -> None:
    rng = np.random.default_rng(0)
    bad = (np.arange(200) % 2 == 0).tolist()
    sharpness = [-float(b) + rng.normal() * 0.1 for b in bad]
    card = make_card(judged(rng.random(200).tolist(), bad, sharpness=sharpness), "d", facts("1"), made_on="numbers")
    assert not_none(card.baselines["sharpness"].estimate) > 0.95 > not_none(card.auroc.high)
    assert {stratum.by for stratum in card.strata} == {"sharpness"}


def test_the_size_to_beat_is_that_of_what_was_judged() -> None:
    """All images are of one size; the bad hands are the small ones."""
    bad = (np.arange(200) % 2 == 0).tolist()
    values = np.random.default_rng(0).random(200).tolist()
    pixels: list[float | None] = [60.0 + i if is_bad else 400.0 + i for i, is_bad in enumerate(bad)]
    card = make_card(judged(values, bad, pixels=pixels), "hands", facts("1"), made_on="numbers")
    assert set(card.baselines) == {"judged size", "sharpness"}
    assert card.baselines["judged size"].estimate == 1.0
    assert {stratum.by for stratum in card.strata} == {"judged size", "sharpness"}
    # Where one is missing, sizes of hands and of images would be mixed.
    card = make_card(judged(values, bad, pixels=[None, *pixels[1:]]), "hands", facts("1"), made_on="numbers")
    assert card.baselines["size"].estimate == 0.5


class Sized(Painted):
    """Says how large what it judged is: smaller where the picture is red."""

    def score(self, image: np.ndarray, prompt: object) -> Score:
        return replace(super().score(image, None), measures={"pixels": 90 - float(image[..., 0].mean()) / 10})


def test_the_size_of_what_was_judged_comes_from_the_scorer_or_from_the_records(tmp_path: Path) -> None:
    run = coloured_run(tmp_path / "run", {"a": "esesu", "b": "essue"}, scorers={"hands": Sized()})
    labels = tmp_path / "labels.csv"
    rows = [f"a/{i}.png,{'bad' if i % 2 == 0 else 'good'}" for i in range(5)] + ["b/0.png,bad", "b/1.png,good"]
    labels.write_text("image,label\n" + "\n".join(rows) + "\n")
    found = read_labels(labels, run.source)
    looked, recorded = judge(found, Sized()), judged_by_run(found, run, "hands")
    assert [one.pixels for one in looked] == pytest.approx([one.pixels for one in recorded])
    assert make_card(looked, "hands", facts("1"), made_on="-").baselines["judged size"].estimate == 1.0
    out = tmp_path / "card.json"
    words = ["calibrate", str(labels), "--run", str(run.folder), "--scorer", "hands", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "to beat: judged size alone" in result.output
    assert "not shown to be better than judged size or sharpness alone" in result.output


def test_a_scorer_that_passes_over_bad_images_is_seen_at_a_glance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    bad = (np.arange(200) % 2 == 0).tolist()
    images = [
        replace(one, region="hands" if one.bad else None, kind=("extra", "missing")[i // 2 % 2] if one.bad else None)
        for i, one in enumerate(judged(rng.random(200).tolist(), bad))
    ]
    lost = {*range(1, 26, 2), *range(2, 186, 4)}  # 13 good ones, and 46 of the 50 with a missing digit
    images = [
        replace(one, value=None, flagged=None, reason="small") if i in lost else one for i, one in enumerate(images)
    ]
    card = make_card(images, "hands", facts("1"), made_on="numbers")
    coverage = not_none(card.coverage)
    assert (coverage.good.estimate, coverage.good.n, coverage.bad.estimate) == (0.87, 100, 0.54)
    assert (coverage.bad.low, coverage.bad.high) == pytest.approx(proportion_confint(54, 100, method="wilson"))
    expected = confint_proportions_2indep(54, 100, 87, 100, method="newcomb")
    assert coverage.difference == pytest.approx((-0.33, *expected))
    assert coverage.uneven
    kinds = {row.kind: row.judged for row in card.kinds}
    assert [not_none(kinds[kind]).estimate for kind in (None, "missing", "extra")] == [0.54, 0.08, 1.0]
    write_card(card, tmp_path / "card.json")
    _print(read_card(tmp_path / "card.json"), tmp_path / "card.json")
    said = " ".join(capsys.readouterr().out.split())
    assert "judged, of the good images 0.870 0.790 to 0.922 100" in said
    assert "judged, of the bad images 0.540 0.443 to 0.634 100" in said
    assert "It judges 54% of the bad images and 87% of the good ones (difference -44% to -21%)" in said
    even = coverage.model_copy(update={"bad": coverage.good})
    assert not even.uneven
    with pytest.raises(ValueError, match="the share judged"):
        CalibrationCard.model_validate({**card.model_dump(), "coverage": even.model_dump()})


def test_images_of_few_prompts_count_as_fewer(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = (np.arange(120) % 2 == 0).tolist()
    hits = np.repeat(rng.random(30), 4)
    card = make_card(
        judged(hits.tolist(), truth, prompts=[f"p{i // 4}" for i in range(120)]), "d", facts("1"), made_on="-"
    )
    assert card.effective_bad < card.bad
    assert card.accuracy.bad == pytest.approx(card.effective_bad)
    assert card.accuracy.sensitivity == pytest.approx(card.sensitivity.estimate)
    write_card(card, tmp_path / "card.json")
    assert read_card(tmp_path / "card.json") == card


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(HafError, match="could judge 1 bad and 2 good"):
        make_card(judged([0.1, 0.2, 0.3], [True, False, False]), "digits", facts("1"), made_on="-")


def paint(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), (red, 255 - red, 0), dtype=np.uint8)).save(path)


def test_a_folder_of_each_label_with_sources(tmp_path: Path) -> None:
    for i in range(6):
        paint(tmp_path / "good" / "camera" / f"{i}.png", 20 * i)
        paint(tmp_path / "bad" / ("camera" if i % 2 else "model") / f"{i}.png", 130 + 20 * i)
    found = read_labels(tmp_path, None)
    assert [one.bad for one in found] == [False] * 6 + [True] * 6
    card = make_card(judge(found, Painted()), "hands", facts("1"), made_on="paint")
    assert (card.auroc.estimate, card.sensitivity.estimate, card.specificity.estimate) == (1.0, 1.0, 1.0)
    sources = {stratum.name: stratum.auroc for stratum in card.strata if stratum.by == "source"}
    assert (sources["camera"].estimate, sources["model"].estimate) == (None, None)
    assert sources["camera"].n == 9


def test_a_table_of_labels_leaves_out_unclear_ones(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "prompt_id"])
        for i in range(6):
            paint(tmp_path / f"{i}.png", 255 if i % 2 else 0)
            writer.writerow([f"{i}.png", "unclear" if i > 4 else "bad" if i % 2 else "good", f"p{i}"])
    found = judge(read_labels(table, None), Painted())
    assert [(one.name, one.bad, one.prompt) for one in found][:2] == [("0.png", False, "p0"), ("1.png", True, "p1")]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\na.png,fine\n", "line 2: 'fine' is not a label"),
        ("image,label\n../a.png,good\n", "line 2: '../a.png' is not a path below"),
        ("image,label\n/etc/passwd,good\n", "is not a path below"),
        ("image,label\na.png,good\na.png,bad\n", "line 3: a.png has a label already"),
        ("picture,label\na.png,good\n", "has the columns image and label"),
        ("", "has the columns image and label"),
        ("image,label,region\na.png,bad,hands\nb.png,bad,hand\n", "line 3: 'hand' is not a region; use torso, limbs"),
        ("image,label,region,kind\na.png,bad,hands,six\n", "line 2: 'six' is not a kind; use missing, extra"),
        ("image,label,kind\na.png,bad,extra\n", "line 2: the error has the kind extra, but no region"),
        ("image,label,region\na.png,good,hands\n", "line 2: a good image has no error"),
    ],
)
def test_wrong_tables_are_named_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(HafError, match=said):
        read_labels(tmp_path / "labels.csv", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--scorer", "digits"], "does not exist"),
        (["empty", "--scorer", "digits"], "no images in good/"),
        (["empty", "--scorer", "clip"], "is a quality score"),
        (["empty", "--scorer", "beauty"], "no scorer 'beauty'"),
        (["empty", "--scorer", "digits", "--false-alarms", "2"], "between 0 and 1"),
        (["mannequin", "--scorer", "digits", "--run", "empty"], "already names the images"),
        (["--truth", "people", "--scorer", "limbs", "--view", "hand"], "view hand of the world people has no error of"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(app, ["calibrate", *words])
    assert isinstance(result.exception, HafError)
    assert said in str(result.exception)


def test_renders_of_the_built_in_world_are_labelled_by_their_truth(tmp_path: Path) -> None:
    renders = list(render_world("mannequin", ("hands",), 6, 41))
    assert {one.source for one in renders} <= {"hand", "two_hands"}
    assert {(one.bad, one.region, one.kind is not None) for one in renders} == {
        (True, "hands", True),
        (False, None, False),
    }
    assert [one.name for one in renders] == [one.name for one in render_world("mannequin", ("hands",), 6, 41)]
    result = CliRunner().invoke(
        app, ["calibrate", "mannequin", "--scorer", "digits", "--limit", "16", "--out", str(tmp_path / "d.json"), "-q"]
    )
    assert result.exit_code == 0, result.output
    card = read_card(tmp_path / "d.json")
    assert card.bad + card.good + card.unknown_bad + card.unknown_good == 16
    assert not_none(card.auroc.estimate) > 0.8
    whole, *kinds = card.kinds
    assert (whole.region, whole.kind, whole.sensitivity) == ("hands", None, card.sensitivity)
    assert sum(row.sensitivity.n + row.unknown for row in kinds) == card.bad + card.unknown_bad


@pytest.fixture
def labelled_run(tmp_path: Path) -> tuple[Run, Path]:
    run = coloured_run(tmp_path / "run", {f"p{i}": "es" for i in range(20)})
    labels = tmp_path / "labels.csv"
    # Prompts 0 to 9 are labelled: of the flagged images 2 are good, of the passed ones 1 is bad.
    lines = [f"p{i}/0.png,{'good' if i < 2 else 'bad'}\np{i}/1.png,{'bad' if i == 5 else 'good'}" for i in range(10)]
    labels.write_text("image,label\n" + "\n".join(lines) + "\n")
    return run, labels


def test_a_card_of_a_runs_images_corrects_its_rate_and_shows_in_its_report(
    tmp_path: Path, labelled_run: tuple[Run, Path]
) -> None:
    run, labels = labelled_run
    out = tmp_path / "card.json"
    words = ["calibrate", str(labels), "--run", str(run.folder), "--scorer", "hands", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "prediction-powered" in result.output
    card = read_card(out)
    assert (card.flagged_bad, card.bad, card.passed_good, card.good) == (8, 9, 9, 11)
    attach_cards(run, [out])
    assert cards_of(run) == {"hands": card}
    figure = next(figure for figure in all_figures(run) if figure.scorer == "hands")
    # Rogan and Gladen: (1/2 + 9/11 - 1) / (8/9 + 9/11 - 1).
    assert not_none(figure.corrected).estimate == pytest.approx((0.5 + 9 / 11 - 1) / (8 / 9 + 9 / 11 - 1))
    page = build_report(run).read_text()
    assert "Corrected for the scorer" in page
    assert "ROC of hands" in page


def test_labels_and_verdicts_together_by_hand(labelled_run: tuple[Run, Path]) -> None:
    run, labels = labelled_run
    found = powered(judged_by_run(read_labels(labels, run.source), run, "hands"), run, "hands")
    # 9 of 20 labelled are bad, and the verdicts of both halves are alike: nothing moves the labels' own rate.
    assert found.estimate == pytest.approx(0.45)


def test_a_card_of_another_version_is_refused(tmp_path: Path, labelled_run: tuple[Run, Path]) -> None:
    run, _ = labelled_run
    card = make_card(judged([0.9, 0.8, 0.1, 0.2], [True, True, False, False]), "hands", facts("2"), made_on="-")
    write_card(card, tmp_path / "card.json")
    with pytest.raises(HafError, match=r"hands 2, but .* its version 1"):
        attach_cards(run, [tmp_path / "card.json"])
    (tmp_path / "card.json").write_text(json.dumps({"scorer": "hands"}))
    with pytest.raises(HafError, match="is not a calibration card"):
        attach_cards(run, [tmp_path / "card.json"])


def test_a_card_is_of_the_scorer_with_its_settings_and_weights(tmp_path: Path, labelled_run: tuple[Run, Path]) -> None:
    run, labels = labelled_run
    made = api.calibrate(labels, "hands", run=run.folder, out=tmp_path / "card.json")
    assert made.card.identity is not None
    other = coloured_run(tmp_path / "other", {"p": "es"}, scorers={"hands": Painted(threshold=0.4)})
    with pytest.raises(HafError, match="hands 1 with other settings or weights"):
        attach_cards(other, [tmp_path / "card.json"])
    with pytest.raises(HafError, match="a second card of the scorer hands"):
        attach_cards(run, [tmp_path / "card.json"] * 2)
    # Copied there by hand, or attached by an earlier version, it is not used.
    write_card(made.card, other.folder / "cards" / "hands.json")
    assert cards_of(other) == {}
    # A card that was made before identities were kept is of a version alone.
    older = made.card.model_copy(update={"identity": None})
    write_card(older, tmp_path / "card.json")
    attach_cards(other, [tmp_path / "card.json"])
    assert cards_of(other) == {"hands": older}


def test_the_shipped_cards_are_of_the_shipped_detector(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(built_in("detector.pt").read_bytes() + b"\0")
    for name in ("digits", "limb_count"):
        card = read_card(SHIPPED / f"{name}.json")
        shipped, other = (
            describe({name: a_scorer(name, **options)})[name] for options in ({}, {"detector": str(mine)})
        )
        assert shipped.version == other.version == card.scorer_version
        assert identity_of(shipped) == card.identity != identity_of(other)


def test_a_card_of_another_scorer_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled_run: tuple[Run, Path]
) -> None:
    run, labels = labelled_run
    monkeypatch.chdir(tmp_path)
    api.calibrate(labels, "hands", run=run.folder, out=tmp_path / "card.json")
    paint(tmp_path / "pictures" / "a.png", 200)
    score = ScoreSpec.model_validate({"images": tmp_path / "pictures", "scorers": ["digits"]})
    drawn = RunSpec.model_validate({"limit": 1, "scorers": ["digits"]})
    cards, out, said = [tmp_path / "card.json"], tmp_path / "out", "hands 1, which did not score this run"
    with pytest.raises(HafError, match=said):
        api.score(score, out=out, cards=cards)
    with pytest.raises(HafError, match=said):
        api.run(drawn, out=out, cards=cards)
    assert not out.exists()
