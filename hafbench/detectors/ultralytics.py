"""Any pose or detect model file of ultralytics, .pt or .onnx.

A .pt file is a pickle: it is read in ultralytics' safe mode, which rebuilds only known classes of torch and
ultralytics, and refuses everything else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.detectors import body_keypoints
from hafbench.errors import HafError
from hafbench.images import sha256_of

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

SUFFIXES = (".pt", ".onnx")


def load_yolo(path: Path) -> Any:
    """A model file as ultralytics' YOLO; raises HafError for a file that is missing, unsafe or no model.

    The file must exist, since ultralytics would look for a missing one on the web.
    """
    from hafbench.weights import cache_folder

    if path.suffix not in SUFFIXES:
        raise HafError(f"{path}: give an ultralytics model as {' or '.join(SUFFIXES)}.")
    if not path.is_file():
        raise HafError(f"There is no file {path}.")
    settings = cache_folder().parent / "ultralytics"
    settings.mkdir(parents=True, exist_ok=True)
    # Read on import: no look-ups of servers, settings in our cache, no pickles that run code, no chatter.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(settings))
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    tasks.SAFE_LOAD = True  # in case ultralytics was imported before
    try:
        model = YOLO(str(path))
        _ = model.task
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HafError(
            f"{path} cannot be loaded as an ultralytics model ({type(error).__name__}: {reason})."
        ) from error
    return model


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

    def detect(self, image: Pixels) -> sv.KeyPoints:  # type: ignore[override]
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
