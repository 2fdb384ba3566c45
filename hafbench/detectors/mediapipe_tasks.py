"""Bodies by the MediaPipe Tasks API (the extra `mediapipe`)."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.detectors import COCO_FROM_33, body_keypoints
from hafbench.errors import HafError, Unavailable
from hafbench.images import sha256_of

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels


class TaskBodies:
    """People in a whole image, with COCO's 17 of MediaPipe's 33 points.

    Needs a pose_landmarker.task file as MediaPipe publishes it: the nets of the older wheels, which `weights.py` knows,
    lack the metadata that the Tasks API asks of it.
    """

    name = "mediapipe-tasks"

    def __init__(self, path: Path, threshold: float = 0.5, most: int = 10) -> None:
        self.weights: Mapping[str, str] = {path.name: sha256_of(path)}
        self._task = _pose_landmarker(path, num_poses=most, min_pose_detection_confidence=threshold)

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with COCO's 17 points; the confidence is the lower of visibility and presence."""
        import numpy as np

        people: Sequence[Any] = self._task.detect(_mediapipe_image(image)).pose_landmarks
        scale = np.array([image.shape[1], image.shape[0]])
        points = np.array([[[person[k].x, person[k].y] for k in COCO_FROM_33] for person in people])
        sure = np.array([[min(person[k].visibility, person[k].presence) for k in COCO_FROM_33] for person in people])
        return body_keypoints(points.reshape(-1, 17, 2) * scale, sure, image)


def _pose_landmarker(path: Path, **options: Any) -> Any:
    try:
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise Unavailable("The MediaPipe Tasks API is not installed: pip install mediapipe.") from error
    given = vision.PoseLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(path)), **options)
    try:
        task = vision.PoseLandmarker.create_from_options(given)
    except (OSError, RuntimeError, ValueError) as error:
        raise HafError(f"{path}: MediaPipe cannot load this task file ({error}).") from error
    # Closing a task needs threads, which are gone when the interpreter ends: its finalizer would print a traceback.
    atexit.register(setattr, task, "_handle", None)
    return task


def _mediapipe_image(image: Pixels) -> Any:
    import mediapipe
    import numpy as np

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
