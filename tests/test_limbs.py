"""The limbs scorer on skeletons made by hand, and on real photos."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafbench.detectors import COCO_POINTS
from hafbench.scorers.limbs import POINT, SEGMENTS, SIDES, SMALLEST_TRUNK, Body, judge, ratios
from small import a_scorer, not_none

# A person 1000 pixels tall who faces us with hanging arms, by Drillis & Contini's shares of stature.
STANDING = {
    "nose": (500, 70),
    "left_eye": (515, 60),
    "right_eye": (485, 60),
    "left_ear": (535, 65),
    "right_ear": (465, 65),
    "left_shoulder": (629, 182),
    "right_shoulder": (371, 182),
    "left_hip": (596, 470),
    "right_hip": (404, 470),
    "left_elbow": (629, 368),
    "right_elbow": (371, 368),
    "left_wrist": (629, 514),
    "right_wrist": (371, 514),
    "left_knee": (596, 715),
    "right_knee": (404, 715),
    "left_ankle": (596, 961),
    "right_ankle": (404, 961),
}


def person(**moved: tuple[float, float]) -> Body:
    points = {**STANDING, **moved}
    return Body(np.array([points[name] for name in COCO_POINTS], dtype=float), np.ones(17))


def test_a_person_of_average_proportions_has_all_ratios_near_one() -> None:
    found = dict(ratios(person()))
    assert len(found) == 8
    assert all(abs(math.log(ratio)) < 0.05 for ratio in found.values())


def test_a_person_of_average_proportions_is_no_error() -> None:
    score = judge([person()])
    assert (score.status, score.is_error, score.findings) == ("scored", False, ())
    assert score.value is not None
    assert score.value < 0.05


def test_an_arm_of_twice_its_length_is_found_and_named() -> None:
    score = judge([person(left_wrist=(629, 368 + 2.2 * 146))])
    assert score.is_error
    assert [(f.region, f.kind, f.detail) for f in score.findings] == [("limbs", "proportion", "left_forearm_too_long")]


def test_a_foreshortened_arm_is_no_error() -> None:
    assert not judge([person(left_elbow=(640, 200), left_wrist=(650, 215))]).is_error


@given(seed=st.integers(0, 2**32 - 1))
def test_no_pose_of_a_sound_body_seen_from_afar_is_an_error(seed: int) -> None:
    """Any directions of the limbs, any side of the trunk: foreshortening never makes 1.7 out of 1."""
    chance = np.random.default_rng(seed)
    space = {name: np.array([x, y, 0.0]) for name, (x, y) in STANDING.items() if name.endswith(("shoulder", "hip"))}
    for start, end, share in SEGMENTS.values():
        for side in SIDES:
            direction = chance.normal(size=3)
            step = direction / np.linalg.norm(direction) * share * 1000
            space[f"{side}_{end}"] = space[f"{side}_{start}"] + step
    view, _ = np.linalg.qr(chance.normal(size=(3, 3)))
    body = person(**{name: tuple((view @ point)[:2]) for name, point in space.items()})
    assert max(ratio for _, ratio in ratios(body)) <= math.sqrt(2) + 1e-6
    assert not judge([body]).is_error


def test_an_unseen_elbow_between_a_seen_shoulder_and_wrist_is_weak_evidence_only() -> None:
    body = person()
    body.confidence[POINT["left_elbow"]] = 0.0
    score = judge([body])
    assert not score.is_error
    assert score.value == pytest.approx(0.45)


def test_evidence_of_a_missing_joint_comes_and_goes_by_degrees() -> None:
    values = []
    for wrist in (0.4, 0.499, 0.501, 0.6, 0.8, 1.0):
        body = person()
        body.confidence[[POINT["left_elbow"], POINT["left_wrist"]]] = 0.1, wrist
        values.append(not_none(judge([body]).value))
    assert values == sorted(values)
    assert values[2] - values[1] < 0.01
    assert values[-1] > 0.3


def test_two_skeletons_on_one_trunk_with_another_arm_are_a_surplus_limb() -> None:
    score = judge([person(), person(left_elbow=(760, 100), left_wrist=(870, 20))])
    assert score.is_error
    assert any((f.kind, f.detail) == ("extra", "second_left_wrist") for f in score.findings)
    apart = person()
    assert not judge([person(), Body(apart.points + np.array([400, 0]), apart.confidence)]).is_error


@given(
    scale=st.floats(0.5, 3),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    stretch=st.floats(0.3, 3),
    mirrored=st.booleans(),
)
def test_scale_place_and_mirroring_change_nothing(
    scale: float, shift: tuple[float, float], stretch: float, mirrored: bool
) -> None:
    body = person(left_wrist=(629, 368 + stretch * 146))
    points = body.points.copy()
    if mirrored:
        points[:, 0] = 1000 - points[:, 0]
        points = points[[COCO_POINTS.index(_other_side(name)) for name in COCO_POINTS]]
    moved = judge([Body(points * scale + shift, body.confidence)])
    assert moved.value == pytest.approx(judge([body]).value, rel=1e-6)


def _other_side(name: str) -> str:
    return name.replace("left", "?").replace("right", "left").replace("?", "right")


@given(stretch=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)))
def test_a_longer_arm_is_never_less_suspicious_than_one_of_average_length(stretch: tuple[float, float]) -> None:
    short, long = sorted(stretch)
    if short >= 1:
        values = [judge([person(left_wrist=(629, 368 + s * 146))]).value for s in (short, long)]
        assert values[0] is not None
        assert values[1] is not None
        assert values[0] <= values[1] + 1e-9


def test_who_cannot_be_judged_is_unknown_with_the_reason() -> None:
    small = person()
    shrunk = Body(small.points * (SMALLEST_TRUNK / 2 / small.trunk), small.confidence)
    hidden = person()
    hidden.confidence[POINT["left_hip"]] = 0.1
    for bodies, reason in [([], "nobody was found"), ([shrunk], "every trunk is below"), ([hidden], "no trunk")]:
        score = judge(bodies)
        assert (score.status, score.value) == ("unknown", None)
        assert reason in (score.reason or "")
        assert score.cause == ("unjudgeable" if bodies else "absent")
        assert score.measures == {"people": len(bodies)}, "a count of nobody is held against the prompt, too"


PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "hands_real"


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the real photos of ../shared are not here")
def test_few_false_alarms_on_real_photos() -> None:
    from hafbench.errors import Unavailable
    from hafbench.images import find_images, load_image

    try:
        scorer = a_scorer("limbs")
    except Unavailable as error:
        pytest.skip(str(error))
    scores = [scorer.score(np.asarray(load_image(path)), None) for path in find_images(PHOTOS)]
    judged = [score for score in scores if score.status == "scored"]
    assert len(judged) >= 20
    assert sum(bool(score.is_error) for score in judged) <= 1
