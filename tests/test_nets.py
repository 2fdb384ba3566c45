"""MediaPipe's nets, run bare: geometry by property, and their answers against MediaPipe's own Tasks API."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st

from hafbench.detectors import nets
from hafbench.detectors.nets import Roi
from hafbench.images import find_images, load_image

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no ../shared/weights and data here")

rois = st.builds(
    Roi,
    st.floats(50, 150),
    st.floats(50, 150),
    st.floats(20, 80),
    st.floats(-math.pi, math.pi),
)


@given(rois)
def test_crop_shows_the_image_where_to_image_says(roi: Roi) -> None:
    y, x = np.mgrid[:200, :200]
    image = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)  # each pixel says where it is
    crop = roi.crop(image, 40) * 255
    centres = (np.mgrid[:40, :40][::-1].reshape(2, -1).T + 0.5) / 40
    expected = roi.to_image(centres) - 0.5
    inside = ((expected > 1) & (expected < 198)).all(1)
    assert inside.any()
    assert np.abs(crop.reshape(-1, 3)[inside, :2] - expected[inside]).max() < 1.1


def test_anchor_counts_are_those_of_the_nets() -> None:
    assert nets.anchors(192, nets.PALM_STRIDES).shape == (2016, 2)
    assert nets.anchors(224, nets.POSE_STRIDES).shape == (2254, 2)


def test_anchors_are_cell_centres() -> None:
    palm = nets.anchors(192, nets.PALM_STRIDES)
    assert palm[0] == pytest.approx([0.5 / 24, 0.5 / 24])
    assert palm[2] == pytest.approx([1.5 / 24, 0.5 / 24])  # two for each cell, x before y
    assert palm[-1] == pytest.approx([11.5 / 12, 11.5 / 12])


@given(st.floats(-math.pi + 0.01, math.pi - 0.01), st.floats(1, 100))
def test_upright_turns_a_direction_up(angle: float, length: float) -> None:
    start = np.array([5.0, 7.0])
    end = start + length * np.array([math.sin(angle), -math.cos(angle)])  # `angle` clockwise from up
    assert nets.upright(start, end) == pytest.approx(angle, abs=1e-6)


@given(st.floats(-3, 3), st.floats(0.5, 4), st.floats(-50, 50), st.floats(-50, 50))
def test_the_square_of_a_hand_moves_with_it(angle: float, scale: float, x: float, y: float) -> None:
    points = np.random.default_rng(3).normal(0, 20, (21, 2)) + np.linspace([0, 60], [0, -60], 21)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    before, after = nets.roi_of_hand(points), nets.roi_of_hand(scale * points @ turn + (x, y))
    assert after.side == pytest.approx(scale * before.side, rel=1e-6)
    assert (after.x, after.y) == pytest.approx(scale * np.array([before.x, before.y]) @ turn + (x, y), abs=1e-4)
    assert math.cos(after.rotation - before.rotation - angle) == pytest.approx(1, abs=1e-6)


def test_weighted_nms_averages_what_overlaps_and_keeps_the_rest() -> None:
    x = np.array([1.0, 0.0, 50.0])
    found = sv.Detections(
        xyxy=np.stack([x, np.zeros(3), x + 10, np.full(3, 10.0)], 1),
        confidence=np.array([0.2, 0.8, 0.5]),
        data={"keypoints": np.stack([x, np.zeros(3)], 1)[:, None]},
    )
    kept = nets.weighted_nms(found, 0.3)
    assert kept.confidence.tolist() == [0.8, 0.5]
    assert kept.xyxy[:, 0] == pytest.approx([0.2, 50])  # (0.8 * 0 + 0.2 * 1) / 1.0
    assert kept.data["keypoints"][:, 0, 0] == pytest.approx([0.2, 50])
    assert len(nets.weighted_nms(sv.Detections.empty(), 0.3)) == 0


@pytest.fixture(scope="module")
def weights() -> Path:
    return SHARED / "weights" / "mediapipe"


def rois_of_palms(palm: nets.Detector, image: np.ndarray) -> list[Roi]:
    palms = palm.detect(image, nets.whole(image), 0.5)
    return [nets.roi_of_palm(box, points) for box, points in zip(palms.xyxy, palms.data["keypoints"], strict=True)]


@pytest.mark.slow
@needs_shared
def test_points_and_handedness_agree_with_mediapipe(weights: Path) -> None:
    """Every other shared photo: where both find a hand, the 21 points differ by a small share of its length."""
    mediapipe = pytest.importorskip("mediapipe", reason="the mediapipe extra is not installed")
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    palm = nets.Detector(nets.Net(weights / "palm_detection_full.tflite"), 192, nets.PALM_STRIDES)
    hand = nets.HandNet(nets.Net(weights / "hand_landmark_full.tflite"))
    options = vision.HandLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=(weights / "hand_landmarker.task").read_bytes()),
        num_hands=4,
        min_hand_presence_confidence=0.1,
    )
    errors, same_side, missed = [], [], 0
    with vision.HandLandmarker.create_from_options(options) as official:
        for path in find_images(SHARED / "data")[::2]:
            image = np.asarray(load_image(path))
            height, width = image.shape[:2]
            answer = official.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            ours = [hand(image, [(roi, False)]) for roi in rois_of_palms(palm, image)]
            for landmarks, side in zip(answer.hand_landmarks, answer.handedness, strict=True):
                theirs = np.array([[point.x * width, point.y * height] for point in landmarks])
                length = np.ptp(theirs, axis=0).max()
                distances = [np.hypot(*(one.xy[0] - theirs).T).mean() / length for one in ours]
                if not distances or min(distances) > 0.2:
                    missed += 1
                    continue
                errors.append(min(distances))
                said = ours[int(np.argmin(distances))].data["handedness"][0] > 0.5
                same_side.append(said == (side[0].category_name == "Right"))
    assert len(errors) >= 20
    assert missed <= 0.15 * len(errors)
    assert np.median(errors) < 0.03
    assert np.mean(same_side) > 0.9


@needs_shared
def test_a_hand_is_present_and_a_wall_is_not(weights: Path) -> None:
    path = next((SHARED / "data" / "hands_real" / "four").glob("15a73593*.jpg"))
    image = np.asarray(load_image(path))
    palm = nets.Detector(nets.Net(weights / "palm_detection_full.tflite"), 192, nets.PALM_STRIDES)
    hand = nets.HandNet(nets.Net(weights / "hand_landmark_lite.tflite"))
    there = rois_of_palms(palm, image)[0]
    plain, mirrored = (hand(image, [(there, flip)]) for flip in (False, True))
    assert plain.detection_confidence[0] > 0.9
    grey = np.full_like(image, 128)
    assert hand(grey, [(there, False)]).detection_confidence[0] < 0.1
    assert len(palm.detect(grey, nets.whole(grey), 0.3)) == 0
    assert np.hypot(*(mirrored.xy - plain.xy)[0].T).mean() < 0.05 * there.side
