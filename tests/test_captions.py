"""The language of captions, what of it is held out, and the mannequin suite that is drawn from the held-out part."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hafbench.mannequin import attributes as closed
from hafbench.mannequin.attributes import RAISED, Attributes
from hafbench.mannequin.captions import MAX_WORDS, caption, draw, is_held_out, raised
from hafbench.suites import CATEGORIES, load_suite, suites_folder

RECIPE = Path(__file__).parents[1] / "recipes" / "mannequin" / "suite.py"

colours = st.sampled_from(closed.COLOURS)


@st.composite
def pictures(pick: st.DrawFn) -> Attributes:
    """Everything that the closed lists allow."""

    def one(values: tuple[str, ...]) -> str:
        return pick(st.sampled_from(values))

    framing = one(closed.FRAMINGS)
    setting = one(closed.WALLS if framing == "open_hand" else closed.SETTINGS)
    shown: dict[str, str | None] = {"setting_colour": None if setting == "outdoor" else pick(colours)}
    if framing in closed.HANDS:
        gesture = "open" if framing == "open_hand" else one(closed.GESTURES)
        shown |= {"view": one(closed.VIEWS), "gesture": gesture}
        if framing in closed.ONE_HAND:
            shown["side"] = one(closed.SIDES)
        if shown["gesture"] == "grip":
            shown |= {"held": "rod", "held_colour": pick(colours)}
    else:
        held, hair = one(closed.HELD), one(closed.HAIRS)
        shown |= {"arms": one(closed.ARMS), "held": held, "held_colour": pick(colours) if held != "nothing" else None}
        shown |= {"hair": hair, "hair_colour": pick(st.none() | colours), "top": pick(colours)}
        shown["sleeves"] = one(closed.SLEEVES)
        if framing == "full_body":
            shown |= {"legs": one(closed.LEGS), "bottom": one(closed.BOTTOMS), "bottom_colour": pick(colours)}
    return Attributes(framing, one(closed.SKINS), setting, **shown)  # type: ignore[arg-type]


randoms = st.integers(0, 2**32).map(Random)
FIST_LEFT_PALM = Attributes("hand", "dark", "plain", "green", side="left", view="palm", gesture="fist")


@given(pictures(), randoms)
def test_every_picture_has_a_caption_of_plain_words(picture: Attributes, rng: Random) -> None:
    text = caption(picture, rng)
    assert re.fullmatch(r"[A-Za-z][a-zA-Z', -]*([a-z]|making an L)", text)
    assert "None" not in text
    assert "_" not in text
    assert not re.search(r"  |, ,| ,|\ba [aeio]", text)
    assert 2 <= len(text.split()) <= MAX_WORDS <= 24
    assert not is_held_out(text)


@given(pictures(), st.integers(0, 2**32))
def test_the_same_dice_give_the_same_caption(picture: Attributes, seed: int) -> None:
    assert caption(picture, Random(seed)) == caption(picture, Random(seed))


@given(pictures(), randoms)
def test_a_caption_says_nothing_that_the_picture_does_not_show(picture: Attributes, rng: Random) -> None:
    words = set(re.findall(r"[a-z]+", draw(picture, rng)))
    if picture.side is not None:
        assert ({"left", "right"} - {picture.side}).isdisjoint(words)
    said = Counter(words & (set(closed.COLOURS) - {"black", "brown"}))
    shown = (picture.setting_colour, picture.held_colour, picture.hair_colour, picture.top, picture.bottom_colour)
    assert set(said) <= set(shown)
    counts = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    if picture.framing in closed.ONE_HAND and picture.gesture is not None and "fingers" in words:
        assert all(counts[word] == sum(RAISED[picture.gesture]) for word in counts.keys() & words)


def test_one_picture_has_very_many_captions() -> None:
    rng = Random(0)
    assert len({caption(FIST_LEFT_PALM, rng) for _ in range(2000)}) > 1500


def test_sides_views_and_backgrounds_are_told_sometimes_and_gestures_always() -> None:
    rng = Random(0)
    texts = [caption(FIST_LEFT_PALM, rng) for _ in range(500)]
    for word in ("left", "palm", "green", "skin"):
        assert 100 < sum(word in text for text in texts) < 400, word
    assert all(re.search("fist|clos|fold|clench|no fingers|zero", text) for text in texts)


def test_raised_counts_the_digits_of_all_hands() -> None:
    assert raised(FIST_LEFT_PALM) == 0
    assert raised(Attributes("hand", "dark", "plain", gesture="horns")) == 2
    assert raised(Attributes("two_hands", "dark", "plain", gesture="four")) == 8
    assert raised(Attributes("full_body", "dark", "plain", arms="up")) is None


@given(
    st.lists(st.sampled_from(("a", "left", "hand", "fist", "green", "background")), min_size=1, max_size=12), randoms
)
def test_what_is_held_out_depends_on_the_words_alone(words: list[str], rng: Random) -> None:
    other = list(words)
    rng.shuffle(other)
    assert is_held_out(" ".join(words)) == is_held_out(", ".join(other).upper())


def test_about_one_caption_in_32_is_held_out() -> None:
    rng = Random(0)
    texts = {draw(FIST_LEFT_PALM, rng) for _ in range(6000)}
    # Five standard deviations about 1 in 32 of some 4,500 texts.
    assert 0.018 < sum(map(is_held_out, texts)) / len(texts) < 0.045


def test_the_suite_is_held_out_balanced_and_without_duplicates() -> None:
    prompts = load_suite("mannequin").prompts
    assert Counter(prompt.category for prompt in prompts) == dict.fromkeys(CATEGORIES, 20)
    assert all(is_held_out(prompt.text) for prompt in prompts)
    words = [tuple(sorted(re.findall(r"\w+", prompt.text.lower()))) for prompt in prompts]
    assert len(set(words)) == 100
    assert all(re.fullmatch(r"mannequin-(basic|gesture|self|object|full)-0[012]\d", prompt.id) for prompt in prompts)
    assert all(len(prompt.text.split()) <= MAX_WORDS for prompt in prompts)
    gestures = Counter(tag for prompt in prompts for tag in prompt.tags if tag in closed.GESTURES)
    assert set(gestures) == set(closed.GESTURES)
    assert all(sum(f"arms_{arms}" in prompt.tags for prompt in prompts) >= 6 for arms in closed.ARMS)


def test_what_the_suite_expects_follows_from_what_it_shows() -> None:
    for prompt in load_suite("mannequin").prompts:
        expect, framing = prompt.expect, prompt.tags[0]
        figure = framing in ("upper_body", "full_body")
        assert expect.arms == (2 if figure else None), prompt.id
        assert expect.people == (None if framing == "two_hands" else 1), prompt.id
        assert expect.hands in ((None, 2) if figure else (2,) if framing == "two_hands" else (1,)), prompt.id
        known = not figure and "grip" not in prompt.tags
        assert (expect.digits is not None) == known, prompt.id
        if expect.digits is not None:
            gesture = next(g for g in closed.GESTURES if g in prompt.tags)
            assert expect.digits == sum(RAISED[gesture]) * (expect.hands or 0), prompt.id


def test_the_recipe_writes_the_suite_that_is_in_the_repository(tmp_path: Path) -> None:
    subprocess.run([sys.executable, RECIPE, "--out", tmp_path / "suite.jsonl"], check=True)
    assert (tmp_path / "suite.jsonl").read_bytes() == (suites_folder() / "mannequin.jsonl").read_bytes()
