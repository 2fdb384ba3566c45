"""Bodies by MediaPipe's person detector and pose net, run bare in LiteRT: the default, which needs no extra."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hafbench.detectors import COCO_FROM_33, body_keypoints, nets
from hafbench.weights import WEIGHTS, locate

if TYPE_CHECKING:
    import supervision as sv

    from hafbench.types import Pixels

FILES = ("pose_detection.tflite", "pose_landmark_full.tflite")
MIN_PRESENCE = 0.5
MOST_MOVED = 0.03
"""How far a trunk may move between two looks at it, as a share of the square's side."""
TRUNK = [11, 12, 23, 24]
"""Shoulders and hips among the 33 points."""


class PoseNets:
    """People with MediaPipe's 33 points: the detector finds them in the whole image, the pose net looks at each."""

    def __init__(self) -> None:
        person, body = (nets.Net(locate(file)) for file in FILES)
        self._person, self._body = nets.Detector(person, 224, nets.POSE_STRIDES), nets.BodyNet(body)

    def detect(self, image: Pixels, threshold: float = 0.5) -> sv.KeyPoints:
        """xy (n, 33, 2), visibility (n, 33) as `keypoint_confidence`; `threshold` is on the detector's confidence."""
        people = self._person.detect(image, nets.whole(image), threshold)
        bodies = self._body(image, [nets.roi_of_person(points) for points in people.data["keypoints"]])
        return bodies[bodies.detection_confidence >= MIN_PRESENCE]

    def detect_again(self, image: Pixels) -> sv.KeyPoints:
        """As `detect`, without skeletons that do not lie on a person, such as on a hand near the camera.

        The net looks at each twice more, at the square that its own points give, as it is and mirrored. On a person it
        finds the same trunk again; what does not show one gives it another body each time. docs/studies/scorers.md says
        how many are told apart.
        """
        bodies = self.detect(image)
        squares = [nets.roi_of_person(points) for points in bodies.data.get("person", ())]
        looks = [bodies, self._body(image, squares), self._body(image, squares, mirrored=True)]
        sides = np.array([[max(square.side, 1.0)] for square in squares]).reshape(-1, 1)
        present = np.all([look.detection_confidence >= MIN_PRESENCE for look in looks], axis=0)
        moved = [
            np.median(np.linalg.norm(one.xy[:, TRUNK] - other.xy[:, TRUNK], axis=-1) / sides, axis=-1)
            for one, other in pairwise(looks)
        ]
        return bodies[present & (np.max(moved, axis=0) < MOST_MOVED)]


class MediapipeBodies:
    """People with COCO's 17 of MediaPipe's 33 points."""

    name = "mediapipe"

    def __init__(self) -> None:
        self.weights: Mapping[str, str] = {file: WEIGHTS[file].sha256 for file in FILES}
        self._nets = PoseNets()

    def detect(self, image: Pixels) -> sv.KeyPoints:
        """People with COCO's 17 points."""
        bodies, coco = self._nets.detect_again(image), list(COCO_FROM_33)
        return body_keypoints(bodies.xy[:, coco], bodies.keypoint_confidence[:, coco], image)
