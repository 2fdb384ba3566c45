"""Skeletons: corrupted as they should be, and drawn as ControlNets know them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb

from asap_train.degrade import skeleton as corrupt
from asap_train.degrade.openpose import COLOURS, Skeleton, draw_skeleton, hand_skeleton, limb_skeleton
from asap_train.degrade.skeleton import CORRUPTIONS, skeleton_of
from parts import HAND, part


def changed(name: str, seed: int) -> tuple[Skeleton, Skeleton]:
    sound = hand_skeleton(HAND) if "digit" in name else limb_skeleton(HAND[[0, 10, 12]], "left_arm")
    return sound, getattr(corrupt, name)(sound, np.random.default_rng(seed))


def lengths(skeleton: Skeleton) -> list[float]:
    return sorted(float(np.hypot(*(skeleton.points[b] - skeleton.points[a]))) for a, b in skeleton.bones)


TIPS = {"extra_digit": 6, "missing_digit": 4, "crossed_digits": 5, "bent_digit": 5, "extra_limb": 2, "bent_limb": 1}


@pytest.mark.parametrize("name", TIPS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_a_corrupted_skeleton_has_the_digits_and_limbs_it_should(name: str, seed: int) -> None:
    sound, wrong = changed(name, seed)
    assert len(wrong.tips()) == TIPS[name]
    assert len(wrong.bones) == len(wrong.colours) and len(wrong.points) == len(wrong.dots)
    assert {i for bone in wrong.bones for i in bone} == set(range(len(wrong.points)))
    again = changed(name, seed)[1]
    assert np.array_equal(again.points, wrong.points) and again.bones == wrong.bones
    assert np.array_equal(sound.points, changed(name, seed + 1)[0].points)  # the sound one is left as it was
    if name.startswith("bent"):
        assert lengths(wrong) == pytest.approx(lengths(sound)) and not np.allclose(wrong.points, sound.points)
    if name == "crossed_digits":
        assert np.array_equal(wrong.points, sound.points)
        assert len(set(wrong.bones) - set(sound.bones)) == 2


def test_every_corruption_is_tested_and_seeds_vary_it() -> None:
    assert {corruption.change.__name__ for corruption in CORRUPTIONS} == set(TIPS)
    for corruption in CORRUPTIONS:
        assert corruption.change.__name__ == corruption.error.detail
        drawn = {changed(corruption.error.detail, seed)[1].points.tobytes() for seed in range(12)}
        bones = {changed(corruption.error.detail, seed)[1].bones for seed in range(12)}
        assert max(len(drawn), len(bones)) > 2


@pytest.mark.parametrize(("name", "digits"), [("extra_digit", 6), ("missing_digit", 4), ("bent_digit", 5)])
def test_the_digits_can_be_counted_in_the_picture(name: str, digits: int) -> None:
    """Along a circle about the wrist that passes through the first bones of every digit."""
    for seed in range(6):
        wrong = changed(name, seed)[1]
        larger = replace(wrong, points=wrong.points * 8)
        picture = draw_skeleton(larger, 1000, 1000).max(-1) > 0
        turns = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
        radius = 8 * 15
        ring = picture[
            (larger.points[0, 1] + radius * np.sin(turns)).round().astype(int).clip(0, 999),
            (larger.points[0, 0] + radius * np.cos(turns)).round().astype(int).clip(0, 999),
        ]
        assert (ring & ~np.roll(ring, 1)).sum() == digits


def test_hands_are_drawn_as_controlnets_know_them() -> None:
    """The hues of matplotlib's HSV circle from wrist to tip, thumb first, and blue dots, on black, at 512 pixels."""
    skeleton = hand_skeleton((HAND + np.array([25, 0])) * 3.8)
    picture = draw_skeleton(skeleton, 512, 512)
    assert skeleton.bones[:5] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5)) and skeleton.bones[-1] == (19, 20)
    for number, (start, end) in enumerate(skeleton.bones):
        x, y = ((skeleton.points[start] + skeleton.points[end]) / 2).round().astype(int)
        expected = (np.array(hsv_to_rgb([number / 20, 1, 1])) * 255).astype(int)
        near = picture[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).astype(int)
        assert (np.abs(near - expected).max(1) <= 1).any()
    for x, y in skeleton.points.round().astype(int):
        assert picture[y, x].tolist() == [0, 0, 255]
    assert (picture.max(-1) == 0).mean() > 0.9


def test_limbs_have_the_colours_of_the_18_point_body() -> None:
    """OpenPose gives bone i and point i colour i; `body` are its first bones, from neck to right shoulder on."""
    body = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13))
    joints = {"right_arm": (2, 3, 4), "left_arm": (5, 6, 7), "right_leg": (8, 9, 10), "left_leg": (11, 12, 13)}
    for limb, points in joints.items():
        skeleton = limb_skeleton(np.array([[20.0, 30], [60, 90], [100, 40]]) * 4, limb)
        assert skeleton.dots == tuple(COLOURS[i] for i in points)
        assert skeleton.colours == tuple(COLOURS[body.index(bone)] for bone in itertools.pairwise(points))
        picture = draw_skeleton(skeleton, 512, 512)
        assert picture[120, 80].tolist() == list(COLOURS[points[0]])
        assert picture[240, 160].tolist() == [int(0.6 * c) for c in skeleton.colours[0]]
    assert len(set(COLOURS)) == 18 and COLOURS[5] == (85, 255, 0)


def test_a_skeleton_comes_from_the_parts_points() -> None:
    hand, leg = skeleton_of(part()), skeleton_of(part("limbs", "left_leg"))
    assert hand is not None and np.array_equal(hand.points, HAND)
    assert leg is not None and leg.solid and leg.colours[0] == COLOURS[10]
