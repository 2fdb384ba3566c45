"""Detectors: where the people and their joints are. All return supervision's `KeyPoints` or `Detections`.

A body detector returns one row per person with COCO's 17 points in pixels of the image and a confidence for each;
points outside the image have confidence 0. A hand detector returns one row per hand with 21 points.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hafbench.errors import HafError

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv
    from numpy.typing import NDArray

    from hafbench.types import Keypoint, Pixels

COCO_POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)

# Which of MediaPipe's 33 body points are COCO's 17.
COCO_FROM_33 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)


class BodyDetector(Protocol):
    """Finds people and their joints."""

    name: str
    weights: Mapping[str, str]
    """The SHA-256 of each file by its name."""

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People in an RGB image of shape (height, width, 3): xy (n, 17, 2), keypoint_confidence (n, 17)."""
        ...


def load_body_detector(name: str, device: str = "auto") -> BodyDetector:
    """`mediapipe` (bare nets), a .task file for MediaPipe's Tasks API (an extra), or an ultralytics pose file."""
    if name == "mediapipe":
        from hafbench.detectors.bodies import MediapipeBodies

        return MediapipeBodies()
    if Path(name).suffix == ".task":
        from hafbench.detectors.mediapipe_tasks import TaskBodies

        if not Path(name).is_file():
            raise HafError(f"There is no file {name}.")
        return TaskBodies(Path(name))
    from hafbench.detectors.ultralytics import UltralyticsBodies

    return UltralyticsBodies(name, device)


def body_keypoints(xy: Any, confidence: Any, image: Pixels) -> sv.KeyPoints:
    """People's points (n, 17, 2) and confidences (n, 17) as supervision's; what lies outside the image gets 0."""
    import numpy as np
    import supervision as sv

    xy = np.asarray(xy, dtype=np.float32).reshape(-1, 17, 2)
    confidence = np.asarray(confidence, dtype=np.float32).reshape(-1, 17)
    height, width = image.shape[:2]
    inside = ((xy >= 0) & (xy < (width, height))).all(-1)
    return sv.KeyPoints(
        xy=xy, keypoint_confidence=np.where(inside, confidence, 0.0), class_id=np.zeros(len(xy), dtype=np.int64)
    )


def points_of(found: sv.KeyPoints) -> NDArray[np.float64]:
    """All points (n, k, 3): x and y in pixels, and confidence."""
    import numpy as np

    return np.dstack([found.xy, found.keypoint_confidence]).astype(np.float64)


def as_keypoints(points: NDArray[Any]) -> tuple[Keypoint, ...]:
    """The points (k, 3) of one detection as a finding holds them."""
    return tuple((float(x), float(y), float(confidence)) for x, y, confidence in points)
