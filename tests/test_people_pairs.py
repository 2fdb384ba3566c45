"""Exact pairs of people: nothing differs outside of the mask, and the truth counts what the picture shows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hafbench.people.captions import GESTURES, caption
from hafbench.people.pairs import Pair, pair
from hafbench.people.truth import part_of
from test_synth_spec import scorer_row

pytest.importorskip("embreex")
SIZE = 96
SEED = 991_000_000  # of no data set


@lru_cache(maxsize=16)
def made(detail: str) -> Pair:
    for seed in range(SEED, SEED + 12):
        found = pair(seed, detail, size=SIZE)
        if found is not None:
            return found
    raise AssertionError(f"no scene shows {detail}")


@pytest.mark.parametrize("detail", ["extra_digit", "missing_digit", "melted_digits", "extra_arm", "missing_arm"])
def test_a_pair_differs_in_its_mask_only(detail: str) -> None:
    found = made(detail)
    changed = (found.good.image != found.bad.image).any(-1)
    assert found.mask.dtype == np.bool_ and found.mask.shape == (SIZE, SIZE)
    assert not (changed & ~found.mask).any()
    assert changed.sum() >= 0.003 * SIZE**2
    assert found.mask.mean() < 0.7
    assert found.defect.detail == detail
    x1, y1, x2, y2 = found.box
    assert not found.mask[: int(y1)].any() and not found.mask[:, int(x2) :].any() and x1 < x2 and y1 < y2


def digits(found: Pair, bad: bool) -> list[str]:
    truth = found.truth_bad if bad else found.truth_good
    side = {"L": "left", "R": "right"}[found.side]
    (hand,) = [hand for hand in truth.hands if hand.part == f"{side}_arm.hand"]
    return [digit.name for digit in hand.digits]


def test_the_truth_counts_the_digits() -> None:
    five = ["thumb", "index", "middle", "ring", "little"]
    assert digits(made("extra_digit"), bad=False) == digits(made("missing_digit"), bad=False) == five
    assert digits(made("extra_digit"), bad=True) == [*five, "extra"]
    assert len(digits(made("missing_digit"), bad=True)) == 4
    assert digits(made("melted_digits"), bad=True) == five
    defects = {digit.defect for hand in made("melted_digits").truth_bad.hands for digit in hand.digits}
    assert defects == {None, "melted_digits"}


def test_the_truth_counts_the_limbs() -> None:
    def limbs(found: Pair, bad: bool) -> list[str]:
        (person,) = (found.truth_bad if bad else found.truth_good).people
        return sorted(limb.name for limb in person.limbs)

    four = ["left_arm", "left_leg", "right_arm", "right_leg"]
    assert limbs(made("extra_arm"), bad=False) == limbs(made("missing_arm"), bad=False) == four
    extra = {"L": "extra_left_arm", "R": "extra_right_arm"}[made("extra_arm").side]
    # The digits of the extra arm are those of its own hand alone.
    assert [len(hand.digits) for hand in made("extra_arm").truth_bad.hands] == [5] * len(
        made("extra_arm").truth_bad.hands
    )
    assert limbs(made("extra_arm"), bad=True) == sorted([*four, extra])
    assert len(limbs(made("missing_arm"), bad=True)) == 3


def test_what_a_hand_holds_is_no_part_of_it() -> None:
    found = pair(SEED + 56, "extra_digit", size=SIZE)  # the first one with something in a hand
    assert found is not None
    layers = found.scene.person.all_layers()
    thing = np.isin(found.good.layers, [n for n, layer in enumerate(layers) if layer.kind == "object"])
    assert thing.sum() > 1000 and not found.truth_good.parts[thing].any()
    assert found.truth_good.parts[~thing & (found.good.layers >= 0)].all()


def test_keypoints_of_what_is_seen_lie_in_its_parts() -> None:
    found = made("extra_digit")
    for truth in (found.truth_good, found.truth_bad):
        for hand in truth.hands:
            for digit in hand.digits:
                for x, y, seen in digit.points[2:]:
                    if seen:
                        near = truth.parts[max(0, int(y) - 3) : int(y) + 4, max(0, int(x) - 3) : int(x) + 4]
                        assert "hand" in " ".join(truth.names[i - 1] for i in np.unique(near) if i)
    (person,) = made("missing_arm").truth_good.people
    assert len(person.keypoints) == 17
    nose, left, right = person.keypoints[:3]
    assert abs(nose[0] - (left[0] + right[0]) / 2) < 0.1 * SIZE


def test_the_same_seed_makes_the_same_pair() -> None:
    one = made("missing_digit")
    two = pair(one.scene.seed, "missing_digit", size=SIZE)
    assert two is not None
    assert np.array_equal(one.bad.image, two.bad.image) and np.array_equal(one.mask, two.mask)


def test_regions_without_errors_in_a_view_give_no_pair() -> None:
    assert pair(SEED, view="hand", size=32, regions=("feet",)) is None


def test_bones_belong_to_parts() -> None:
    expected = {
        "finger1-3.L": "left_arm.hand.thumb",
        "metacarpal2.R": "right_arm.hand.palm",
        "extra_finger4-1.R": "extra_right_arm.hand.ring",
        "lowerarm02.L": "left_arm",
        "toe2-1.R": "right_leg.foot",
        "clavicle.L": "torso",
        "jaw": "head",
    }
    assert {bone: part_of(bone) for bone in expected} == expected


def test_a_caption_names_the_gesture_and_no_error() -> None:
    found = made("extra_digit")
    text = caption(found.scene)
    assert text.startswith("a photo of") and GESTURES[found.scene.gesture] in text
    assert "extra" not in text


def test_synth_makes_pairs_of_people(tmp_path: Path) -> None:
    from asap_train.data.spec import SynthSpec
    from asap_train.data.synthesis import synth
    from asap_train.hap.read import read_pairs

    spec = SynthSpec(source="people", count=1, size=SIZE, seed=51, workers=1)
    assert spec.resolved().scorers == () and SynthSpec(source="people", count=1).resolved().size == 256
    synth(spec, out=tmp_path / "set")
    (found,) = read_pairs(tmp_path / "set")
    assert found.family == "people" and found.settings["seed"] >= 510_000_000
    assert np.array_equal(found.winner[~found.mask], found.loser[~found.mask])
    assert found.caption.startswith("a photo of")


def test_calibrate_renders_good_and_bad_of_the_same_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hafbench import labelled
    from hafbench.cards import read_card
    from hafbench.cli import app
    from hafbench.scorers import SCORERS

    monkeypatch.setattr(labelled, "PEOPLE_SIZE", 48)
    monkeypatch.setitem(SCORERS.built_in, "bright", scorer_row(regions=("hands",)))
    words = ["calibrate", "--truth", "people", "--scorer", "bright", "--limit", "10", "--out", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    card = read_card(tmp_path / "c.json")
    assert (card.bad, card.good) == (5, 5)
    assert "views: hand" in card.made_on
    assert sum(row.sensitivity.n for row in card.kinds if row.kind) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--truth", "martians", "--scorer", "hands"], "the built-in worlds are mannequin, people"),
        (["--truth", "people", "--scorer", "digits"], "digits judges mannequins"),
        (["--truth", "people", "--view", "face", "--scorer", "hands"], "has the views hand, figure"),
        (["--scorer", "hands"], "Give one of: labels"),
        (["somewhere", "--truth", "people", "--scorer", "hands"], "Give one of: labels"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], said: str) -> None:
    from hafbench.cli import app
    from hafbench.errors import HafError

    result = CliRunner().invoke(app, ["calibrate", *words])
    assert isinstance(result.exception, HafError)
    assert said in str(result.exception)
