"""Detectors on real photos and with real model files; what they return is supervision's."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from hafbench.detectors import COCO_POINTS, load_body_detector
from hafbench.detectors.bodies import TRUNK, PoseNets
from hafbench.detectors.nets import BodyNet
from hafbench.detectors.ultralytics import UltralyticsBodies, UltralyticsBoxes, import_ultralytics, load_yolo
from hafbench.errors import HafError
from hafbench.images import load_image

BUS = "bus.jpg"


def photo(name: str) -> np.ndarray:
    return np.asarray(load_image(import_ultralytics().ASSETS / name))


@pytest.fixture(scope="module")
def pose_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pose model from the packaged yaml with random weights, as .pt and exported to .onnx."""
    import torch

    YOLO = import_ultralytics().YOLO  # noqa: N806
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("yolo")
    model = YOLO("yolo11n-pose.yaml", verbose=False)
    # Without a statistic of real activations the net's answer would be the same for every image.
    norms = [part for part in model.model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    pixels = torch.from_numpy(square(photo(BUS)).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        model.model.train()(torch.cat([pixels, pixels.flip(-1)]))
    model.model.eval()
    model.save(folder / "pose.pt")
    exported = YOLO(folder / "pose.pt", verbose=False).export(format="onnx", imgsz=640, verbose=False)
    return folder / "pose.pt", Path(exported)


def square(image: np.ndarray) -> np.ndarray:
    """A part of the image that no model has to resize or pad."""
    return image[300:940, :640]


def test_a_pose_model_gives_coco_points_inside_the_image(pose_files: tuple[Path, Path]) -> None:
    image = photo(BUS)
    detector = UltralyticsBodies(str(pose_files[0]), "cpu", threshold=0.0)
    points = detector.detect(image)
    assert list(detector.weights) == ["pose.pt"]
    assert len(points.xy) > 0
    assert points.xy.shape[1:] == (len(COCO_POINTS), 2)
    assert points.keypoint_confidence.shape == points.xy.shape[:2]
    outside = (points.xy < 0).any(-1) | (points.xy >= (image.shape[1], image.shape[0])).any(-1)
    assert (points.keypoint_confidence[outside] == 0).all()
    again = detector.detect(image)
    assert np.array_equal(points.xy, again.xy)
    assert np.array_equal(points.keypoint_confidence, again.keypoint_confidence)


def test_onnx_agrees_with_pt_and_both_with_ultralytics_own_reading_of_the_file(
    pose_files: tuple[Path, Path], tmp_path: Path
) -> None:
    from PIL import Image

    image = square(photo(BUS))
    Image.fromarray(image).save(tmp_path / "image.png")
    own = import_ultralytics().YOLO(pose_files[0], verbose=False)
    expected = own.predict(tmp_path / "image.png", conf=0.0, device="cpu", verbose=False)[0].keypoints.xy.numpy()
    assert len(expected) > 0
    for path in pose_files:
        detector = UltralyticsBodies(str(path), "cpu", threshold=0.0)
        points = detector.detect(image).xy
        assert points.shape == expected.shape
        assert np.abs(points[:20] - expected[:20]).max() < 0.5
        assert np.abs(detector.detect(image[..., ::-1]).xy[:20] - expected[:20]).max() > 0.5


def test_a_detect_model_gives_boxes_inside_the_image(tmp_path: Path) -> None:
    import_ultralytics().YOLO("yolo11n.yaml", verbose=False).save(tmp_path / "detect.pt")
    image = photo(BUS)
    boxes = UltralyticsBoxes(str(tmp_path / "detect.pt"), "cpu", threshold=0.0).detect(image)
    assert len(boxes) > 0
    assert (boxes.xyxy >= 0).all()
    assert (boxes.xyxy[:, [2, 3]] <= (image.shape[1], image.shape[0])).all()
    with pytest.raises(HafError, match="is a model for 'detect', not for 'pose'"):
        UltralyticsBodies(str(tmp_path / "detect.pt"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.pt", "There is no file"),
        ("model.pth", r"\.pt or \.onnx"),
        ("broken.onnx", "cannot be loaded"),
        ("pose.task", "There is no file"),
    ],
)
def test_files_that_are_no_models_are_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    with pytest.raises(HafError, match=words):
        load_body_detector(str(tmp_path / name))


def test_a_missing_official_name_is_not_fetched_from_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HafError, match=r"There is no file yolo11n-pose\.pt"):
        load_yolo(Path("yolo11n-pose.pt"))


@pytest.mark.parametrize("name", ["o'neil.pt", "yolov5n.pt"])
def test_a_file_that_ultralytics_would_take_for_another_is_refused(
    tmp_path: Path, pose_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    copy(pose_files[0], tmp_path / name)
    monkeypatch.chdir(tmp_path)  # the renaming looks at the whole path
    with pytest.raises(HafError, match=r"ultralytics would open .* instead"):
        load_yolo(Path(name))


def test_ultralytics_asks_nothing_of_the_network_and_leaves_the_threads_of_torch_alone(
    pose_files: tuple[Path, Path],
) -> None:
    program = f"""
import os, sys
asked = []
sys.addaudithook(lambda event, _: asked.append(event) if event.startswith("socket.") else None)
from hafbench.detectors.ultralytics import UltralyticsBodies, import_ultralytics
import_ultralytics()
import numpy as np, torch
torch.set_num_threads(2)
import_ultralytics()
for path in {[str(path) for path in pose_files]}:
    UltralyticsBodies(path, "cpu").detect(np.zeros((64, 64, 3), np.uint8))
outgoing = {{"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}}
print(outgoing & set(asked), torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["set() 2 None"], done.stderr


def test_importing_ultralytics_leaves_pillow_and_opencv_as_they_were() -> None:
    import cv2
    from PIL import Image

    before = Image.open, cv2.imread
    import_ultralytics()
    assert (Image.open, cv2.imread) == before
    assert Image.open.__module__ == "PIL.Image"


def needs_weights(*names: str) -> pytest.MarkDecorator:
    from hafbench import weights

    missing = [name for name in names if weights.find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"run `hafbench weights pull {' '.join(missing)}` first")


POSE_NETS = ("pose_detection.tflite", "pose_landmark_full.tflite")


@needs_weights(*POSE_NETS)
def test_the_default_detector_finds_a_standing_man_where_he_stands() -> None:
    points = load_body_detector("mediapipe").detect(photo(BUS))
    assert len(points.xy) >= 1
    place = dict(zip(COCO_POINTS, points.xy[0], strict=True))
    assert place["left_shoulder"][1] < place["left_hip"][1] < place["left_knee"][1] < place["left_ankle"][1]


@needs_weights(*POSE_NETS)
def test_no_people_are_no_rows() -> None:
    points = load_body_detector("mediapipe").detect(np.full((300, 200, 3), 128, np.uint8))
    assert points.xy.shape == (0, 17, 2)


HANDS = Path(__file__).parents[2] / "shared" / "data" / "hands_photos" / "images"


@needs_weights(*POSE_NETS)
@pytest.mark.skipif(not HANDS.is_dir(), reason="no ../shared/data here")
@pytest.mark.parametrize("name", ["3_pic00002_0.jpg", "5_pic00075_0.jpg", "Hand_0009341_0.jpg"])
def test_a_hand_near_the_camera_is_no_person(name: str) -> None:
    """The nets put a body with a whole trunk on each of these hands, which a second look does not find again."""
    image = np.asarray(load_image(HANDS / name))
    nets = PoseNets()
    assert (nets.detect(image).keypoint_confidence[:, TRUNK] >= 0.5).all(-1).any()
    assert not len(nets.detect_again(image))


@needs_weights(*POSE_NETS)
def test_people_are_found_again_whichever_way_round() -> None:
    image, nets = photo(BUS), PoseNets()
    found, kept = nets.detect(image), nets.detect_again(image)
    assert np.array_equal(kept.xy, found.xy)
    assert len(kept)
    mirrored = nets.detect_again(np.ascontiguousarray(image[:, ::-1]))
    apart = mirrored.xy[0][list(BodyNet.MIRRORED)] * (-1, 1) + (image.shape[1], 0) - kept.xy[0]
    assert np.median(np.hypot(*apart[TRUNK].T)) < 0.05 * max(image.shape[:2])
