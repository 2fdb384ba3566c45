"""The hands scorer on real photos with the real nets: a critic's looks, what becomes of them, and where it points."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hafbench.detectors.critic import Critic, Look, file_of, read_heads, write_heads
from hafbench.detectors.hands import HandDetector
from hafbench.detectors.nets import Roi
from hafbench.registry import Options
from hafbench.scorers.hands import KINDS, SMALLEST, HandsScorer, load, size_share, within, worst_place
from hand_photos import PHOTOS, SHARED, jpeg, needs_shared, photo


def swirled(image: np.ndarray, roi: Roi) -> np.ndarray:
    """The image with the middle of a hand's square turned about itself."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    dx, dy = x - roi.x, y - roi.y
    angle = 1.6 * np.clip(1 - np.hypot(dx, dy) / (0.25 * roi.side), 0, 1)
    from_x = (np.cos(angle) * dx - np.sin(angle) * dy + roi.x).astype(np.float32)
    from_y = (np.sin(angle) * dx + np.cos(angle) * dy + roi.y).astype(np.float32)
    return np.asarray(cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR))


def look(heat: np.ndarray, roi: Roi) -> Look:
    return Look(0.9, 1.0, {"extra": 0.3, "shape": 0.7}, heat, roi)


@given(st.integers(0, 13), st.integers(0, 13), st.floats(-3, 3))
def test_the_box_is_about_the_hottest_place(row: int, column: int, rotation: float) -> None:
    heat = np.full((14, 14), 0.05)
    heat[row, column] = 0.9
    roi = Roi(200.0, 150.0, 140.0, rotation)
    x1, y1, x2, y2 = worst_place(look(heat, roi))
    x, y = roi.to_image(np.array([(column + 0.5) / 14, (row + 0.5) / 14]))
    assert x1 < x < x2 and y1 < y < y2
    assert max(x2 - x1, y2 - y1) <= 10 * 2**0.5 + 1e-6  # one cell, turned


def test_only_cells_that_touch_the_hottest_one_are_in_its_box() -> None:
    heat = np.full((14, 14), 0.05)
    heat[2:4, 2:5], heat[10, 10] = 0.8, 0.75
    assert worst_place(look(heat, Roi(70.0, 70.0, 140.0, 0.0))) == pytest.approx((20, 20, 50, 40))


def test_a_kind_is_named_only_if_it_takes_half_of_the_probability() -> None:
    heat, roi = np.zeros((14, 14)), Roi(0.0, 0.0, 1.0, 0.0)
    assert Look(0.9, 1.0, {"extra": 0.3, "shape": 0.7}, heat, roi).kind == "shape"
    assert Look(0.9, 1.0, {"extra": 0.3, "shape": 0.3, "bent": 0.4}, heat, roi).kind is None


@given(st.floats(SMALLEST, 1000), st.floats(SMALLEST, 1000))
def test_a_hand_at_the_limit_counts_only_where_it_is_the_longest(pixels: float, longest: float) -> None:
    share = size_share(pixels, longest)
    assert 0 <= share <= 1
    assert size_share(longest, longest) == 1
    assert share == 1 or pixels < longest
    assert size_share(SMALLEST, 2 * SMALLEST) == 0


def test_the_shipped_critic_says_what_it_is() -> None:
    trained, heads = read_heads(file_of("hands"))
    assert len(heads) == trained.heads
    assert set(trained.kinds) | {None} == set(KINDS)
    assert "neither the generator nor the repository was in the training" in trained.trained_on
    assert file_of("hands").stat().st_size < 8e6


def test_heads_come_back_from_their_file_in_half_precision(tmp_path: Path) -> None:
    trained, heads = read_heads(file_of("hands"))
    write_heads(tmp_path / "hands.safetensors", trained, heads)
    again, same = read_heads(tmp_path / "hands.safetensors")
    assert again == trained
    for one, other in zip(heads, same, strict=True):
        for name, tensor in one.state_dict().items():
            assert (tensor == other.state_dict()[name]).all()


@pytest.fixture(scope="module")
def scorer() -> HandsScorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        return load(Options(), "cpu")


@pytest.fixture(scope="module")
def detector() -> HandDetector:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        return HandDetector()


@needs_shared
def test_settings_are_json_and_name_the_weights(scorer: HandsScorer) -> None:
    settings = json.loads(json.dumps(scorer.settings))
    assert "hands.safetensors" in settings["weights"]
    assert settings["critic"]["threshold"] == read_heads(file_of("hands"))[0].threshold


@needs_shared
def test_jpeg_mirror_and_brightness_hardly_matter(scorer: HandsScorer) -> None:
    for start in PHOTOS[:3]:
        image = photo(start)
        value = scorer.score(image, None).value
        assert value is not None
        changes = (jpeg(image, 90), np.ascontiguousarray(image[:, ::-1]), (image * 0.9).astype(np.uint8))
        for changed in changes:
            assert scorer.score(changed, None).value == pytest.approx(value, abs=0.12)


@given(st.tuples(*[st.floats(-300, 300)] * 2), st.tuples(*[st.floats(0, 200)] * 2))
def test_a_place_of_an_error_lies_in_the_image(corner: tuple[float, float], size: tuple[float, float]) -> None:
    x, y = corner
    x1, y1, x2, y2 = within((x, y, x + size[0], y + size[1]), np.zeros((60, 100, 3), np.uint8))
    assert 0 <= x1 < x2 <= 100 and 0 <= y1 < y2 <= 60


@needs_shared
def test_mangled_hands_score_higher_and_the_finding_points_there(scorer: HandsScorer, detector: HandDetector) -> None:
    rises, found = [], []
    for start in PHOTOS:
        image = photo(start)
        roi = detector.see(image)[0].candidate.roi
        before, after = scorer.score(image, None), scorer.score(swirled(image, roi), None)
        assert before.value is not None
        if after.value is not None:
            rises.append(after.value - before.value)
        found += [(finding, roi, image.shape) for finding in after.findings]
    assert len(rises) >= 3
    assert np.median(rises) > 0.2
    assert found
    for finding, roi, (height, width, _) in found:
        assert finding.region == "hands" and finding.box is not None
        x1, y1, x2, y2 = finding.box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert np.hypot((x1 + x2) / 2 - roi.x, (y1 + y2) / 2 - roi.y) < roi.side / 2


@needs_shared
def test_what_is_no_hand_is_not_judged(scorer: HandsScorer) -> None:
    """A face, a coffee cup, a cat and a rocket, from scikit-image."""
    from skimage import data

    for image in (data.astronaut()[:220, 120:330], data.coffee(), data.chelsea(), data.rocket()):
        assert scorer.score(np.ascontiguousarray(image), None).status == "unknown"


@needs_shared
def test_one_look_at_several_squares_is_as_looks_at_each(detector: HandDetector) -> None:
    image = photo(PHOTOS[0])
    critic: Critic = detector.critic
    rois = [detector.see(image)[0].candidate.roi, Roi(60.0, 60.0, 100.0, 0.4)]
    for together, roi in zip(critic.look(image, rois), rois, strict=True):
        (alone,) = critic.look(image, [roi])
        assert together.error == pytest.approx(alone.error, abs=1e-5)
        assert together.heat == pytest.approx(alone.heat, abs=1e-5)
