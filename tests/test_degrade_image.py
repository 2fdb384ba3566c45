"""Image-space errors: where pixels may change, that they do, that they repeat, and each detail's own promise."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from asap_train.degrade import digits, fill, limbs
from asap_train.degrade.image import DETAILS, ImageFamily, degraded
from asap_train.degrade.lines import line_through
from asap_train.types import Candidate, Part, Photo
from drawn_people import DRAWN, drawn_arm, drawn_hand
from hafbench.errors import HafError
from hafbench.images import load_image
from hafbench.types import Kind, Region
from small import not_none

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no ../shared/weights and data here")


@cache
def drawn(region: str) -> tuple[Photo, Part]:
    pixels, part = DRAWN[region]()
    return Photo(region, "0" * 64, pixels), part


@cache
def subject(name: str) -> tuple[Photo, object]:
    photo, part = drawn(DETAILS[name].regions[0])
    return photo, DETAILS[name].cut(photo.pixels, part)


def candidates(region: str, seed: int, **weights: float) -> dict[str, Candidate]:
    family = ImageFamily(weights) if weights else ImageFamily()
    return {one.detail: one for one in family.degrade(*drawn(region), np.random.default_rng(seed))}


def test_the_table_speaks_the_taxonomy() -> None:
    for detail in DETAILS.values():
        assert detail.kind in get_args(Kind)
        assert detail.regions and set(detail.regions) <= set(get_args(Region))
    assert {detail.kind for detail in DETAILS.values() if "hands" in detail.regions} == set(get_args(Kind))
    assert {region for detail in DETAILS.values() for region in detail.regions} == set(get_args(Region))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(DETAILS)), st.integers(0, 2**40))
def test_outside_the_mask_every_pixel_is_the_photos_own(name: str, seed: int) -> None:
    photo, cut = subject(name)
    before = photo.pixels.copy()
    made = degraded(photo.pixels, cut, name, seed)
    assert np.array_equal(photo.pixels, before)  # the photo itself is left alone
    if made is None:
        return
    pixels, mask = made
    assert pixels.dtype == np.uint8 and pixels.shape == before.shape
    assert mask.dtype == np.bool_ and mask.shape == before.shape[:2]
    assert np.array_equal(pixels[~mask], before[~mask])
    changed = (pixels != before).any(-1)
    assert changed.any()
    assert changed[mask].mean() > 0.3  # the mask hugs what changed


@pytest.mark.parametrize("name", list(DETAILS))
def test_each_detail_suits_the_drawn_part_and_is_a_large_change(name: str) -> None:
    photo, cut = subject(name)
    values = []
    for seed in range(6):
        made = degraded(photo.pixels, cut, name, seed)
        if made is not None:
            _, similarity = structural_similarity(photo.pixels, made[0], channel_axis=-1, full=True)
            values.append(similarity.mean(-1)[made[1]].mean())
    assert len(values) >= 2
    assert np.median(values) <= 0.65


@pytest.mark.parametrize("region", list(DRAWN))
def test_the_same_seed_gives_the_same_candidates_in_the_same_order(region: str) -> None:
    one, other = candidates(region, 5), candidates(region, 5)
    assert one and list(one) == list(other)
    for a, b in zip(one.values(), other.values(), strict=True):
        assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.mask, b.mask)
        assert (a.settings, a.kind, a.region, a.family) == (b.settings, DETAILS[a.detail].kind, region, "image")
    if len(one) > 1:
        assert len({tuple(candidates(region, seed)) for seed in range(8)}) > 1


def test_a_details_draws_do_not_shift_anothers() -> None:
    everything = candidates("hands", 3)
    alone = candidates("hands", 3, bent_digit=1.0)
    assert list(alone) == ["bent_digit"]
    assert np.array_equal(alone["bent_digit"].pixels, everything["bent_digit"].pixels)


def test_a_candidate_can_be_made_again_from_its_settings() -> None:
    photo, part = drawn("hands")
    one = candidates("hands", 8)["extra_digit"]
    cut = DETAILS[one.detail].cut(photo.pixels, part)
    pixels, _ = not_none(degraded(photo.pixels, cut, one.detail, one.settings["seed"]))
    assert np.array_equal(pixels, one.pixels)


def test_weights_decide_what_comes_first() -> None:
    firsts = [next(iter(candidates("hands", seed, extra_digit=9.0, melted=1.0))) for seed in range(30)]
    assert 20 <= firsts.count("extra_digit") < 30
    assert candidates("hands", 0, melted=0.0) == {}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"extra_digits": 1.0}, "did you mean extra_digit"),
        ({"melted": -1.0}, "melted is -1"),
        ({"melted": float("nan")}, "nan"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: dict[str, float], words: str) -> None:
    with pytest.raises(HafError, match=words):
        ImageFamily(weights)


def test_the_family_can_be_sent_to_a_worker() -> None:
    family = pickle.loads(pickle.dumps(ImageFamily({"melted": 2.0})))
    assert family.settings["weights"] == {"melted": 2.0}


def test_a_users_mask_is_kept_to() -> None:
    photo, part = drawn("hands")
    given = replace(part, origin="given")
    made = list(ImageFamily().degrade(photo, given, np.random.default_rng(0)))
    assert made and all(not (one.mask & ~part.mask).any() for one in made)
    assert {one.detail for one in made} < set(candidates("hands", 0))
    bare = Part("hands", "given", part.mask, origin="given")
    assert {one.detail for one in ImageFamily().degrade(photo, bare, np.random.default_rng(0))} == {"melted", "swirled"}


def joints(part: Part) -> np.ndarray:
    """Its keypoints (n, 2), without their confidence."""
    return not_none(part.points)[:, :2]


def skin(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] > 150


def stretches(pixels: np.ndarray, part: Part) -> int:
    """Skin-coloured stretches along an arc through the drawn fingers."""
    wrist, palm = joints(part)[0], np.hypot(*(joints(part)[9] - joints(part)[0]))
    angles = np.radians(np.linspace(-75, 75, 600))
    x = (wrist[0] + 1.5 * palm * np.sin(angles)).round().astype(int)
    y = (wrist[1] - 1.5 * palm * np.cos(angles)).round().astype(int)
    on = cv2.blur(skin(pixels)[y, x].astype(np.float32)[None], (5, 1))[0] > 0.5
    return int((np.diff(np.concatenate([[0], on])) == 1).sum())


def test_digits_are_added_taken_away_and_fused() -> None:
    photo, part = drawn("hands")
    cut = digits.cut_hand(photo.pixels, joints(part))
    assert cut is not None and {1, 2, 3, 4} <= {digit.number for digit in cut.digits}
    finger = skin(photo.pixels)[digits_of(cut, 2)].sum()
    for seed in range(8):
        added = not_none(degraded(photo.pixels, cut, "extra_digit", seed))[0]
        assert not (skin(photo.pixels) & ~skin(added)).sum() > 0.1 * finger  # it comes out from behind
        assert 0.3 * finger < (skin(added) & ~skin(photo.pixels)).sum() < 1.6 * finger
        gone = not_none(degraded(photo.pixels, cut, "missing_digit", seed))[0]
        assert 0.3 * finger < (skin(photo.pixels) & ~skin(gone)).sum() < 1.6 * finger
        assert not (skin(gone) & ~skin(photo.pixels)).any()
        fused = degraded(photo.pixels, cut, "fused_digits", seed)
        assert fused is None or stretches(fused[0], part) == stretches(photo.pixels, part) - 1


def digits_of(cut: digits.Hand, number: int) -> np.ndarray:
    """Where a digit of a cut-out hand is in the photo."""
    x, y = cut.cutout.corner
    matte = next(digit for digit in cut.digits if digit.number == number).matte
    where = np.zeros(drawn("hands")[0].pixels.shape[:2], np.bool_)
    where[y : y + matte.shape[0], x : x + matte.shape[1]] = matte > 0.5
    return where


def test_a_digit_is_shorter_or_longer_along_its_own_line() -> None:
    photo, part = drawn("hands")
    cut = not_none(digits.cut_hand(photo.pixels, joints(part)))
    only = replace(cut, digits=tuple(digit for digit in cut.digits if digit.number == 2))
    tip, past = joints(part)[12], joints(part)[12] * 1.3 - joints(part)[9] * 0.3
    wall, flesh = (
        photo.pixels[20, 20].astype(int),
        photo.pixels[tuple(joints(part)[10, ::-1].round().astype(int))].astype(int),
    )

    def at(pixels: np.ndarray, place: np.ndarray) -> np.ndarray:
        x, y = place.round().astype(int)
        colour: np.ndarray = pixels[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(0)
        return colour

    shorter, _ = not_none(degraded(photo.pixels, only, "short_digit", 1))
    longer, _ = not_none(degraded(photo.pixels, only, "long_digit", 1))
    assert np.abs(at(shorter, tip) - wall).max() < np.abs(at(shorter, tip) - flesh).max()
    assert np.abs(at(photo.pixels, past) - wall).max() < np.abs(at(photo.pixels, past) - flesh).max()
    assert np.abs(at(longer, past) - flesh).max() < 25


def test_a_curled_digit_is_left_alone() -> None:
    photo, part = drawn("hands")
    points = joints(part).copy()
    points[8] = points[5] + (points[5] - points[6]) * 0.2  # the index's tip at its own knuckle
    cut = digits.cut_hand(photo.pixels, points)
    assert cut is not None and 1 not in {digit.number for digit in cut.digits}


def test_a_part_at_the_edge_or_without_points_gives_no_accident() -> None:
    photo, part = drawn("hands")
    for shift in ((-150, -120), (200, 150)):
        moved = not_none(part.points).copy()
        moved[:, :2] += shift
        mask = np.roll(part.mask, shift[::-1], (0, 1))
        for one in ImageFamily().degrade(photo, replace(part, points=moved, mask=mask), np.random.default_rng(1)):
            assert np.array_equal(one.pixels[~one.mask], photo.pixels[~one.mask])
    outside = replace(part, points=not_none(part.points) + 5000)
    assert {one.detail for one in ImageFamily().degrade(photo, outside, np.random.default_rng(1))} <= {
        "melted",
        "swirled",
    }
    tiny = np.zeros_like(part.mask)
    tiny[50, 50] = True
    assert list(ImageFamily().degrade(photo, Part("hands", "speck", tiny), np.random.default_rng(1))) == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(20, 200), st.floats(20, 200)), min_size=2, max_size=4, unique=True), st.floats(-3, 3)
)
def test_places_along_a_line_are_found_again(joints: list[tuple[float, float]], beside: float) -> None:
    flat = np.array(joints)
    if np.hypot(*np.diff(flat, axis=0).T).min() < 25:
        return
    chords = np.diff(flat, axis=0)
    turns = [np.dot(a, b) / np.hypot(*a) / np.hypot(*b) for a, b in pairwise(chords)]
    if turns and min(turns) < 0.6:
        return  # at a sharp turn a place beside the line has no single nearest point
    line = line_through(flat)
    along = np.linspace(0.1, 0.9, 7) * line.length
    x, y = line.locate(along, np.full(7, beside))
    back_along, back_beside = line.place(x[None], y[None])
    assert back_along[0] == pytest.approx(along, abs=1.5)
    assert back_beside[0] == pytest.approx(beside, abs=0.5)
    assert line.points[0] == pytest.approx(flat[0], abs=1e-6) and line.points[-1] == pytest.approx(flat[-1], abs=1e-6)
    assert line.scaled(0.5).length == pytest.approx(0.5 * line.length, rel=0.02)
    assert line.turned(flat[0], 70).length == pytest.approx(line.length)


def test_a_straight_line_is_placed_by_hand() -> None:
    line = line_through(np.array([[10.0, 20.0], [50.0, 20.0]]), before=5, after=15)
    assert line.length == pytest.approx(60)
    along, beside = line.place(np.array([[25.0]]), np.array([[23.0]]))
    assert (along[0, 0], beside[0, 0]) == (pytest.approx(20), pytest.approx(3))
    box_along, box_beside = line.place_box((8, 10, 57, 41))
    assert box_along[13, 17] == pytest.approx(20, abs=1e-3) and box_beside[13, 17] == pytest.approx(3, abs=1e-3)
    assert line.bent(0.5, 90).points[-1] == pytest.approx([35, 50], abs=2.5)


def test_a_hole_in_a_regular_texture_is_filled_with_it() -> None:
    y, x = np.mgrid[:120, :120]
    stripes = np.repeat((127 + 100 * np.sin(x * 2 * np.pi / 12))[..., None], 3, -1).astype(np.float32)
    hole = (np.hypot(x - 60, y - 60) < 14) & (x > 0)
    marred = np.where(hole[..., None], 255, stripes).astype(np.float32)
    filled = fill.fill(marred, hole, np.zeros_like(hole))
    assert np.array_equal(filled[~hole], marred[~hole])
    assert np.abs(filled - stripes)[hole].mean() < 15
    grey = np.full_like(stripes, 80)
    plain = fill.fill(np.where(hole[..., None], np.float32(255), grey), hole, np.zeros_like(hole))
    assert np.abs(plain - 80).max() < 2


def test_a_fill_takes_nothing_from_what_is_to_be_avoided() -> None:
    pixels = np.full((90, 90, 3), 60, np.float32)
    hole, avoid = np.zeros((90, 90), np.bool_), np.zeros((90, 90), np.bool_)
    hole[40:55, 30:60], avoid[30:60, 60:90] = True, True
    pixels[hole | avoid] = 240
    assert fill.fill(pixels, hole, avoid)[hole].max() < 70


def test_a_straight_arm_is_a_limb_and_a_sharply_bent_one_its_forearm() -> None:
    pixels, part = drawn_arm()
    whole = limbs.cut_limb(pixels, joints(part))
    assert whole is not None and len(whole.cutout.points) == 4
    wall = np.full_like(pixels, 90)
    assert degraded(wall, limbs.cut_limb(wall, joints(part)), "missing_limb", 0) is None  # nothing to take away
    bent = np.array([joints(part)[0] + (-60.0, 130.0), *joints(part)[:2]])  # the drawn upper arm as a forearm
    cut = limbs.cut_limb(pixels, bent)
    assert cut is not None and len(cut.cutout.points) == 3
    assert cut.branch.line.points[0] + cut.cutout.corner == pytest.approx(bent[1], abs=0.5)


def test_sizes_do_not_matter() -> None:
    for size in (150, 700):
        pixels, part = drawn_hand(size)
        made = list(
            ImageFamily({"extra_digit": 1, "bent_digit": 1, "mirrored_hand": 1}).degrade(
                Photo("hand", "0" * 64, pixels), part, np.random.default_rng(2)
            )
        )
        assert len(made) == 3


@needs_shared
def test_most_hands_of_real_photos_can_be_given_another_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    from asap_train.data.regions import Finder

    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
    paths = sorted((SHARED / "data" / "hands_real" / "four").glob("*.jpg"))[:4]
    made, similar = 0, []
    for path in paths:
        photo = Photo(path.name, "0" * 64, np.asarray(load_image(path)))
        hands = [part for part in Finder().find(photo.pixels).parts if part.region == "hands"]
        for part in hands[:1]:
            for one in ImageFamily({"extra_digit": 1.0}).degrade(photo, part, np.random.default_rng(0)):
                made += 1
                assert np.array_equal(one.pixels[~one.mask], photo.pixels[~one.mask])
                _, similarity = structural_similarity(photo.pixels, one.pixels, channel_axis=-1, full=True)
                similar.append(similarity.mean(-1)[one.mask].mean())
    assert made >= 2
    assert np.median(similar) <= 0.65
