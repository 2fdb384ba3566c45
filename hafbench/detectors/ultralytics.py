"""Any pose or detect model file of ultralytics, .pt or .onnx.

A .pt file is a pickle: it is read in ultralytics' safe mode, which rebuilds only known classes of torch and
ultralytics, and refuses everything else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.detectors import body_keypoints
from hafbench.errors import HafError, Unavailable, one_line
from hafbench.images import sha256_of

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

SUFFIXES = (".pt", ".onnx")


def import_ultralytics() -> Any:
    """The package, without what it does to others on import.

    Left alone it looks up servers, writes to the home folder, installs packages that it misses, replaces Pillow's
    `Image.open` and OpenCV's `imread` in the whole process, and sets the threads of torch for everybody.
    """
    from hafbench.weights import cache_folder

    settings = cache_folder().parent / "ultralytics"
    try:
        settings.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HafError(
            f"{settings} cannot be made ({error.strerror}): point HAFBENCH_CACHE to a folder that can be written."
        ) from error
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(settings))
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"

    import cv2
    import torch
    from PIL import Image

    threads = os.environ.get("OMP_NUM_THREADS")
    kept = [(Image, "open", Image.open), *((cv2, name, getattr(cv2, name)) for name in ("imread", "imwrite", "imshow"))]
    import ultralytics
    from ultralytics.nn import tasks
    from ultralytics.utils import torch_utils

    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    torch_utils.NUM_THREADS = torch.get_num_threads()
    for module, name, original in kept:
        setattr(module, name, original)
    if not hasattr(tasks, "SAFE_LOAD"):
        raise HafError("This version of ultralytics cannot load model files safely; install one that hafbench allows.")
    tasks.SAFE_LOAD = True  # in case it was imported before us
    return ultralytics


def load_yolo(path: Path) -> Any:
    """A model file as ultralytics' YOLO; raises HafError for a file that is missing, unsafe or no model.

    The file must exist under the very name by which ultralytics will open it, for one that it misses it fetches from
    the web. Raises Unavailable for an .onnx file without the packages that read it.
    """
    if path.suffix not in SUFFIXES:
        raise HafError(f"{path}: give an ultralytics model as {' or '.join(SUFFIXES)}.")
    if not path.is_file():
        raise HafError(f"There is no file {path}.")
    if path.suffix == ".onnx" and not (find_spec("onnx") and find_spec("onnxruntime")):
        raise Unavailable(f"{path} needs packages that are not installed: pip install onnx onnxruntime.")
    ultralytics = import_ultralytics()
    if _renamed(path) != str(path):
        raise HafError(f"{path}: ultralytics would open {_renamed(path)} instead; rename or move the file.")
    try:
        model = ultralytics.YOLO(str(path), verbose=False)
        if path.suffix == ".onnx":  # which is only read when it is first used
            import numpy as np

            model.predict(np.zeros((64, 64, 3), np.uint8), verbose=False)
    except Exception as error:
        reason = one_line(error)
        raise HafError(
            f"{path} cannot be loaded as an ultralytics model ({type(error).__name__}: {reason})."
        ) from error
    return model


def every_class() -> type[Any]:
    """A predictor for pose models that names every class of a box above the threshold, not the likeliest alone."""
    from ultralytics.models.yolo.pose import PosePredictor
    from ultralytics.utils.nms import non_max_suppression

    class EveryClass(PosePredictor):  # type: ignore[misc]
        def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **_: Any) -> Any:
            kept = non_max_suppression(preds, self.args.conf, self.args.iou, multi_label=True, nc=len(self.model.names))
            return self.construct_results(kept, img, orig_imgs)

    return EveryClass


def _renamed(path: Path) -> str:
    """The path that ultralytics makes of a path: without quotes, and with YOLOv5's files under their newer names."""
    from ultralytics.utils.checks import check_yolov5u_filename

    return str(check_yolov5u_filename(str(path).strip().replace("'", ""), verbose=False))


class UltralyticsBoxes:
    """Boxes of any detect or pose model."""

    def __init__(self, path: str, device: str = "auto", threshold: float = 0.25) -> None:
        self.name = Path(path).name
        self.weights: Mapping[str, str] = {}
        self._model = load_yolo(Path(path))
        self.weights = {self.name: sha256_of(Path(path))}
        self._options = {"conf": threshold, "verbose": False, "device": None if device == "auto" else device}

    def predict(self, image: Pixels) -> Any:
        """ultralytics' result for one RGB image."""
        import numpy as np

        return self._model.predict(np.ascontiguousarray(image[..., ::-1]), **self._options)[0]

    def detect(self, image: Pixels) -> sv.Detections:
        """Boxes with confidence and class; `data["class_name"]` has the model's names."""
        import supervision as sv

        return sv.Detections.from_ultralytics(self.predict(image))


class UltralyticsBodies(UltralyticsBoxes):
    """People of a pose model with COCO's 17 points."""

    def __init__(self, path: str, device: str = "auto", threshold: float = 0.25) -> None:
        super().__init__(path, device, threshold)
        if self._model.task != "pose":
            raise HafError(f"{path} is a model for '{self._model.task}', not for 'pose': it gives no joints.")

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with 17 points; raises HafError for a model with other points."""
        import numpy as np

        points = self.predict(image).keypoints
        if points is None or points.xy.shape[0] == 0:
            return body_keypoints(np.zeros((0, 17, 2)), np.zeros((0, 17)), image)
        if points.xy.shape[1] != 17:
            raise HafError(f"{self.name} gives {points.xy.shape[1]} points a person instead of COCO's 17.")
        xy = points.xy.cpu().numpy()
        sure = np.ones(xy.shape[:2]) if points.conf is None else points.conf.cpu().numpy()
        return body_keypoints(xy, sure, image)
