"""Hands and bodies by the MediaPipe Tasks API (the extra `mediapipe`).

The Tasks API gives points and handedness, but neither the palm detector's score nor the presence of a hand, which is
why the `hands` scorer runs the nets bare. Its handedness label is that of the hand as the image shows it (a right hand
is "Right"); the legacy API of mediapipe 0.10 assumed a mirrored image and gave the opposite.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.detectors import COCO_FROM_33, body_keypoints
from hafbench.errors import HafError, Unavailable
from hafbench.images import sha256_of
from hafbench.weights import hand_task

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels


class TaskHands:
    """Hands in a whole image, with 21 points each."""

    name = "mediapipe-tasks"

    def __init__(self, path: Path | None = None, threshold: float = 0.5, most: int = 10) -> None:
        path = path or hand_task()
        self.weights: Mapping[str, str] = {path.name: sha256_of(path)}
        self._task = _task("HandLandmarker", path, num_hands=most, min_hand_detection_confidence=threshold)

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """Hands in an RGB image: xy (n, 21, 2) in pixels; `data["handedness"]` Left or Right, with its score."""
        import numpy as np
        import supervision as sv

        result = self._task.detect(_mediapipe_image(image))
        scale = np.array([image.shape[1], image.shape[0]])
        xy = np.array([[[p.x, p.y] for p in hand] for hand in result.hand_landmarks], dtype=np.float32).reshape(
            -1, 21, 2
        )
        labels = [hand[0] for hand in result.handedness]
        return sv.KeyPoints(
            xy=(xy * scale).astype(np.float32),
            class_id=np.zeros(len(xy), dtype=np.int64),
            data={
                "handedness": np.array([label.category_name for label in labels]),
                "handedness_score": np.array([label.score for label in labels], dtype=np.float32),
            },
        )


class TaskBodies:
    """People in a whole image, with COCO's 17 of MediaPipe's 33 points.

    Needs a pose_landmarker.task file as MediaPipe publishes it: the nets of the older wheels, which `weights.py` knows,
    lack the metadata that the Tasks API asks of it.
    """

    name = "mediapipe-tasks"

    def __init__(self, path: Path, threshold: float = 0.5, most: int = 10) -> None:
        self.weights: Mapping[str, str] = {path.name: sha256_of(path)}
        self._task = _task("PoseLandmarker", path, num_poses=most, min_pose_detection_confidence=threshold)

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with COCO's 17 points; the confidence is the lower of visibility and presence."""
        import numpy as np

        people: Sequence[Any] = self._task.detect(_mediapipe_image(image)).pose_landmarks
        scale = np.array([image.shape[1], image.shape[0]])
        points = np.array([[[person[k].x, person[k].y] for k in COCO_FROM_33] for person in people])
        sure = np.array([[min(person[k].visibility, person[k].presence) for k in COCO_FROM_33] for person in people])
        return body_keypoints(points.reshape(-1, 17, 2) * scale, sure, image)


def _task(kind: str, path: Path, **options: Any) -> Any:
    try:
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise Unavailable("The MediaPipe Tasks API is not installed: pip install 'hafbench[mediapipe]'.") from error
    given = getattr(vision, f"{kind}Options")(base_options=BaseOptions(model_asset_path=str(path)), **options)
    try:
        task = getattr(vision, kind).create_from_options(given)
    except (OSError, RuntimeError, ValueError) as error:
        raise HafError(f"{path}: MediaPipe cannot load this task file ({error}).") from error
    # Closing a task needs threads, which are gone when the interpreter ends: its finalizer would print a traceback.
    atexit.register(setattr, task, "_handle", None)
    return task


def _mediapipe_image(image: Pixels) -> Any:
    import mediapipe
    import numpy as np

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
