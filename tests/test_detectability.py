"""The detectability scorer: the card by property, the scorer on real photos with the real nets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hafbench.detectors.hand_views import hand_boxes, log_bones, mean_logit, summarize
from hafbench.detectors.nets import Roi
from hafbench.errors import HafError
from hafbench.scorers.card import FEATURES, SHIPPED, Card, load_card
from hafbench.scorers.detectability import DetectabilityScorer, Options, load
from hafbench.types import Score
from hand_photos import PHOTOS, SHARED, jpeg, needs_shared, photo

values = st.fixed_dictionaries({name: st.floats(-6, 6) for name in FEATURES})


@given(values, st.sampled_from(list(FEATURES)), st.floats(0, 5))
def test_each_feature_pushes_only_its_own_way(features: dict[str, float], name: str, more: float) -> None:
    card = load_card()
    worse = {**features, name: features[name] + FEATURES[name] * more}
    assert 0 <= card.probability(features) <= card.probability(worse) + 1e-12 <= 1 + 1e-12


def test_probability_is_the_logistic_of_the_card() -> None:
    card = load_card()
    features = {name: feature.mean + 0.7 * feature.scale for name, feature in card.features.items()}
    logit = card.intercept + 0.7 * sum(feature.coefficient for feature in card.features.values())
    assert card.probability(features) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_the_shipped_card_says_what_it_is() -> None:
    card = load_card()
    assert set(card.features) == set(FEATURES)  # neither size nor sharpness
    assert "308" in card.fitted_on
    assert card.n["photos"] > 30
    typical = {name: feature.mean for name, feature in card.features.items()}
    assert card.probability(typical) < card.threshold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.5}, "threshold"),
        ({"surplus": 1}, "surplus"),
        ({"bones": [0.0]}, "bones"),
        ({"features": {"sharpness": {"mean": 0, "scale": 1, "coefficient": 1}}}, "no feature 'sharpness'"),
        ({"features": {"palm": {"mean": 0, "scale": 1, "coefficient": 1}}}, "wrong sign"),
        ({"features": {"palm": {"mean": 0, "scale": 0, "coefficient": -1}}}, "scale"),
    ],
)
def test_a_bad_card_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(json.dumps({**json.loads(SHIPPED.read_text()), **change}))
    with pytest.raises(HafError, match=message):
        load_card(path)


def test_a_card_that_is_not_there_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HafError, match="cannot be read"):
        load_card(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(HafError, match="not a card"):
        load_card(tmp_path / "text.json")


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_bones_know_neither_size_nor_pose_of_the_whole_hand(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    hand = rng.normal(0, 1, (21, 3))
    turned = scale * Rotation.random(rng=rng).apply(hand) + rng.normal(0, 1, 3)
    assert log_bones(turned) == pytest.approx(log_bones(hand), abs=2e-2)


def test_views_that_agree_are_sure_and_views_that_differ_are_not() -> None:
    rng = np.random.default_rng(0)
    points, world = rng.uniform(0, 100, (21, 2)), rng.normal(0, 0.05, (21, 3))

    def views(noise: float) -> sv.KeyPoints:
        ten = np.full(10, 0.9)
        xy = points + rng.normal(0, noise, (10, 21, 2))
        return sv.KeyPoints(xy, detection_confidence=ten, data={"world": np.stack([world] * 10), "handedness": ten})

    same = summarize(views(0), views(0), [0.8], Roi(50, 50, 200, 0))
    shaky = summarize(views(5), views(5), [0.8], Roi(50, 50, 200, 0))
    assert same.data["spread"] == pytest.approx(math.log(0.01))
    assert same.data["presence_full"] == pytest.approx(math.log(0.9 / 0.1))
    assert same.data["palm"] == pytest.approx(math.log(4))
    assert shaky.data["spread"] > same.data["spread"] + 1
    assert shaky.data["disagreement"] > same.data["disagreement"] + 1
    assert (same.keypoint_confidence == 1).all()
    ((x1, y1, x2, y2),) = hand_boxes(same)
    assert (x1, y1) < tuple(points.min(0)) and (x2, y2) > tuple(points.max(0))


def test_no_single_view_decides() -> None:
    assert mean_logit([0.9] * 9 + [0.0]) > mean_logit([0.8] * 10) - 0.1
    assert mean_logit([0.5]) == 0


@pytest.fixture(scope="module")
def scorer() -> DetectabilityScorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        return load(Options(), "cpu")


@pytest.fixture(scope="module")
def strict(scorer: DetectabilityScorer, tmp_path_factory: pytest.TempPathFactory) -> DetectabilityScorer:
    """A scorer by whose card every hand is an error."""
    path = tmp_path_factory.mktemp("card") / "card.json"
    path.write_text(json.dumps({**json.loads(SHIPPED.read_text()), "threshold": 1e-6}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        return load(Options(card=path), "cpu")


@pytest.fixture(scope="module")
def found(strict: DetectabilityScorer) -> dict[str, Score]:
    """What the strict scorer says of each photo."""
    return {start: strict.score(photo(start), None) for start in PHOTOS}


@needs_shared
def test_settings_are_json_and_name_the_weights(scorer: DetectabilityScorer) -> None:
    settings = json.loads(json.dumps(scorer.settings))
    assert len(settings["weights"]) == 6
    assert settings["card"]["threshold"] == load_card().threshold


@needs_shared
def test_jpeg_mirror_and_brightness_hardly_matter(scorer: DetectabilityScorer) -> None:
    for start in PHOTOS[:2]:  # in the third, a mirrored sleeve is taken for a hand
        image = photo(start)
        before = scorer.score(image, None)
        assert before.value is not None
        changes = (jpeg(image, 95), np.ascontiguousarray(image[:, ::-1]), (image * 0.9).astype(np.uint8))
        for changed in changes:
            assert scorer.score(changed, None).is_error == before.is_error


@needs_shared
def test_a_close_crop_is_scored_like_the_picture(scorer: DetectabilityScorer, found: dict[str, Score]) -> None:
    for start in PHOTOS[:3]:
        x1, y1, x2, y2 = (round(v) for v in found[start].findings[0].box or ())
        whole, crop = found[start].value, scorer.score(photo(start)[y1:y2, x1:x2].copy(), None).value
        assert whole is not None
        assert crop == pytest.approx(whole, abs=0.15)


@needs_shared
def test_a_finding_is_localized(found: dict[str, Score]) -> None:
    image, score = photo(PHOTOS[0]), found[PHOTOS[0]]
    assert score.is_error
    (finding,) = score.findings
    assert (finding.region, finding.kind, finding.detail) == ("hands", "configuration", "detectability")
    assert finding.score == score.value
    assert finding.box is not None and finding.keypoints is not None
    x1, y1, x2, y2 = finding.box
    assert 0 <= x1 < x2 <= image.shape[1] and 0 <= y1 < y2 <= image.shape[0]
    assert len(finding.keypoints) == 21
    assert all(x1 <= x <= x2 and y1 <= y <= y2 and 0 < c <= 1 for x, y, c in finding.keypoints)


@needs_shared
def test_mangled_hands_score_higher(scorer: DetectabilityScorer, found: dict[str, Score]) -> None:
    """Each photo's hand is swirled about its middle knuckle."""
    rises = []
    for start in PHOTOS:
        image, before = photo(start), found[start]
        points = np.array(before.findings[0].keypoints)[:, :2]
        reach = 1.0 * np.hypot(*(points[9] - points[0]))
        y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
        dx, dy = x - points[10, 0], y - points[10, 1]
        angle = 1.6 * np.clip(1 - np.hypot(dx, dy) / reach, 0, 1)
        turned = np.cos(angle) * dx - np.sin(angle) * dy, np.sin(angle) * dx + np.cos(angle) * dy
        from_x, from_y = ((c + t).astype(np.float32) for c, t in zip(points[10], turned, strict=True))
        after = scorer.score(cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR), None)
        if after.value is not None and before.value is not None:
            rises.append(after.value - before.value)
    assert len(rises) >= 3
    assert np.median(rises) > 0.2


def test_cards_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Card.__setattr__(load_card(), "threshold", 0.9)
